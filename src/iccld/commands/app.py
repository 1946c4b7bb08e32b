"""``iccld app``: a page in the browser to try a model on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from iccld.commands.flags import Threads
from iccld.documents import Range
from iccld.errors import InputError
from iccld.models.settings import Precision


@dataclass(frozen=True)
class AppArgs:
    """Shows a page in the browser: drop an image or a video, see classes and uncertainty, download the masks.

      iccld app runs/mine
      iccld app runs/mine runs/other        (two models side by side)

    The page listens on this machine alone, unless --host says otherwise. It loads nothing from and sends nothing to
    other machines. Uploads lie in a temporary folder; they are removed when the page is closed.

    Needs the extra app; in a clone: pip install '.[app]'.
    """

    models: Annotated[
        Positional[tuple[str, ...]], arg(metavar="MODEL [MODEL2]", help_behavior_hint="(required)")
    ]
    """Folders of saved models, hub ids, or exported files: one, or two to be compared."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in."""
    port: Annotated[int, Range(0, 65535)] = 7860
    """Port to listen on; 0 for any free one."""
    allow_host: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="")] = ()
    """Further names or addresses, also with a port, under which browsers reach the page: of a proxy in front of it, or
    of this machine in the network. All others are refused."""
    max_upload_mb: Annotated[int, Range(1, 10**6)] = 50
    """Largest file that is taken, in MiB."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""
    precision: Precision = "auto"
    """fp32, bf16, or auto: bf16 where the device is fast at it, and for an exported file its own."""
    threads: Threads = 0
    """CPU threads; 0 for automatic."""

    def run(self) -> int:
        """Serves until interrupted."""
        from iccld.app.server import serve

        if not 1 <= len(self.models) <= 2:
            raise InputError(f"{len(self.models)} models given; give one, or two to compare")
        serve(**vars(self))
        return 0
