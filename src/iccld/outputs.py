"""Checks of output paths: commands must not overwrite inputs or unrelated files, nor write into input folders."""

from __future__ import annotations

import glob
import itertools
import mmap
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from iccld import remote
from iccld.errors import InputError

RUN = "run.json"  # marks a folder as a run
REPORT = "report.html"  # the last file that training writes
CHECKPOINT_PATTERN = "step-*.safetensors"  # in the folder ``checkpoints`` of a run

# Names of the files of a run or a saved model, which other outputs must not replace.
_OF_A_MODEL = (
    *(
        RUN,
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "data.json",
        "metrics.csv",
        "report.json",
        REPORT,
    ),
    *("README.txt", "README.md", "trackers.json", "curves.png", "adversary.png"),
)
_BEGINNINGS = {
    "json": (b"{", b"["),
    "png": (b"\x89png",),
    "html": (b"<!doctype html", b"<html"),
    "parquet": (b"par1",),
    "xml": (b"<?xml",),
    "view": (b"<view>",),
}


def steps_done(run: Path) -> int:
    """Returns the number of steps of the newest checkpoint in a run's folder, or 0 without checkpoints."""
    newest = max((run / "checkpoints").glob(CHECKPOINT_PATTERN), default=None)
    return int(newest.stem.removeprefix("step-")) if newest else 0


@dataclass
class Places:
    """Input and output paths of a command, for a check before the command writes anything.

    In the folder of a run or a saved model, new files are allowed, but the files of the run or model must not be
    replaced.

    Attributes:
        files: Output files by flag, each with its kind: ``json``, ``png``, ``html``, ``xml``, ``parquet`` or ``graph``
            (an exported model).
        folders: Output folders by flag.
        data: Files and folders of input data. Outputs must not lie in these folders.
        models: Input models. Outputs must not replace these models.
        own: Names of files of a run or model that the command may replace nevertheless.
        may_lie_in_data: Whether output folders may lie in ``data``. Commands that skip their own outputs when they
            list the inputs set this to ``True``.
        may_be_remote: Whether output folders may be URLs (``iccld.remote``). Files may always be, except for exports.
    """

    files: dict[str, tuple[Path | None, str]] = field(default_factory=dict)
    folders: dict[str, Path | None] = field(default_factory=dict)
    data: Iterable[str | Path | None] = ()
    models: Iterable[str | Path | None] = ()
    own: Iterable[str] = ()
    may_lie_in_data: bool = False
    may_be_remote: bool = False

    def check(self) -> None:
        """Checks all outputs. Links and ``..`` in paths are resolved before the comparison.

        Raises:
            InputError: An output would replace an input, lies in the input data or contains the input data. The error
                is also raised if two outputs are the same file, or if an existing file has another kind than the new
                file.
        """
        data = [Path(path) for path in self.data if path is not None]
        seen: dict[str, Path] = {}
        for flag, (path, kind) in self.files.items():
            if path is None or path == Path("-"):
                continue
            other = next((name for name, earlier in seen.items() if is_same(earlier, path)), None)
            if other:
                raise InputError(f"{flag} {path}: is the file of {other} too; name two files")
            if kind == "graph":
                require_on_disk(flag, path)
            seen[flag] = path
            self._check_file(f"{flag} {path}", path, data)
            _refuse_other_kind(f"{flag} {path}", path, kind)
        for flag, folder in self.folders.items():
            if folder is not None:
                if not self.may_be_remote:
                    require_on_disk(flag, folder)
                self._check_folder(f"{flag} {folder}", folder, data)

    def _check_file(self, shown: str, path: Path, data: list[Path]) -> None:
        if path.is_dir():
            raise InputError(f"{shown}: is a folder; give the name of a file")
        models = [Path(model) for model in self.models if model is not None and os.path.exists(model)]
        if any(is_same(path, known) for known in (*data, *models)):
            raise InputError(f"{shown}: is read by this command; give another file")
        is_result = any(out is not None and is_inside(path, out) for out in self.folders.values())
        for root in data:
            if root.is_dir() and is_inside(path, root) and not is_result:
                advice = "give a file outside, so that it is never taken for data"
                raise InputError(f"{shown}: lies in the data folder {root}; {advice}")
        is_checkpoint = path.parent.name == "checkpoints"
        run = path.parent.parent if is_checkpoint else path.parent
        belongs = is_checkpoint or (path.name in _OF_A_MODEL and path.name not in self.own)
        if belongs and any((run / name).is_file() for name in (RUN, "config.json", "model.safetensors")):
            raise InputError(f"{shown}: belongs to the run in that folder; give another file")

    def _check_folder(self, shown: str, folder: Path, data: list[Path]) -> None:
        if folder.is_file():
            raise InputError(f"{shown}: is a file; give the name of a folder")
        advice = "give a folder of its own, outside the data"
        for root in data:
            if is_inside(root, folder):
                verb = "is" if is_same(root, folder) else "holds"
                raise InputError(f"{shown}: {verb} the input {root}; {advice}")
            if root.is_dir() and is_inside(folder, root) and not self.may_lie_in_data:
                raise InputError(f"{shown}: lies in the data folder {root}; {advice}")


def require_on_disk(flag: str, path: Path) -> None:
    """Raises ``InputError`` if a path is a URL of object storage. ``flag`` names the path in the message."""
    if url := remote.url_of(path):
        raise InputError(
            f"{flag} {url}: must be on disk; give a local path, and copy the files before or afterwards"
        )


def _refuse_other_kind(shown: str, path: Path, kind: str) -> None:
    if not path.is_file() or not path.stat().st_size:
        return
    with open(path, "rb") as file:
        if kind == "graph":  # the metadata may be anywhere in the file
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                fits, what = content.find(b"iccld") >= 0, "was not exported by iccld"
        else:
            head = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
            fits, what = not head or head.startswith(_BEGINNINGS[kind]), f"is no {kind.upper()} file"
    if not fits:
        raise InputError(f"{shown}: is there already and {what}, so it would be lost; give another name")


def is_same(one: Path, other: Path) -> bool:
    """Returns whether two paths lead to the same file or folder. The file or folder need not exist."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def is_inside(path: Path, folder: Path) -> bool:
    """Returns whether a path is equal to ``folder`` or below it. Links are followed. Neither path has to exist."""
    real = Path(os.path.realpath(path))
    return any(is_same(parent, folder) for parent in (real, *real.parents))


def places_of(inputs: Iterable[str]) -> list[Path]:
    """Returns the files and folders to which a user's inputs refer. URLs and missing files are left out.

    A glob pattern is replaced by the part before its first wildcard: ``images/*/a.png`` becomes ``images``.
    """
    places = []
    for text in inputs:
        if os.path.exists(text):
            places.append(Path(text))
        elif glob.has_magic(text) and "://" not in text:
            fixed = itertools.takewhile(lambda part: not glob.has_magic(part), Path(text).parts)
            places.append(Path(*fixed))
    return places
