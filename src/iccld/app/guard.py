"""Request filter of the app: refuses requests from pages of other sites and requests to other host names.

A page of another site in the user's browser can send requests to 127.0.0.1 (cross-site requests). The other site can
also make its own host name resolve to 127.0.0.1 (DNS rebinding). The headers ``Origin`` and ``Sec-Fetch-Site`` reveal
cross-site requests. The header ``Host`` reveals DNS rebinding. Proxy headers such as ``X-Forwarded-Host`` are ignored,
because every client can send such headers.
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
_WEB_PORT = 80  # default port of HTTP; browsers omit it from ``Host``
_HEADERS = {
    # The page may load only content of this server and images from data URIs.
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
    """ASGI middleware that wraps the whole application and refuses requests from other sites.

    A request must have exactly one ``Host`` header with an allowed host. The hosts in ``allowed`` are allowed (see
    ``parse_hosts``). Also allowed are ``127.0.0.1``, ``localhost``, ``[::1]`` and the local IP address of the
    connection, each with the server's port. The host in an ``Origin`` header must equal the host in the ``Host``
    header. If ``Sec-Fetch-Site`` shows that the request comes from another site, only a top-level navigation (a link
    that opens the page) is allowed. Requests that violate a rule get status 403 and do not reach the application.
    """

    def __init__(self, inner: ASGIApp, *, port: int, allowed: Iterable[str] = ()) -> None:
        self._inner, self._port = inner, port
        self._allowed = frozenset(allowed) | {written for name in _NAMES for written in self._write(name)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request to the application or responds with status 403. Adds security headers to the response."""
        if scope["type"] != "http":  # startup and shutdown events need no check; the server has no websockets
            await self._inner(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        reason = self._refusal(scope)
        answer: ASGIApp = self._inner
        if reason:
            answer = PlainTextResponse(f"{reason}\n", 403, {"connection": "close"})
        await answer(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> str:
        """Returns the reason why a request is refused, or an empty string if the request is allowed."""
        headers = Headers(scope=scope)
        hosts, origins, sites = map(headers.getlist, ("host", "origin", "sec-fetch-site"))
        host = hosts[0].lower() if len(hosts) == 1 else ""
        address = str((scope.get("server") or ("",))[0]).lower()  # the local IP address of the connection
        own = self._write(f"[{address}]" if ":" in address else address)
        if host not in self._allowed and host not in own:
            return f"This name is not answered. Open http://127.0.0.1:{self._port}, or start the app with --allow-host."
        if origins and (len(origins) > 1 or origins[0].lower() not in (f"http://{host}", f"https://{host}")):
            return "Requests from other sites are not answered."
        # Links on other sites are allowed to open the page. Framing, embedding and fetching are refused.
        opened = scope.get("method") == "GET" and headers.getlist("sec-fetch-dest") == ["document"]
        if any(site not in ("same-origin", "none") for site in sites) and not opened:
            return "Requests from other sites are not answered."
        return ""

    def _write(self, name: str) -> tuple[str, ...]:
        """Returns the ``Host`` header values that browsers send for a host and the server's port."""
        with_port = f"{name}:{self._port}"
        return (with_port, name) if self._port == _WEB_PORT else (with_port,)


def parse_hosts(hosts: Iterable[str], port: int) -> tuple[str, ...]:
    """Checks the hosts that are given with ``--allow-host``, and returns the accepted values of the ``Host`` header.

    For ``NAME:PORT``, only this value is accepted. For ``NAME``, the name is accepted with the server's port and also
    without a port, because requests through a proxy can lack the port. Raises ``InputError`` if a host is neither a
    host name nor an IP address. Wildcards are not supported.
    """
    found: list[str] = []
    for host in map(str.lower, hosts):
        match = _HOST.fullmatch(host)
        if match is None:
            example = "seg.example.org or 192.168.1.5:7860"
            raise InputError(f"allow-host is {host!r}; give a name or address, as {example}")
        found += [host] if match[3] else [host, f"{host}:{port}"]
    return tuple(found)
