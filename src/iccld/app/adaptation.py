"""One adaptation that a page starts: a folder with images and with the run of one ``iccld adapt`` process.

The process is the same command that a user would type, so its run folder can be used and resumed without the app.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from iccld.app.answers import Answers, AppModel, answer_image, in_colors_of
from iccld.app.sessions import Upload
from iccld.documents import Length, Range
from iccld.errors import InputError
from iccld.files import replacing
from iccld.models.iccld import ICCLD
from iccld.models.storage import CONFIG, PROCESSOR, WEIGHTS
from iccld.outputs import steps_done
from iccld.training.checkpoint import load_newest

State = Literal["collecting", "running", "stopped", "failed", "finished"]
Steps = Annotated[int, Range(2, 1_000_000)]
ICCLD_COMMAND = (sys.executable, "-m", "iccld")
_STEP = re.compile(r"step (\d+)/(\d+)  (.*)")
_RENDERING = re.compile(r"^(Rendering .*)$", re.MULTILINE)
_ERROR = re.compile(r"^(?:iccld: )?error: (.*)", re.MULTILINE)


@dataclass(frozen=True)
class Start:
    """Settings of the page for an adaptation. ``steps`` is the number of training steps."""

    steps: Steps


@dataclass(frozen=True)
class Record:
    """Contents of ``adaptation.json``: the SHA-256 digest of the page's secret, and settings of the run."""

    digest: Annotated[str, Length(64)]
    model: Annotated[str, Length(4096)]
    steps: Steps | None = None


@dataclass(eq=False)
class Adaptation:
    """One adaptation: its folder, and its process if this app has started one.

    The folder contains ``images``, the folder ``run`` of ``iccld adapt``, and its output ``log.txt``. ``received`` and
    ``received_bytes`` count the images that the page has sent. ``drawn`` keeps the last predictions of ``draw`` with
    the number of steps before them. ``touched`` is the time of the last request. ``was_stopped`` states that
    the app has stopped the process. ``exporting`` is the process of an export.
    """

    folder: Path
    record: Record
    process: subprocess.Popen[bytes] | None = None
    was_stopped: bool = False
    exporting: subprocess.Popen[bytes] | None = None
    drawn: tuple[int, Answers] | None = None
    received: int = 0
    received_bytes: int = 0
    touched: float = field(default_factory=time.monotonic)

    @property
    def images(self) -> Path:
        """Folder of the unlabeled images."""
        return self.folder / "images"

    @property
    def run(self) -> Path:
        """Folder of the training run."""
        return self.folder / "run"

    @property
    def state(self) -> State:
        """State of the training."""
        if self.process is not None and self.process.poll() is None:
            return "running"
        if (self.run / WEIGHTS).is_file():
            return "finished"
        if self.record.steps is None:
            return "collecting"
        return "stopped" if self.process is None or self.was_stopped else "failed"

    @property
    def newest(self) -> int:
        """Number of steps of the newest weights. 0 if there are none yet."""
        if self.state == "finished" and self.record.steps is not None:
            return self.record.steps
        return steps_done(self.run)

    def describe(self) -> dict[str, Any]:
        """Describes the adaptation for the page. No entry contains a path."""
        log = _tail(self.folder / "log.txt")
        state, newest, seen = self.state, self.newest, _STEP.findall(log)
        done, total, text = seen[-1] if seen else (0, self.record.steps or 0, "")
        preparing = "Preparing" if "labeled:" in log else ["Preparing", *_RENDERING.findall(log)][-1]
        words = {"running": text or ("" if newest else preparing), "failed": self._explain(log)}
        return {
            "state": state,
            "name": self.folder.name,
            "images": sum(1 for _ in self.images.iterdir()),
            "done": max(int(done), newest),  # a checkpoint can be newer than the last line of the log
            "total": int(total),
            "text": words.get(state, ""),
            "newest": newest,
            "steps": self.record.steps,
        }

    def _explain(self, log: str) -> str:
        found = _ERROR.findall(log)
        message = found[-1] if found else "The adaptation ended without a message; its log.txt says more"
        for part in (f"{self.images}{os.sep}", f"{self.folder}{os.sep}", f"{self.folder.parent}{os.sep}"):
            message = message.replace(part, "")
        return message

    def draw(self, base: AppModel) -> Answers:
        """Segments the first image with the app's model and with the newest weights of the run.

        The predictions are kept until there are newer weights. Raises ``InputError`` if there are no weights yet.
        """
        step = self.newest
        if self.drawn is None or self.drawn[0] != step:
            first = min(self.images.iterdir(), default=None)
            if first is None:
                raise InputError("There are no images yet; choose a folder")
            models = (base, self.model_like(base)) if step else (base,)
            image = Upload(first, first.name).read()
            self.drawn = step, answer_image(models, image, first.name, steps=1, draws=1)
        return self.drawn[1]

    def model_like(self, base: AppModel) -> AppModel:
        """Loads the newest weights of the EMA teacher, on the device and in the colors of ``base``.

        Raises ``InputError`` if there are no weights yet.
        """
        if self.state == "finished":
            model = ICCLD.from_pretrained(self.run)
        else:
            checkpoint = load_newest(self.run / "checkpoints")
            if checkpoint is None:
                raise InputError("There are no adapted weights yet")
            prefix = "teacher/module."
            weights = {
                n.removeprefix(prefix): t for n, t in checkpoint.tensors.items() if n.startswith(prefix)
            }
            model = ICCLD.from_pretrained(self.record.model)
            model.load_state_dict(weights)
        shown = in_colors_of(base.shown, model.label_space)
        return dataclasses.replace(
            base, name=f"{base.name}, adapted", segmenter=model.to(base.device), shown=shown
        )

    def pack(self) -> Path:
        """Writes the adapted model as zip file, for downloads. Raises ``InputError`` if the run is not finished."""
        self.require("finished")
        path = self.folder / "model.zip"
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name in filter(lambda name: (self.run / name).is_file(), (CONFIG, WEIGHTS, PROCESSOR)):
                archive.write(self.run / name, f"{self.folder.name}/{name}")
        return path

    @property
    def _onnx(self) -> Path:
        return self.folder / "model.onnx"

    def export(self) -> None:
        """Exports the adapted model as ONNX file. Raises ``InputError`` if it is not finished or the export fails."""
        self.require("finished")
        command = [*ICCLD_COMMAND, "export", str(self.run), "--format", "onnx", "--out", str(self._onnx)]
        if self.exporting is not None and self.exporting.poll() is None:
            raise InputError("The model is being exported already")
        if not self._onnx.is_file():
            self.exporting = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            _, said = self.exporting.communicate()
            if self.exporting.returncode:
                raise InputError(self._explain(said.decode("utf-8", "replace")))

    def exported(self) -> Path:
        """Returns the path of the exported model. Raises ``InputError`` if there is none."""
        if not self._onnx.is_file():
            raise InputError("The model is not exported yet")
        return self._onnx

    def require(self, *states: State) -> None:
        """Raises ``InputError`` if the adaptation is in none of the given states."""
        if self.state not in states:
            raise InputError(f"This adaptation is {self.state}, not {' or '.join(states)}")


def _tail(path: Path, size: int = 8192) -> str:
    """Returns the end of a text file, or an empty text if there is no file."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
