"""Folders that a command writes to: one process at a time, and no files of others among its own."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
from collections.abc import Collection, Iterator
from pathlib import Path

from iccld.errors import InputError
from iccld.files import AnyPath, printable, read_bounded, write_failure, write_json

LOCK = ".iccld.lock"
CLAIM = ".iccld.json"
"""Says which commands have written to a folder."""


@contextlib.contextmanager
def claiming(
    folder: Path, command: str, what: str, *, record: str | None = None, besides: Collection[str] = ()
) -> Iterator[None]:
    """Works in a folder alone, as ``working_in`` does, if it is new, empty or the command's own.

    It is the command's own if an earlier call left its note there, a hidden file, or if something matches the glob
    ``record``. The names of ``besides`` may stand there without either. The note is removed again where nothing was
    written. ``what`` such a folder holds is for the message.

    Raises:
        InputError: the folder holds files of others, or another process works in it.
    """
    place = Path(os.path.realpath(folder))  # it may be written as FOLDER/new/..
    note, makers = place / CLAIM, _writers(place)
    is_own = command in makers or (record is not None and any(place.glob(record)))
    if place.is_dir() and not is_own:
        found = sorted(n for n in os.listdir(place) if not n.startswith(".") and n not in besides)
        if found:
            what = f"{what} ({record})" if record else what
            first = printable(found[0])
            raise InputError(f"{folder}: is not empty ({first}) and holds no {what}; choose another folder")
    with working_in(folder):
        if command not in makers:
            write_json(note, {"commands": [*makers, command]})
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # the folder may be gone
                if not makers and all(name.startswith(".iccld") for name in os.listdir(place)):
                    note.unlink()


def _writers(folder: Path) -> list[str]:
    """The commands that the note of a folder names; none if there is no note, or a damaged one."""
    try:
        return list(json.loads(read_bounded(folder / CLAIM, 100_000))["commands"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


@contextlib.contextmanager
def working_in(folder: AnyPath, *, patience: float = 0.0) -> Iterator[None]:
    """Keeps other processes of ours out of a folder; the thread that is in may enter once more.

    The folder and those above it are made if they are missing, and removed at the end if they are empty. The lock ends
    with the process, however that ends. A process that is at work there, such as one that saves before it ends, is
    waited for as many seconds as ``patience`` says.

    Raises:
        InputError: another process is at work in the folder, or it cannot be written.
        RunFailedError: the disk is full.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    path = Path(os.path.realpath(folder)) / LOCK
    lock = FileLock(path, is_singleton=True)
    with _removing_empty([place for place in (folder, *folder.parents) if not place.exists()]):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=patience)
        except Timeout as error:
            raise InputError(
                f"{folder}: {_owner(path)} is at work in this folder; wait for it to end, or choose another folder"
            ) from error
        except OSError as error:
            raise write_failure(folder, error) from error
        try:
            _sign(path)
            yield
        finally:
            if lock.lock_counter == 1:
                with contextlib.suppress(OSError):
                    path.unlink()
            lock.release()


@contextlib.contextmanager
def _removing_empty(folders: list[Path]) -> Iterator[None]:
    """Removes folders at the end, inner ones first, until one of them holds something."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for folder in folders:
                folder.rmdir()


def _sign(path: Path) -> None:
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with contextlib.suppress(OSError):  # it is for messages alone
        path.write_text(f"process {os.getpid()} on {platform.node()} since {since}", encoding="utf-8")


def _owner(path: Path) -> str:
    with contextlib.suppress(OSError):
        return printable(path.read_text(encoding="utf-8", errors="replace")[:200]) or "another process"
    return "another process"
