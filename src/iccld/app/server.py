"""Server of the app: listens on one port and opens no connections to other machines.

When the server stops, its temporary files are removed.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from iccld.errors import InputError, how_to_install
from iccld.exits import run_guarded
from iccld.locks import claiming_file

SERVER_SETTINGS: dict[str, Any] = {
    # By default, Uvicorn uses faster implementations if optional packages are installed. The next three settings always
    # select the basic implementations, so that the app behaves the same on every machine.
    "http": "h11",
    "ws": "none",
    "loop": "asyncio",
    # Proxy headers are not trusted, because every client can send them.
    "proxy_headers": False,
    "server_header": False,
    "access_log": False,
    "log_level": "critical",  # no messages about connections that are aborted at shutdown
    "limit_concurrency": 200,
    "timeout_graceful_shutdown": 1,
}
"""Settings of the Uvicorn server."""
_DISK_FACTOR = 20  # limit on the size of all stored files, as a multiple of the maximum upload size
_LAST_SECONDS = 2.0  # seconds to wait for a running prediction at shutdown


def serve(
    models: Sequence[str],
    *,
    host: str,
    port: int,
    max_upload_mb: int,
    allow_host: Sequence[str] = (),
    adapt_in: Path | None = None,
    default_steps: int = 0,
    **options: Any,
) -> None:
    """Loads the models and serves the app until the process is interrupted.

    If a prediction is still running two seconds after the interruption, the process exits without waiting for the
    prediction. Port 0 means any free port. ``max_upload_mb`` is the maximum size of an upload in MiB. ``adapt_in`` is
    the folder for adaptations that pages start, and ``default_steps`` is the number of training steps that they
    propose. See ``iccld.app.guard.parse_hosts`` for ``allow_host`` and ``iccld.app.answers.load_models`` for
    ``options``.

    Raises:
        InputError: A model does not exist, Starlette or Uvicorn is missing, or the port is not available.
        KeyboardInterrupt: The process received Ctrl-C or SIGTERM. All uploads and results are removed.
    """
    try:
        import uvicorn
        from starlette.applications import Starlette  # noqa: F401
    except ImportError as error:
        raise InputError(f"iccld app needs starlette and uvicorn; {how_to_install('app')}") from error
    with bind(host, port) as listener:
        from iccld.app.adaptations import Adaptations
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
            # On Windows, open files cannot be removed. The resulting errors at shutdown are ignored.
            with (
                _claiming(adapt_in),
                tempfile.TemporaryDirectory(prefix="iccld-app-", ignore_cleanup_errors=True) as folder,
            ):
                sessions = Sessions(Path(folder), largest, max_disk_bytes=_DISK_FACTOR * largest)
                adaptations = None
                if adapt_in is not None:
                    flags = [f"--{name}={options[name]}" for name in ("device", "threads")]
                    sizes = (largest, _DISK_FACTOR * largest)
                    local = Path(models[0])
                    model = str(local.resolve()) if local.is_dir() else models[0]
                    adaptations = Adaptations(adapt_in.expanduser(), model, default_steps, *sizes, flags)
                routes = Routes(Service(loaded, sessions), adaptations)
                guard = Guard(routes.app, port=port, allowed=allowed)
                _greet(address, port)
                try:
                    uvicorn.Server(uvicorn.Config(guard, **SERVER_SETTINGS)).run(sockets=[listener])
                finally:
                    is_idle = routes.is_idle_within(_LAST_SECONDS)
        except BaseException as error:
            if is_idle:
                raise
            # A prediction still runs in native code. A normal exit would crash or wait for the prediction.
            _leave(error)


@contextlib.contextmanager
def _claiming(adapt_in: Path | None) -> Iterator[None]:
    """Locks the folder of adaptations against other apps, which would remove uploads of this app."""
    if adapt_in is None:
        yield
        return
    with claiming_file(adapt_in.expanduser() / "app") as is_free:
        if not is_free:
            raise InputError(f"{adapt_in}: is used by another app; give another folder with --adapt-in")
        yield


def bind(host: str, port: int) -> socket.socket:
    """Opens a listening socket. Raises ``InputError`` if the port is not available.

    The socket is opened before the models are loaded. Thus, an occupied port is reported at once, and early requests
    wait.
    """
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
    """Ends the process with the exit code of ``error``, without waiting for threads."""

    def fail() -> int:
        raise error

    code = run_guarded(fail)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
