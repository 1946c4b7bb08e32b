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
from typing import TYPE_CHECKING, Any

from iccld.errors import InputError, how_to_install
from iccld.exits import run_guarded

if TYPE_CHECKING:
    from iccld.app.models import AppModel
    from iccld.app.worker import Worker

_DISK_FACTOR = 20  # all files of all pages, in files of the largest size
_MOST_CONNECTIONS = 200
_LAST_SECONDS = 2.0  # for a prediction at the end


def serve(
    sources: Sequence[str],
    *,
    host: str,
    port: int,
    max_upload_mb: int,
    allow_hosts: Sequence[str] = (),
    device: str = "auto",
    threads: int = 0,
    precision: str = "auto",
) -> None:
    """Loads models and serves their page until it is interrupted.

    A prediction that still runs two seconds after that is not waited for: the process is ended with the exit code of
    the interruption, once uploads and downloads are removed.

    Args:
        sources: one or two models.
        host: address to listen on.
        port: 0 takes a free one.
        max_upload_mb: larger files are refused.
        allow_hosts: further names under which the page is reached, see ``iccld.app.guard.parse_hosts``.
        device: see ``iccld.inference.segmenter.load_segmenter``.
        threads: the same.
        precision: see ``iccld.inference.segmenter.PredictSettings``.

    Raises:
        InputError: no such model, Starlette or Uvicorn is missing, or the port cannot be had.
        KeyboardInterrupt: Ctrl-C or SIGTERM; uploads and downloads are gone.
    """
    _require_packages()
    with bind(host, port) as listener:
        from iccld.app.guard import parse_hosts
        from iccld.app.models import load_models

        allowed = parse_hosts(allow_hosts, listener.getsockname()[1])
        models = load_models(sources, device=device, threads=threads, precision=precision)
        workers: list[Worker] = []
        is_idle = False
        try:
            # On Windows a file that is still open cannot be removed: no reason for an error at the end.
            with tempfile.TemporaryDirectory(prefix="iccld-app-", ignore_cleanup_errors=True) as folder:
                try:
                    _run(models, Path(folder), listener, max_upload_mb * 2**20, allowed, workers)
                finally:
                    is_idle = all(worker.wait_idle(_LAST_SECONDS) for worker in workers)
        except BaseException as error:
            if is_idle:
                raise
            # Native code holds the thread; an ordinary end of the interpreter would wait for it, or crash in it.
            _leave(error)


def _leave(error: BaseException) -> None:
    def fail() -> int:
        raise error

    code = run_guarded(fail)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def bind(host: str, port: int) -> socket.socket:
    """Takes a port before the models are loaded.

    Raises:
        InputError: it is in use, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name != "nt":  # where it would let two programs share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # From here on a second program is refused, and early visitors wait.
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(_explain(host, port, error)) from error
    return listener


def _explain(host: str, port: int, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return (
            f"port {port} is in use; end the program that uses it, or give --port another (0: any free one)"
        )
    if number == errno.EACCES:
        return f"port {port} needs more rights; give --port one from 1024 to 65535"
    if isinstance(error, OverflowError):
        return f"port is {port}; give one from 0 to 65535"
    return f"cannot listen on host {host!r} ({error}); give --host 127.0.0.1, or 0.0.0.0 for all networks"


def uvicorn_settings() -> dict[str, Any]:
    """How Uvicorn is run."""
    return {
        # The implementations in pure Python: the same on every machine, whatever else is installed.
        "http": "h11",
        "ws": "none",
        "loop": "asyncio",
        # Headers of proxies are not believed.
        "proxy_headers": False,
        "server_header": False,
        "access_log": False,
        "log_level": "critical",  # connections that are cut at the end are no errors
        "limit_concurrency": _MOST_CONNECTIONS,
        "timeout_graceful_shutdown": 1,
    }


def _require_packages() -> None:
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(f"iccld app needs starlette and uvicorn; {how_to_install('app')}") from error


def _run(
    models: Sequence[AppModel],
    folder: Path,
    listener: socket.socket,
    max_upload_bytes: int,
    allowed: Sequence[str],
    workers: list[Worker],
) -> None:
    import uvicorn

    from iccld.app.answers import AnswerStore
    from iccld.app.guard import Guard
    from iccld.app.routes import Routes
    from iccld.app.service import Service
    from iccld.app.sessions import Sessions

    store = AnswerStore()
    sessions = Sessions(
        folder, store.drop, max_upload_bytes=max_upload_bytes, max_disk_bytes=_DISK_FACTOR * max_upload_bytes
    )
    routes = Routes(Service(models, sessions, store))
    workers += routes.workers
    host, port = listener.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    print(f"iccld app: http://{address}:{port} (Ctrl-C ends it)", flush=True)
    if not ipaddress.ip_address(host).is_loopback:
        print("iccld: whoever reaches this machine over the network can use the page", file=sys.stderr)

    class Server(uvicorn.Server):
        """Ends the work for open pages first."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            routes.ending.set()
            sessions.end_all()
            await super().shutdown(sockets)

    config = uvicorn.Config(Guard(routes.app, port=port, allowed=allowed), **uvicorn_settings())
    Server(config).run(sockets=[listener])
