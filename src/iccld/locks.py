"""Locks of output folders. Only one process at a time writes to a folder. Folders with unrelated files are refused."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
from collections.abc import Collection, Iterator
from pathlib import Path

from iccld import remote
from iccld.errors import InputError
from iccld.files import AnyPath, names_in, printable, read_bounded, write_failure, write_json

LOCK = ".iccld.lock"
CLAIM = ".iccld.json"
"""Name of a hidden file in output folders. The file lists the commands that have written to the folder."""


@contextlib.contextmanager
def claiming(
    folder: Path,
    command: str,
    what: str,
    *,
    record: str | None = None,
    besides: Collection[str] = (),
    part: Path | None = None,
) -> Iterator[None]:
    """Locks an output folder as ``working_in`` does. The folder must be new, empty or written by the same command.

    The command is added to the list of commands in the hidden file ``.iccld.json``. If nothing else is written into a
    new folder, this file is removed at the end.

    Args:
        folder: Output folder. It counts as written by the command if ``.iccld.json`` lists the command.
        command: Name of the command.
        what: Description of the command's output, for the error message.
        record: Glob pattern. A folder with a matching file also counts as written by the command.
        besides: Names of files that are always allowed. Hidden files are always allowed too.
        part: Folder below ``folder`` that is locked instead, so that several processes can write to ``folder``.

    Raises:
        InputError: The folder contains other files, or cannot be locked.
    """
    if remote.url_of(folder):
        _claim_remote(folder, command, what, besides)
        yield
        return
    place = Path(os.path.realpath(folder))  # resolves paths such as FOLDER/new/..
    note, makers = place / CLAIM, _writers(place)
    is_own = command in makers or (record is not None and any(place.glob(record)))
    if place.is_dir() and not is_own:
        found = sorted(n for n in os.listdir(place) if not n.startswith(".") and n not in besides)
        if found:
            what = f"{what} ({record})" if record else what
            first = printable(found[0])
            raise InputError(f"{folder}: is not empty ({first}) and holds no {what}; choose another folder")
    with working_in(part or folder):
        if command not in makers:
            write_json(note, {"commands": [*makers, command]})
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # the folder may have been removed
                if not makers and all(name.startswith(".iccld") for name in os.listdir(place)):
                    note.unlink()


def _claim_remote(folder: Path, command: str, what: str, besides: Collection[str]) -> None:
    """Counterpart of ``claiming`` for folders in object storage: makes the same checks, but takes no lock."""
    makers = _writers(folder)
    found = (
        []
        if command in makers
        else [n for n in names_in(folder) if not n.startswith(".") and n not in besides]
    )
    if found:
        url, first = remote.url_of(folder), printable(found[0])
        raise InputError(f"{url}: is not empty ({first}) and holds no {what}; choose another folder")
    if command not in makers:
        write_json(folder / CLAIM, {"commands": [*makers, command]})


def _writers(folder: Path) -> list[str]:
    """Returns the commands in a folder's ``.iccld.json``, or an empty list if that file is missing or damaged."""
    try:
        return list(json.loads(read_bounded(folder / CLAIM, 100_000))["commands"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


@contextlib.contextmanager
def working_in(folder: AnyPath, *, patience: float = 0.0) -> Iterator[None]:
    """Locks a folder against other processes of this program. The lock is reentrant within a thread.

    A missing folder and its missing parents are created. At the end, the created folders are removed if they are empty.
    The lock is released when the process ends, even if the process is killed.

    Args:
        folder: Folder to lock.
        patience: Maximum time in seconds to wait for the lock, for example while another process saves its last state.

    Raises:
        InputError: Another process still holds the lock after ``patience`` seconds, or the folder cannot be written.
        RunFailedError: The disk is full.
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


@contextlib.contextmanager
def claiming_file(path: Path) -> Iterator[bool]:
    """Claims the right to make a file, with a hidden lock file beside it. Gives whether the file was free to claim.

    The lock is released when the process ends, even if the process is killed.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(f".{path.name}.lock")
    lock = FileLock(place)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise write_failure(place, error) from error
    try:
        yield True
    finally:
        with contextlib.suppress(OSError):
            place.unlink()
        lock.release()


def _remove_empty(folders: list[Path]) -> None:
    """Removes empty folders in the given order. Stops at the first folder that is not empty."""
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
