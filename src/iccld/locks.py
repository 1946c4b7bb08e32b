"""One process at a time in a folder that a command writes to."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from iccld.errors import InputError
from iccld.files import printable, write_failure

LOCK = ".iccld.lock"


@contextlib.contextmanager
def working_in(folder: str | os.PathLike[str], *, patience: float = 0.0) -> Iterator[None]:
    """Keeps other processes of ours out of a folder; the thread that is in may enter once more.

    The folder and those above it are made if they are missing, and removed at the end if they are empty. The lock ends
    with the process, however that ends.

    Args:
        folder: to work in.
        patience: seconds to wait for a process that is at work there, as one that saves before it ends.

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
