"""Where commands may write: never over or among their inputs, and never over what somebody else has written."""

from __future__ import annotations

import contextlib
import glob
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from iccld.errors import InputError
from iccld.files import printable, read_bounded, write_json

CLAIM = ".iccld.json"
"""Says which commands have written to a folder."""
RUN = "run.json"
"""Says that a folder is a run's."""

# What belongs to a run or a stored model, beside run.json and config.json.
_OF_A_MODEL = (
    *(RUN, "config.json", "model.safetensors", "data.json", "metrics.csv", "report.json", "report.html"),
    *("README.txt", "README.md", "trackers.json", "curves.png", "adversary.png"),
)
_BEGINNINGS = {
    "json": (b"{", b"["),
    "png": (b"\x89png",),
    "html": (b"<!doctype html", b"<html"),
}


@dataclass
class Places:
    """What a command reads and writes, to be checked before it begins.

    Attributes:
        files: flag → (file to write, its kind: json, png, html, or graph, an exported model).
        folders: flag → folder to write to.
        data: folders and files of data; nothing may be written into these folders.
        models: folders and files of models and runs; new files may be written beside theirs.
        own: names of a run's files that this command may replace.
        may_lie_in_data: the folders to write to may lie below those of the data, as the command leaves them out there.
    """

    files: dict[str, tuple[Path | None, str]] = field(default_factory=dict)
    folders: dict[str, Path | None] = field(default_factory=dict)
    data: Iterable[str | Path | None] = ()
    models: Iterable[str | Path | None] = ()
    own: Iterable[str] = ()
    may_lie_in_data: bool = False

    def check(self) -> None:
        """Compares everything as the file system sees it: links, ``..`` and other spellings are followed.

        Raises:
            InputError: an output would replace an input, lie among the data or hold them, two outputs are one file,
                or a file is there that was not written by such a command.
        """
        outputs = {flag: path for flag, (path, _) in self.files.items() if path and path != Path("-")}
        data = [Path(path) for path in self.data if path is not None]
        models = [Path(path) for path in self.models if path is not None and os.path.exists(path)]
        seen: dict[str, tuple[str, Path]] = {}
        for flag, path in outputs.items():
            other = next((o for o in seen.values() if is_same(o[1], path)), None)
            if other:
                raise InputError(f"{flag} {path}: is the file of {other[0]} too; name two files")
            seen[flag] = (flag, path)
            self._check_file(flag, path, data, models)
        for flag, folder in self.folders.items():
            if folder is not None:
                if folder.is_file():
                    raise InputError(f"{flag} {folder}: is a file; give the name of a folder")
                _check_folder(flag, folder, data, may_lie_in_data=self.may_lie_in_data)

    def _check_file(self, flag: str, path: Path, data: list[Path], models: list[Path]) -> None:
        if path.is_dir():
            raise InputError(f"{flag} {path}: is a folder; give the name of a file")
        for known in (*data, *models):
            if is_same(path, known):
                raise InputError(f"{flag} {path}: is read by this command; give another file")
        results = [out for out in self.folders.values() if out is not None]
        for root in data:
            if root.is_dir() and is_inside(path, root) and not any(is_inside(path, out) for out in results):
                raise InputError(
                    f"{flag} {path}: lies in the data folder {root}; give a file outside, so that it is never "
                    "taken for data"
                )
        folder = path.parent
        belongs = (path.name in _OF_A_MODEL and path.name not in self.own) or folder.name == "checkpoints"
        run = folder.parent if folder.name == "checkpoints" else folder
        if belongs and any((run / name).is_file() for name in (RUN, "config.json", "model.safetensors")):
            raise InputError(f"{flag} {path}: belongs to the run in that folder; give another file")
        _refuse_other_kind(flag, path, self.files[flag][1])


def _check_folder(flag: str, folder: Path, data: list[Path], *, may_lie_in_data: bool) -> None:
    advice = "give a folder of its own, outside the data"
    for root in data:
        if is_inside(root, folder):
            verb = "is" if is_same(root, folder) else "holds"
            raise InputError(f"{flag} {folder}: {verb} the input {root}; {advice}")
        if root.is_dir() and is_inside(folder, root) and not may_lie_in_data:
            raise InputError(f"{flag} {folder}: lies in the data folder {root}; {advice}")


def _refuse_other_kind(flag: str, path: Path, kind: str) -> None:
    if not path.is_file():
        return
    if kind == "graph":
        if not _mentions(path, b"iccld"):
            raise InputError(
                f"{flag} {path}: is there already and was not exported by iccld, so it would be lost; give another "
                "name"
            )
        return
    beginnings = _BEGINNINGS[kind]
    with open(path, "rb") as file:
        head = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head and not head.startswith(beginnings):
        raise InputError(
            f"{flag} {path}: is there already and is no {kind.upper()} file, so it would be lost; give another name"
        )


def _mentions(path: Path, word: bytes) -> bool:
    """Whether a file holds some bytes; of graphs, the metadata lie anywhere."""
    rest = b""
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            if word in rest + chunk:
                return True
            rest = chunk[-len(word) :]
    return False


def is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file or folder, which need not exist."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or lies below it, links followed; neither need exist."""
    real = Path(os.path.realpath(path))
    return any(is_same(parent, folder) for parent in (real, *real.parents))


def places_of(inputs: Iterable[str]) -> list[Path]:
    """The files and folders that a user names as inputs; of a glob, the folder before its first wildcard."""
    places = []
    for text in inputs:
        if os.path.exists(text):
            places.append(Path(text))
        elif glob.has_magic(text) and "://" not in text:
            fixed = itertools.takewhile(lambda part: not glob.has_magic(part), Path(text).parts)
            places.append(Path(*fixed))
    return places


def require_own(folder: Path, command: str, record: str, what: str, *, besides: Iterable[str] = ()) -> None:
    """Refuses a folder that holds something, but neither the record nor the note of the command that writes there.

    Args:
        folder: may be new.
        command: as of ``claiming``, which leaves the note.
        record: glob of the files that say whose the folder is.
        what: what such a folder holds, for the message.
        besides: names that may stand there before both.

    Raises:
        InputError: it holds files of others; they stay as they are.
    """
    if not folder.is_dir() or any(folder.glob(record)) or command in _writers(folder):
        return
    allowed = set(besides)
    found = sorted(n for n in os.listdir(folder) if not n.startswith(".") and n not in allowed)
    if found:
        raise InputError(
            f"{folder}: is not empty ({printable(found[0])}) and holds no {what} ({record}); choose another folder"
        )


@contextlib.contextmanager
def claiming(folder: Path, command: str, names: Iterable[str]) -> Iterator[None]:
    """Notes that a command writes to a folder, and refuses to replace what it has not written there.

    The note is a hidden file, which is removed again if nothing was written.

    Args:
        folder: may be new.
        command: what is noted, for example ``predict``.
        names: files and folders directly below it that the command writes.

    Raises:
        InputError: one of these is there, and the command has not been at work in this folder before.
    """
    path, makers = folder / CLAIM, _writers(folder)
    if command in makers:
        yield
        return
    there = next((name for name in names if os.path.lexists(folder / name)), None)
    if there is not None:
        raise InputError(
            f"{folder / there}: is there already and was not written by iccld {command}; choose another folder"
        )
    write_json(path, {"commands": [*makers, command]})
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone
            if not makers and all(name.startswith(".iccld") for name in os.listdir(folder)):
                path.unlink()


def _writers(folder: Path) -> list[str]:
    """The commands that the note of a folder names; none if there is no note, or a damaged one."""
    path = folder / CLAIM
    if not path.is_file():
        return []
    try:
        return list(json.loads(read_bounded(path, 100_000))["commands"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
