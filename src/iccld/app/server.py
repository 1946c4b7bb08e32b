"""Serving the page: one port, no word to any other machine, and nothing left behind."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iccld.errors import InputError

if TYPE_CHECKING:
    from iccld.app.models import AppModel

_QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_NUM_WORKERS": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",  # videos that cannot be decoded are told of on the page
}


def serve(
    sources: Sequence[str],
    *,
    host: str,
    port: int,
    max_upload_mb: int,
    device: str = "auto",
    threads: int = 0,
) -> None:
    """Loads models and serves their page until it is interrupted.

    Args:
        sources: one or two models.
        host: address to listen on.
        port: 0 takes a free one.
        max_upload_mb: larger files are refused.
        device: see ``iccld.inference.segmenter.load_segmenter``.
        threads: the same.

    Raises:
        InputError: no such model, Gradio is missing, or the port cannot be had.
        KeyboardInterrupt: Ctrl-C or SIGTERM; uploads and downloads are gone.
    """
    with (
        bind(host, port) as listener,
        # On Windows a file that is still open cannot be removed: no reason for an error at the end.
        tempfile.TemporaryDirectory(prefix="iccld-app-", ignore_cleanup_errors=True) as folder,
    ):
        # Gradio reads these when it is imported.
        os.environ.update(_QUIET, GRADIO_TEMP_DIR=folder)
        _require_gradio()
        from iccld.app.models import load_models

        models = load_models(sources, device=device, threads=threads)
        _run(models, Path(folder), listener, max_upload_mb)


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


def _require_gradio() -> None:
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise InputError("iccld app needs gradio: pip install 'iccld[app]'") from error


def _run(models: Sequence[AppModel], folder: Path, listener: socket.socket, max_upload_mb: int) -> None:
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI

    from iccld.app.markup import CSS
    from iccld.app.page import Page

    page = Page(models, folder, max_upload_mb=max_upload_mb)
    host, port = listener.getsockname()[:2]
    door = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page.blocks,
        path="/",
        server_name=host,
        server_port=port,
        footer_links=[],
        max_file_size=max_upload_mb * 2**20,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        # Fonts of the system: nothing is fetched from anywhere.
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=CSS,
    )
    address = f"[{host}]" if ":" in host else host
    print(f"iccld app: http://{address}:{port} (Ctrl-C ends it)", flush=True)
    if not ipaddress.ip_address(host).is_loopback:
        print("iccld: whoever reaches this machine over the network can use the page", file=sys.stderr)

    class Server(uvicorn.Server):
        """Says nothing of the connections that it cuts at the end."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            page.ending.set()
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            await super().shutdown(sockets)

    # Open pages keep a connection; they are not waited for.
    config = uvicorn.Config(door, log_level="warning", timeout_graceful_shutdown=1)
    Server(config).run(sockets=[listener])
