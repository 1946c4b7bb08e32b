"""Files in uncompressed tar archives, which are read in place. No file is extracted.

The path of a member is the path of its archive and the member's name: ``shards/000000.tar/frame.image.jpg``.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

from iccld.errors import InputError

ENDING = ".tar"
_MOST_MEMBERS = 1_000_000
_MOST_HEADER = 8192  # bytes of a header; the time to parse a header can be quadratic in its length
_KEPT = 256  # archives whose lists of members stay in memory


@dataclass(frozen=True)
class Member:
    """A file in an archive: the archive's path, and the position and size of the file in bytes.

    ``mtime_ns`` is the time of the archive's last change.
    """

    archive: str
    offset: int
    size: int
    mtime_ns: int

    def window(self, handle: BinaryIO) -> io.BufferedReader:
        """Returns the member as a file that can be read. ``handle`` is the open archive."""
        return io.BufferedReader(_Window(handle, self.offset, self.size))


def find(path: str | os.PathLike[str]) -> Member | None:
    """Returns the member at a path, or ``None`` if no part of the path is an archive or the archive has no such member.

    Raises ``InputError`` if the archive is damaged.
    """
    text, mark = os.fspath(path), f"{ENDING}/"
    place = text.find(mark)
    while place >= 0:  # folders may have such names too
        archive = text[: place + len(ENDING)]
        if os.path.isfile(archive):
            return members(archive).get(text[place + len(mark) :])
        place = text.find(mark, place + 1)
    return None


def members(archive: str | os.PathLike[str]) -> Mapping[str, Member]:
    """Returns name → member for the files of an archive, in their order. Links and special files are left out.

    Raises ``InputError`` if the archive is missing, damaged, compressed, incomplete or too large.
    """
    path = os.fspath(archive)
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            raise InputError(f"{path}: is no regular file; remove it, or name it otherwise")
        return _members(path, facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


@lru_cache(_KEPT)
def _members(path: str, size: int, mtime_ns: int) -> Mapping[str, Member]:
    found: dict[str, Member] = {}
    try:
        with open(path, "rb") as handle, tarfile.open(fileobj=_Bounded(handle), mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every header
                if info.offset_data + info.size > size or info.size < 0:
                    raise tarfile.ReadError("it is incomplete")
                if info.isreg() and not info.issparse():
                    found[info.name.removeprefix("./")] = Member(path, info.offset_data, info.size, mtime_ns)
                if len(found) > _MOST_MEMBERS:
                    raise tarfile.ReadError(f"it has more than {_MOST_MEMBERS:,} files")
            handle.seek(tar.offset)
            if handle.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile ignores a cut header
                raise tarfile.ReadError("it is incomplete")
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{path}: is no uncompressed tar archive ({error}); write it again") from error
    return found


class _Bounded:
    """A file of which only a short part can be read at once, since headers of tar archives can demand any length."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle

    def read(self, size: int) -> bytes:
        if size > _MOST_HEADER:
            raise tarfile.ReadError("a header is too long")
        return self._handle.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)


class _Window(io.RawIOBase):
    """A part of an open file, as a file of its own."""

    def __init__(self, handle: BinaryIO, offset: int, size: int) -> None:
        self._handle, self._offset, self._size, self._at = handle, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        self._handle.seek(self._offset + self._at)
        data = self._handle.read(min(len(view), max(0, self._size - self._at)))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
