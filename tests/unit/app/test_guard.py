"""Hosts, origins and sites, by raw requests to a server that listens."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from iccld.app.guard import Guard, parse_hosts
from iccld.errors import InputError

PORT = 7860
OWN = f"127.0.0.1:{PORT}"


def _status(
    headers: list[tuple[str, str]],
    *,
    method: str = "GET",
    port: int = PORT,
    server: str = "127.0.0.1",
    allowed: tuple[str, ...] = (),
) -> int:
    """What a request with these headers is answered with; 200 if it reached the application."""
    sent: list[dict[str, Any]] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inside"})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {
        "type": "http",
        "method": method,
        "path": "/",
        "server": (server, port),
        "headers": [(k.lower().encode(), v.encode()) for k, v in headers],
    }
    asyncio.run(Guard(inner, port=port, allowed=allowed)(scope, receive, send))
    assert b"inside" not in b"".join(m.get("body", b"") for m in sent) or sent[0]["status"] == 200
    return int(sent[0]["status"])


@pytest.mark.parametrize("host", [OWN, f"localhost:{PORT}", f"LocalHost:{PORT}", f"[::1]:{PORT}"])
def test_own_names_are_answered(host: str) -> None:
    assert _status([("Host", host)]) == 200


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [""],
        ["evil.example"],
        [f"evil.example:{PORT}"],
        [f"127.0.0.1.evil.example:{PORT}"],
        ["127.0.0.1"],
        ["127.0.0.1:80"],
        [f"127.0.0.1.:{PORT}"],
        [f"localhost.:{PORT}"],
        [f"user@127.0.0.1:{PORT}"],
        [f"0.0.0.0:{PORT}"],
        [f"2130706433:{PORT}"],
        [f"127.1:{PORT}"],
        [f"127.0.0.2:{PORT}"],
        [f"[::ffff:127.0.0.1]:{PORT}"],
        [f"{OWN}, evil.example"],
        [f" {OWN}"],
        [OWN, "evil.example"],
        [OWN, OWN],
    ],
)
def test_other_names_are_not(hosts: list[str]) -> None:
    for method in ("GET", "HEAD", "POST", "OPTIONS", "PUT"):
        assert _status([("Host", host) for host in hosts], method=method) == 403


@pytest.mark.parametrize(
    "origin",
    ["null", "http://evil.example", "", "*", "file://", f"http://{OWN}.evil.example", "http://127.0.0.1:8000"]
    + [f"http://localhost:{PORT}", f"ftp://{OWN}", f"http://{OWN}/", f"http://user@{OWN}"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE", "anything"])
def test_other_origins_are_refused_on_every_method(origin: str, method: str) -> None:
    assert _status([("Host", OWN), ("Origin", origin)], method=method) == 403


def test_own_origin() -> None:
    assert _status([("Host", OWN), ("Origin", f"http://{OWN}")], method="POST") == 200
    assert _status([("Host", OWN), ("Origin", f"http://{OWN}"), ("Origin", "null")], method="POST") == 403


@pytest.mark.parametrize(
    "name", ["X-Forwarded-Host", "X-Forwarded-For", "Forwarded", "X-Original-Host", "X-Host"]
)
def test_headers_of_proxies_are_ignored(name: str) -> None:
    assert _status([("Host", "evil.example"), (name, OWN)]) == 403
    assert _status([("Host", OWN), (name, "evil.example")]) == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_can_link_and_nothing_else(site: str) -> None:
    told = [("Host", OWN), ("Sec-Fetch-Site", site)]
    assert _status([*told, ("Sec-Fetch-Dest", "document")]) == 200
    for dest in ("image", "iframe", "script", "empty", "video", "object"):
        assert _status([*told, ("Sec-Fetch-Dest", dest)]) == 403
    assert _status(told) == 403
    assert _status([*told, ("Sec-Fetch-Dest", "document")], method="POST") == 403


def test_the_address_that_a_connection_came_in_on() -> None:
    """Listening on 0.0.0.0, the page is reached by any address of the machine, by no name."""
    assert _status([("Host", f"192.168.1.5:{PORT}")], server="192.168.1.5") == 200
    assert _status([("Host", f"192.168.1.6:{PORT}")], server="192.168.1.5") == 403
    assert _status([("Host", f"[fe80::5]:{PORT}")], server="fe80::5") == 200
    assert _status([("Host", f"laptop.local:{PORT}")], server="192.168.1.5") == 403


def test_hosts_by_flag() -> None:
    allowed = parse_hosts(["Seg.example.org", "10.0.0.7:9000"], PORT)
    for host in ("seg.example.org", f"seg.example.org:{PORT}", "10.0.0.7:9000", OWN):
        assert _status([("Host", host), ("Origin", f"https://{host}")], allowed=allowed) == 200
    for host in ("seg.example.org:81", "a.seg.example.org", "10.0.0.7", f"10.0.0.7:{PORT}"):
        assert _status([("Host", host)], allowed=allowed) == 403
    assert _status([("Host", "seg.example.org"), ("Origin", "https://evil.example")], allowed=allowed) == 403
    for bad in ("*", "*.example.org", "http://seg.example.org", "", "a b", "seg.example.org.", "x:y"):
        with pytest.raises(InputError, match="give a name or address"):
            parse_hosts([bad], PORT)


def test_the_port_of_the_web_may_be_left_out() -> None:
    assert _status([("Host", "localhost")], port=80) == 200
    assert _status([("Host", "localhost"), ("Origin", "http://localhost")], port=80) == 200


def _raw(port: int, request: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode())
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_over_the_wire(serve: Callable[..., Any]) -> None:
    with serve() as served:
        port = served.client.port
        own = f"127.0.0.1:{port}"
        upgrade = "Upgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Key: x\nSec-WebSocket-Version: 13\n"
        for request, status in (
            (f"GET / HTTP/1.1\nHost: {own}\n\n", b"200"),
            ("GET / HTTP/1.0\n\n", b"403"),
            ("GET / HTTP/1.1\n\n", b"400"),
            (f"GET / HTTP/1.1\nHost: evil.example:{port}\n\n", b"403"),
            (f"GET http://{own}/ HTTP/1.1\nHost: evil.example\n\n", b"403"),
            (
                f"POST /sessions HTTP/1.1\nHost: {own}\nOrigin: http://evil.example\nContent-Length: 0\n\n",
                b"403",
            ),
            (f"POST /sessions HTTP/1.1\nHost: {own}\nOrigin: null\nContent-Length: 0\n\n", b"403"),
            (f"GET / HTTP/1.1\nHost: {own}\nOrigin: http://evil.example\n{upgrade}\n", b"403"),
            (f"GET /queue HTTP/1.1\nHost: {own}\n{upgrade}\n", b"404"),
        ):
            answer = _raw(port, request)
            assert answer.split(b" ")[1] == status, (request, answer)
            assert b"access-control" not in answer.lower()
        assert len(served.service.sessions) == 0, "none of these opened a session"
