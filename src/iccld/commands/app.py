"""``iccld app``: serves a page on which a model can be tried in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from iccld.commands.flags import Device, Threads
from iccld.documents import Range
from iccld.errors import InputError
from iccld.models.settings import Precision


@dataclass(frozen=True)
class AppArgs:
    """Serves a page for the browser: upload an image or a video, view classes and uncertainty, download the masks.

      iccld app runs/mine
      iccld app runs/mine runs/other        (compares two models)
      iccld app streets --adapt-in runs/app (also adapts the model to folders of images)

    By default (see --host), only browsers on this machine can open the page. The page loads nothing from other servers
    and sends nothing to them. Uploads are stored in a temporary folder and removed when the page is closed.

    The command needs the extra app. Install it in a clone: pip install '.[app]'.
    """

    models: Annotated[
        Positional[tuple[str, ...]], arg(metavar="MODEL [MODEL2]", help_behavior_hint="(required)")
    ]
    """Folders of saved models, streets (built in), hub ids, or exported files. One model, or two to compare."""
    host: str = "127.0.0.1"
    """Host name or IP address to listen on. 0.0.0.0 allows access from other machines."""
    port: Annotated[int, Range(0, 65535)] = 7860
    """Port to listen on. 0 uses any free port."""
    allow_host: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="")] = ()
    """Additional host names or IP addresses (optionally with a port) by which browsers can open the page, such as the
    name of a proxy or of this machine in the network. Requests with any other host are rejected."""
    max_upload_mb: Annotated[int, Range(1, 10**6)] = 50
    """Maximum size of an uploaded file in MiB."""
    adapt_in: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Folder for adaptations. With this flag, everyone who can open the page can adapt the first model to a folder of
    unlabeled images. Images and runs stay in the folder until they are removed on the page."""
    device: Device = "auto"
    precision: Precision = "auto"
    """Precision: fp32, bf16 or auto. auto means the precision of an exported file. For other models, auto means bf16 on
    devices with fast bf16, otherwise fp32."""
    threads: Threads = 0

    def run(self) -> int:
        """Serves the page until interrupted, and returns the exit code."""
        from iccld.app.server import serve

        if not 1 <= len(self.models) <= 2:
            raise InputError(f"{len(self.models)} models given; give one, or two to compare")
        settings = vars(self)
        if self.adapt_in is not None:
            from iccld.commands.adapt import like_stored
            from iccld.presets import get_preset

            config = like_stored(get_preset("adapt").config, self.models[0])
            settings = {**settings, "default_steps": config.steps}
        serve(**settings)
        return 0
