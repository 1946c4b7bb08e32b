"""Atomic file writing: a reader sees the old file or the whole new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from iccld.errors import InputError


def printable(name: str) -> str:
    """A file name for people and text files: bytes in it that are no UTF-8 become �."""
    return os.fsencode(name).decode("utf-8", "replace")


def as_file_name(name: str) -> str:
    """Part of a file's name that every file system takes: all but plain letters, digits and - become _."""
    return re.sub(r"[^A-Za-z0-9-]", "_", name)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary name beside ``path`` to write to; at the end the file is synced and renamed into place.

    Args:
        path: the final name; missing parent folders are made.

    Raises:
        InputError: the disk is full or the folder cannot be written; what stood at ``path`` is untouched, as
            after any other error in the ``with`` block.
    """
    path = Path(path)
    # The suffix stays last: image writers choose their format by it.
    # A process id alone tells neither threads apart nor two machines that write to one shared folder.
    writer = f"{os.getpid()}-{os.urandom(4).hex()}"
    temporary = path.with_name(f".{path.stem}.{writer}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode & 0o777
        temporary.unlink()
        yield temporary
        temporary.chmod(mode)  # some writers make files that only their owner may read
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(_explain(path, error)) from error
    finally:
        with contextlib.suppress(OSError):  # nothing there, or the parent is no folder: already explained
            temporary.unlink()


def write_atomic(path: str | os.PathLike[str], write: Callable[[Path], object]) -> Path:
    """Writes a file under a temporary name beside ``path``, syncs it and renames it into place.

    Args:
        path: the final name; missing parent folders are made.
        write: called with the temporary path; it must create that file.

    Returns:
        ``path``.

    Raises:
        InputError: as of ``replacing``.
    """
    with replacing(path) as temporary:
        write(temporary)
    return Path(path)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Writes UTF-8 text atomically."""
    return write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Writes indented JSON atomically; NaN is refused, write None instead."""
    return write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def _explain(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}: cannot be written, the disk is full; free some space and run the same command again"
    return f"{path}: cannot be written ({error.strerror or error}); choose a folder that you may write to"
