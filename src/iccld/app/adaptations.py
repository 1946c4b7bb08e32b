"""The adaptations of the app. At most one of them trains at a time."""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iccld.app.adaptation import ICCLD_COMMAND, Adaptation, Record, Start
from iccld.app.sessions import FullError, Upload, safe_name, storing
from iccld.bench.launchers import start_local, stop
from iccld.data.image_files import IMAGE_SUFFIXES
from iccld.documents import build, read_json
from iccld.errors import InputError
from iccld.files import write_json
from iccld.outputs import RUN

MOST_IMAGES = 5000
MOST_FOLDERS = 16
_RECORD = "adaptation.json"
_CHECKPOINTS = 10
"""Number of checkpoints of a run. The page shows a new picture after each."""
_SAVING_SECONDS = 60.0  # seconds for a stopped run to save a checkpoint
_IDLE_SECONDS = 3600.0
_LAST_SECONDS = 10.0  # the same when the app ends


@dataclass
class Adaptations:
    """All adaptations in a folder. At most one of them trains at a time.

    ``root`` is the folder, in which the adaptations of earlier apps are found again. ``model`` is the model to adapt, a
    folder, ``streets`` or a hub id. ``default_steps`` is the number of steps that the page proposes. ``flags`` are
    further flags of ``iccld adapt``. ``max_upload_bytes`` is the maximum size of one image, and ``max_disk_bytes`` of
    all images of an adaptation.
    """

    root: Path
    model: str
    default_steps: int
    max_upload_bytes: int
    max_disk_bytes: int
    flags: Sequence[str] = ()
    _known: dict[str, Adaptation] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for path in sorted(self.root.glob(f"*/{_RECORD}")):
            try:
                record = build(Record, read_json(path), str(path))
            except (InputError, OSError):
                continue  # another program's file, or a damaged one; its folder is left alone
            found = Adaptation(path.parent, record)
            self._known[record.digest] = found
            if found.state == "collecting":  # an earlier app was killed before the training started
                self.remove(found)

    def begin(self) -> tuple[str, Adaptation]:
        """Creates an adaptation without images. Returns the secret that identifies the page's requests.

        Raises ``FullError`` if there are too many adaptations.
        """
        if len(self._known) >= MOST_FOLDERS:
            raise FullError(f"There are {MOST_FOLDERS} adaptations already; remove one")
        secret = secrets.token_urlsafe(24)
        stem = time.strftime("%Y-%m-%d-%H%M%S")
        folder = self.root / f"{stem}-{secrets.token_hex(2)}"
        (folder / "images").mkdir(parents=True, mode=0o700)
        found = Adaptation(folder, Record(_digest(secret), self.model))
        self._known[found.record.digest] = found
        self._save(found)
        return secret, found

    def _save(self, adaptation: Adaptation) -> None:
        write_json(adaptation.folder / _RECORD, dataclasses.asdict(adaptation.record))

    def find(self, secret: str) -> Adaptation | None:
        """Returns the adaptation with the given secret, or ``None``."""
        found = self._known.get(_digest(secret))
        if found is None or not found.images.is_dir():  # somebody can have removed the folder
            return None
        found.touched = time.monotonic()
        return found

    @contextmanager
    def receive(self, adaptation: Adaptation, name: str) -> Iterator[tuple[Upload, Any]]:
        """Adds an image. Yields the upload, and a function that writes the next part of the file.

        If the ``with`` block ends with an error, the file is removed. Raises ``InputError`` if the adaptation has
        started, or the name is not that of an image. Raises ``FullError`` if there are too many images.
        """
        adaptation.require("collecting")
        name = safe_name(name)
        if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(f"{name}: is no image by its name")
        if adaptation.received >= MOST_IMAGES:
            raise FullError(f"{name}: an adaptation takes {MOST_IMAGES} images at most")
        # The number in front keeps images of equal names apart, and in the order in which the page sent them.
        stem, _, suffix = name.rpartition(".")
        upload = Upload(adaptation.images / f"{adaptation.received:05d}_{stem}.{suffix.lower()}", name)
        adaptation.received += 1
        room = self.max_disk_bytes - adaptation.received_bytes
        with storing(upload, most=self.max_upload_bytes, room=room) as write:
            yield upload, write
        adaptation.received_bytes += upload.path.stat().st_size

    def check(self, adaptation: Adaptation, upload: Upload) -> None:
        """Decodes an image that was added. An unreadable image is removed, and ``InputError`` is raised."""
        try:
            upload.read()
        except InputError:
            adaptation.received_bytes -= upload.path.stat().st_size
            upload.path.unlink()
            raise

    def start(self, adaptation: Adaptation, settings: Start) -> None:
        """Starts or resumes the training. A resumed run keeps its number of steps.

        Raises ``InputError`` if another adaptation is running, or there are no images.
        """
        adaptation.require("collecting", "stopped", "failed")
        if any(other.state == "running" for other in self._known.values()):
            raise InputError("Another adaptation is running on this machine; try again when it is done")
        if not any(adaptation.images.iterdir()):
            raise InputError("There are no images yet; choose a folder")
        begun = (adaptation.run / RUN).is_file()
        steps = (adaptation.record.steps if begun else None) or settings.steps
        adaptation.record = dataclasses.replace(adaptation.record, steps=steps)
        adaptation.was_stopped = False
        self._save(adaptation)
        every = max(1, steps // _CHECKPOINTS)
        command = [*ICCLD_COMMAND, "adapt", str(adaptation.images), "--out", str(adaptation.run)]
        command += ["--model.init", adaptation.record.model, "--steps", str(steps)]
        command += ["--checkpoint-every", str(every), *self.flags]
        log = adaptation.folder / "log.txt"
        log.unlink(missing_ok=True)
        adaptation.process = start_local(command, log, threads=0)

    def stop(self, adaptation: Adaptation, seconds: float = _SAVING_SECONDS) -> None:
        """Stops the training after a checkpoint, from which ``start`` resumes. After ``seconds``, it is killed."""
        if adaptation.exporting is not None:
            adaptation.exporting.terminate()
        if adaptation.state == "running" and adaptation.process is not None:
            adaptation.was_stopped = True
            # If the process is killed, the last periodic checkpoint is kept.
            stop(adaptation.process, seconds)

    def remove(self, adaptation: Adaptation) -> None:
        """Stops the training and removes the folder with images, run and model."""
        self.stop(adaptation)
        self._known.pop(adaptation.record.digest, None)
        shutil.rmtree(adaptation.folder, ignore_errors=True)

    def stop_all(self) -> None:
        """Stops the running adaptation, and removes those that never started."""
        for adaptation in list(self._known.values()):
            self.stop(adaptation, _LAST_SECONDS)
        self.sweep(0.0)

    def sweep(self, idle_seconds: float = _IDLE_SECONDS) -> None:
        """Removes each adaptation that never started and had no request for ``idle_seconds``."""
        for adaptation in list(self._known.values()):
            idle = time.monotonic() - adaptation.touched
            if adaptation.state == "collecting" and idle >= idle_seconds:
                self.remove(adaptation)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
