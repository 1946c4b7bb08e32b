"""Whose requests are answered: those of this program's own page, under a name that the program is known by.

A page of another site that the user visits can send requests to 127.0.0.1 (cross-site requests), and can let its own
host name point there (DNS rebinding). The first is told by ``Origin`` and ``Sec-Fetch-Site``, the second by ``Host``.
Headers of proxies (``X-Forwarded-Host`` and the like) are never looked at: anyone can send them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from iccld.errors import InputError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]

_NAMES = ("127.0.0.1", "localhost", "[::1]")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(\.[a-z0-9_-]+)*)(:[0-9]{1,5})?")
_WEB_PORT = 80  # browsers leave it out
_HEADERS = (
    # The page needs its own script and style, pictures and videos of its own, and nothing else.
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        b"connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """ASGI middleware around the whole application, for HTTP and websockets alike.

    Answered are requests whose only ``Host`` header is, with the port that is listened on, ``127.0.0.1``,
    ``localhost``, ``[::1]`` or the address that the connection came in on, or else one of ``allowed``; and which carry
    no ``Origin``, or that of the same host. Everything else gets 403 and reaches nothing behind this class.

    Args:
        inner: the application.
        port: that is listened on.
        allowed: further hosts, see ``parse_hosts``.
    """

    def __init__(self, inner: AsgiApp, *, port: int, allowed: Iterable[str] = ()) -> None:
        self._inner, self._port = inner, port
        self._allowed = frozenset(allowed) | {written for name in _NAMES for written in self._write(name)}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one connection."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        reason = self._refusal(scope)
        if scope["type"] == "websocket":
            # The page uses none: a close before acceptance is answered with 403.
            await send({"type": "websocket.close", "code": 1008, "reason": reason or "no websockets here"})
            return
        if reason:
            await _forbid(send, reason)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await self._inner(scope, receive, send_with_headers)

    def _refusal(self, scope: Message) -> str:
        """Why a request is not answered; empty if it is."""
        hosts, origins, sites = (_values(scope, name) for name in (b"host", b"origin", b"sec-fetch-site"))
        host = hosts[0].lower() if len(hosts) == 1 else ""
        if host not in self._allowed and host not in self._write(_own_address(scope)):
            return f"This name is not answered. Open http://127.0.0.1:{self._port}, or start the app with --allow-host."
        if origins and (len(origins) > 1 or origins[0].lower() not in (f"http://{host}", f"https://{host}")):
            return "Requests from other sites are not answered."
        # A link from elsewhere may open the page; it may not be framed, embedded or fetched.
        opened = scope.get("method") == "GET" and _values(scope, b"sec-fetch-dest") == ["document"]
        if any(site not in ("same-origin", "none") for site in sites) and not opened:
            return "Requests from other sites are not answered."
        return ""

    def _write(self, name: str) -> tuple[str, ...]:
        """How browsers write a host that listens on this port."""
        with_port = f"{name}:{self._port}"
        return (with_port, name) if self._port == _WEB_PORT else (with_port,)


def parse_hosts(hosts: Iterable[str], port: int) -> tuple[str, ...]:
    """Checks the names of hosts under which the page is reached too.

    Args:
        hosts: ``NAME`` (with the port that is listened on, and without any, as behind a proxy), or ``NAME:PORT``.
        port: that is listened on.

    Raises:
        InputError: one is no name or address of a host; wildcards are none.
    """
    found: list[str] = []
    for host in hosts:
        match = _HOST.fullmatch(host.lower())
        if match is None:
            raise InputError(
                f"allow-host is {host!r}; give a name or address, as seg.example.org or 192.168.1.5:7860"
            )
        found += [host.lower()] if match[3] else [host.lower(), f"{host.lower()}:{port}"]
    return tuple(found)


def _own_address(scope: Message) -> str:
    """The address of this machine that a connection came in on."""
    address = str((scope.get("server") or ("",))[0]).lower()
    return f"[{address}]" if ":" in address else address


def _values(scope: Message, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


async def _forbid(send: Send, reason: str) -> None:
    body = f"{reason}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *_HEADERS,
    ]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
