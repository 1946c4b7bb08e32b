"""Locks of output folders: one process at a time writes to a folder, which must not contain unrelated files."""

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
"""Name of the hidden file in a folder that lists the commands that have written to the folder."""


@contextlib.contextmanager
def claiming(
    folder: Path, command: str, what: str, *, record: str | None = None, besides: Collection[str] = ()
) -> Iterator[None]:
    """Locks an output folder as ``working_in`` does. The folder must be new, empty or written by the same command.

    A folder counts as written by the command if its hidden file ``.iccld.json`` lists the command, or if a file in it
    matches the glob pattern ``record``. Hidden files and files named in ``besides`` are always allowed. The command is
    added to ``.iccld.json``. If nothing else is written into a new folder, ``.iccld.json`` is removed at the end.
    Raises ``InputError`` for other files, which calls the usual content of the folder ``what``.
    """
    place = Path(os.path.realpath(folder))  # resolves paths such as FOLDER/new/..
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
            with contextlib.suppress(OSError):  # the folder may have been removed
                if not makers and all(name.startswith(".iccld") for name in os.listdir(place)):
                    note.unlink()


def _writers(folder: Path) -> list[str]:
    """Returns the commands in a folder's ``.iccld.json``, or an empty list if that file is missing or damaged."""
    try:
        return list(json.loads(read_bounded(folder / CLAIM, 100_000))["commands"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


@contextlib.contextmanager
def working_in(folder: AnyPath, *, patience: float = 0.0) -> Iterator[None]:
    """Locks a folder against other processes of this program. A thread can lock the same folder repeatedly.

    The folder and its parents are created if they are missing, and removed at the end if they are empty. The lock is
    released when the process ends, even if the process is killed. If another process holds the lock, the call waits for
    at most ``patience`` seconds, for example while that process saves its last state. Raises ``InputError`` if it holds
    the lock longer or if the folder cannot be written, and ``RunFailedError`` if the disk is full.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    path = Path(os.path.realpath(folder)) / LOCK
    lock = FileLock(path, is_singleton=True)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(_remove_empty, [place for place in (folder, *folder.parents) if not place.exists()])
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=patience)
        except Timeout as error:
            problem = f"{folder}: {_owner(path)} is at work in this folder"
            raise InputError(f"{problem}; wait for it to end, or choose another folder") from error
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


def _remove_empty(folders: list[Path]) -> None:
    """Removes folders, inner folders first, up to the first folder that is not empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _sign(path: Path) -> None:
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with contextlib.suppress(OSError):  # a failure is ignored, because the text is only used in messages
        path.write_text(f"process {os.getpid()} on {platform.node()} since {since}", encoding="utf-8")


def _owner(path: Path) -> str:
    with contextlib.suppress(OSError):
        return printable(path.read_text(encoding="utf-8", errors="replace")[:200]) or "another process"
    return "another process"
