"""Whose requests are answered: those of this program's own page, under a name that the program is known by.

A page of another site that the user visits can send requests to 127.0.0.1 (cross-site requests), and can let its own
host name point there (DNS rebinding). The first is told by ``Origin`` and ``Sec-Fetch-Site``, the second by ``Host``.
Headers of proxies (``X-Forwarded-Host`` and the like) are never looked at: anyone can send them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from iccld.errors import InputError

_NAMES = ("127.0.0.1", "localhost", "[::1]")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(\.[a-z0-9_-]+)*)(:[0-9]{1,5})?")
_WEB_PORT = 80  # browsers leave it out
_HEADERS = {
    # The page needs its own script and style, pictures and videos of its own, and nothing else.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware around the whole application.

    Answered are requests whose only ``Host`` header is, with the port that is listened on, ``127.0.0.1``,
    ``localhost``, ``[::1]`` or the address that the connection came in on, or else one of ``allowed``; and which carry
    no ``Origin``, or that of the same host. Everything else gets 403 and reaches nothing behind this class.
    ``allowed`` are further hosts, see ``parse_hosts``.
    """

    def __init__(self, inner: ASGIApp, *, port: int, allowed: Iterable[str] = ()) -> None:
        self._inner, self._port = inner, port
        self._allowed = frozenset(allowed) | {written for name in _NAMES for written in self._write(name)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one connection."""
        if scope["type"] != "http":  # the server opens no websockets
            await self._inner(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        reason = self._refusal(scope)
        refusal = PlainTextResponse(f"{reason}\n", 403, {"connection": "close"})
        answer: ASGIApp = refusal if reason else self._inner
        await answer(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> str:
        """Why a request is not answered; empty if it is."""
        headers = Headers(scope=scope)
        hosts, origins, sites = map(headers.getlist, ("host", "origin", "sec-fetch-site"))
        host = hosts[0].lower() if len(hosts) == 1 else ""
        # The address of this machine that the connection came in on.
        address = str((scope.get("server") or ("",))[0]).lower()
        own = self._write(f"[{address}]" if ":" in address else address)
        if host not in self._allowed and host not in own:
            return f"This name is not answered. Open http://127.0.0.1:{self._port}, or start the app with --allow-host."
        if origins and (len(origins) > 1 or origins[0].lower() not in (f"http://{host}", f"https://{host}")):
            return "Requests from other sites are not answered."
        # A link from elsewhere may open the page; it may not be framed, embedded or fetched.
        opened = scope.get("method") == "GET" and headers.getlist("sec-fetch-dest") == ["document"]
        if any(site not in ("same-origin", "none") for site in sites) and not opened:
            return "Requests from other sites are not answered."
        return ""

    def _write(self, name: str) -> tuple[str, ...]:
        """How browsers write a host that listens on this port."""
        with_port = f"{name}:{self._port}"
        return (with_port, name) if self._port == _WEB_PORT else (with_port,)


def parse_hosts(hosts: Iterable[str], port: int) -> tuple[str, ...]:
    """Checks further names of hosts: ``NAME:PORT``, or ``NAME`` with the port listened on and, for proxies, without.

    ``InputError`` if one is no name or address of a host; wildcards are none.
    """
    found: list[str] = []
    for host in map(str.lower, hosts):
        match = _HOST.fullmatch(host)
        if match is None:
            example = "seg.example.org or 192.168.1.5:7860"
            raise InputError(f"allow-host is {host!r}; give a name or address, as {example}")
        found += [host] if match[3] else [host, f"{host}:{port}"]
    return tuple(found)
