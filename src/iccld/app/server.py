"""Serving the page: one port, no word to any other machine, and nothing left behind."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iccld.errors import InputError, how_to_install
from iccld.exits import run_guarded

SERVER_SETTINGS: dict[str, Any] = {
    # The implementations in pure Python: the same on every machine, whatever else is installed.
    "http": "h11",
    "ws": "none",
    "loop": "asyncio",
    # Headers of proxies are not believed.
    "proxy_headers": False,
    "server_header": False,
    "access_log": False,
    "log_level": "critical",  # connections that are cut at the end are no errors
    "limit_concurrency": 200,
    "timeout_graceful_shutdown": 1,
}
"""How Uvicorn is run."""
_DISK_FACTOR = 20  # all files of all pages, in files of the largest size
_LAST_SECONDS = 2.0  # for a prediction at the end


def serve(
    models: Sequence[str],
    *,
    host: str,
    port: int,
    max_upload_mb: int,
    allow_host: Sequence[str] = (),
    **options: Any,
) -> None:
    """Loads models and serves their page until it is interrupted.

    A prediction that still runs two seconds after that is not waited for: the process is ended with the exit code of
    the interruption, once uploads and downloads are removed. See ``iccld.app.guard.parse_hosts`` for ``allow_host``
    and ``iccld.app.answers.load_models`` for the options; port 0 stands for a free one.

    Raises:
        InputError: no such model, Starlette or Uvicorn is missing, or the port cannot be had.
        KeyboardInterrupt: Ctrl-C or SIGTERM; uploads and downloads are gone.
    """
    try:
        import uvicorn
        from starlette.applications import Starlette  # noqa: F401
    except ImportError as error:
        raise InputError(f"iccld app needs starlette and uvicorn; {how_to_install('app')}") from error
    with bind(host, port) as listener:
        from iccld.app.answers import load_models
        from iccld.app.guard import Guard, parse_hosts
        from iccld.app.routes import Routes
        from iccld.app.service import Service
        from iccld.app.sessions import Sessions

        address, port = listener.getsockname()[:2]
        allowed = parse_hosts(allow_host, port)
        loaded = load_models(models, **options)
        largest = max_upload_mb * 2**20
        is_idle = True
        try:
            # On Windows a file that is still open cannot be removed: no reason for an error at the end.
            with tempfile.TemporaryDirectory(prefix="iccld-app-", ignore_cleanup_errors=True) as folder:
                sessions = Sessions(Path(folder), largest, max_disk_bytes=_DISK_FACTOR * largest)
                routes = Routes(Service(loaded, sessions))
                guard = Guard(routes.app, port=port, allowed=allowed)
                _greet(address, port)
                try:
                    uvicorn.Server(uvicorn.Config(guard, **SERVER_SETTINGS)).run(sockets=[listener])
                finally:
                    is_idle = routes.is_idle_within(_LAST_SECONDS)
        except BaseException as error:
            if is_idle:
                raise
            # Native code holds the thread; an ordinary end of the interpreter would wait for it, or crash in it.
            _leave(error)


def bind(host: str, port: int) -> socket.socket:
    """Takes a port before the models are loaded: a second program is refused from then on, and early visitors wait."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            remedy = "end the program that uses it, or give --port another (0: any free one)"
            raise InputError(f"port {port} is in use; {remedy}") from error
        remedy = "give --host 127.0.0.1, or 0.0.0.0 for all networks, and --port one from 1024 to 65535"
        raise InputError(f"cannot listen on host {host!r}, port {port} ({error}); {remedy}") from error


def _greet(host: str, port: int) -> None:
    address = f"[{host}]" if ":" in host else host
    print(f"iccld app: http://{address}:{port} (Ctrl-C ends it)", flush=True)
    if not ipaddress.ip_address(host).is_loopback:
        print("iccld: whoever reaches this machine over the network can use the page", file=sys.stderr)


def _leave(error: BaseException) -> None:
    """Ends the process with the exit code of an error, whatever its threads do."""

    def fail() -> int:
        raise error

    code = run_guarded(fail)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
