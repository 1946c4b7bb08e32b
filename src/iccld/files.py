"""Reading of regular files up to a maximum size, and atomic writing.

During an atomic write, other processes read either the old file or the complete new file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import platform
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from iccld import archives, remote
from iccld.errors import InputError, RunFailedError
from iccld.escaping import visible

AnyPath = str | os.PathLike[str]
_LARGEST_REMOTE = 2**31
# With ``O_NONBLOCK``, ``os.open`` returns immediately even if the path is a pipe (FIFO). The other flags keep the file
# from child processes, and a terminal from becoming the controlling terminal. Windows does not have these flags.
_NO_WAIT = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY"))


def printable(name: str) -> str:
    """Returns a file name for printing: bytes that are not UTF-8 become �, and control characters become escapes."""
    with contextlib.suppress(UnicodeEncodeError):  # not a possible file name
        name = os.fsencode(name).decode("utf-8", "replace")
    return visible(name)


def as_file_name(name: str) -> str:
    """Returns a name that is valid on every file system. Characters other than ASCII letters, digits and - become _."""
    return re.sub(r"[^A-Za-z0-9-]", "_", name)


@contextlib.contextmanager
def open_regular(path: AnyPath) -> Iterator[io.BufferedReader]:
    """Opens a regular file, or a file in object storage or in a tar archive, for reading. Links are followed.

    The type of the file is checked before and after opening, because another process can replace the file in between.

    Raises:
        InputError: The file is missing, is not a regular file (a pipe, for example) or cannot be read. An ``OSError``
            in the ``with`` block also becomes an ``InputError``.
    """
    if url := remote.url_of(path):
        yield io.BufferedReader(io.BytesIO(_read_remote(url, _LARGEST_REMOTE)))
        return
    if member := archives.find(path):
        with open_regular(member.archive) as handle:
            yield member.window(handle)
        return
    shown = printable(str(path))
    try:
        _refuse_special(shown, os.stat(path).st_mode)  # opening a device can have side effects
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NO_WAIT)) as handle:
            _refuse_special(shown, os.fstat(handle.fileno()).st_mode)
            yield handle
    except FileNotFoundError as error:
        raise InputError(f"{shown}: no such file") from error
    except OSError as error:
        raise InputError(f"{shown}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        if isinstance(error, InputError) or "null" not in str(error):
            raise
        raise InputError(f"{shown!r}: no file has such a name") from error


def read_bounded(path: AnyPath, limit: int) -> bytes:
    """Reads a regular file of at most ``limit`` bytes.

    Raises ``InputError`` if the file has more than ``limit`` bytes, cannot be read or changes while it is read.
    """
    if url := remote.url_of(path):
        return _read_remote(url, limit)
    shown = printable(str(path))
    if member := archives.find(path):
        if member.size > limit:
            raise _too_large(shown, limit)
        with open_regular(member.archive) as handle:
            return member.window(handle).read()
    with open_regular(path) as handle:
        before = os.fstat(handle.fileno())
        # Kernel files, such as those in /proc, report size 0 although they have content, so 64 KiB are requested. One
        # additional byte is requested to detect a file that exceeds ``limit`` or grows while it is read.
        data = handle.read(min(limit, before.st_size or 1 << 16) + 1) if before.st_size <= limit else b""
        after = os.fstat(handle.fileno())
    if max(before.st_size, len(data)) > limit:
        raise _too_large(shown, limit)
    changed = (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns)
    if changed or (before.st_size and len(data) != before.st_size):
        raise InputError(f"{shown}: changed while it was read; try again when it is complete")
    return data


def _read_remote(url: str, limit: int) -> bytes:
    data = remote.read(url, limit + 1)
    if len(data) > limit:
        raise _too_large(printable(url), limit)
    return data


def _too_large(shown: str, limit: int) -> InputError:
    return InputError(f"{shown}: is larger than the {in_bytes(limit)} that are read of such a file")


def exists(path: AnyPath) -> bool:
    """Returns whether there is a regular file, on disk or in object storage."""
    url = remote.url_of(path)
    if url is None:
        return os.path.isfile(path)
    folder, _, name = url.rpartition("/")
    return name in remote.names(folder)


def names_in(folder: AnyPath) -> list[str]:
    """Returns the sorted names in a folder, on disk or in object storage. A missing folder has none."""
    url = remote.url_of(folder)
    if url is not None:
        return remote.names(url)
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def remove(path: AnyPath) -> None:
    """Removes a file, on disk or in object storage."""
    url = remote.url_of(path)
    if url is None:
        os.unlink(path)
    else:
        remote.remove(url)


def in_bytes(count: int) -> str:
    """Formats a number of bytes: 512 bytes, 64 KB, 1.5 GB."""
    size, unit = float(count), "bytes"
    for larger in ("KB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"


def free_bytes(folder: Path) -> int:
    """Returns the number of free bytes on the disk of a folder. The folder itself need not exist."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))
    try:
        return shutil.disk_usage(there).free
    except OSError as error:
        raise InputError(f"{folder}: cannot be looked at ({error.strerror or error})") from error


def _refuse_special(shown: str, mode: int) -> None:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe (FIFO)", stat.S_IFSOCK: "a socket"}
    if not stat.S_ISREG(mode):
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise InputError(f"{shown}: is {kind}, not a regular file; name a file")


@contextlib.contextmanager
def replacing(path: AnyPath) -> Iterator[Path]:
    """Yields a temporary path beside ``path``. At the end, the temporary file is synced and renamed to ``path``.

    Missing parent folders are created. After an error, an existing file at ``path`` is unchanged. Raises
    ``RunFailedError`` if the disk is full or broken, and ``InputError`` if the folder cannot be written. If ``path``
    is a URL, the temporary file is in a temporary folder, and is uploaded at the end.
    """
    path = Path(path)
    if url := remote.url_of(path):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder, path.name)
            remote.write(url, Path(folder, path.name))
        return
    # The suffix stays last, because image writers derive the format from the suffix. A process id alone would not be
    # unique, because several threads or several machines can write to the same folder.
    writer = f"{_host()}-{os.getpid()}-{os.urandom(4).hex()}"
    temporary = path.with_name(f".{path.stem}.{writer}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent)
        temporary.touch()
        mode = temporary.stat().st_mode & 0o777
        temporary.unlink()
        yield temporary
        temporary.chmod(mode)  # some writers create files that only the owner may read
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise write_failure(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # renamed already, or never created
            temporary.unlink()


@cache
def _host() -> str:
    """Returns a short id of the machine and the PID namespace.

    The namespace is included because processes in different containers on one machine can have equal process ids.
    """
    name = platform.node()
    with contextlib.suppress(OSError):
        name += f" {os.readlink('/proc/self/ns/pid')}"
    return hashlib.sha256(name.encode()).hexdigest()[:8]


@cache
def _remove_abandoned(folder: Path) -> None:
    """Removes temporary files of killed processes. Each folder is listed only once, because this takes time."""
    if os.name != "posix":  # on Windows, ``os.kill(pid, 0)`` does not check a process but sends Ctrl-C
        return
    for entry in os.scandir(folder):
        match = re.fullmatch(rf"\..*\.{_host()}-([0-9]+)-[0-9a-f]{{8}}\.tmp(\..*)?", entry.name, re.DOTALL)
        with contextlib.suppress(OSError):  # the process or the file belongs to another user
            try:
                if match:
                    os.kill(int(match[1]), 0)
            except (ProcessLookupError, OverflowError):
                os.unlink(entry.path)


def write_atomic(path: AnyPath, write: Callable[[Path], object]) -> Path:
    """Calls ``write`` with a temporary path, renames the written file to ``path``, and returns ``path``."""
    with replacing(path) as temporary:
        write(temporary)
    return Path(path)


def write_text(path: AnyPath, text: str) -> Path:
    """Writes UTF-8 text atomically."""
    return write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: AnyPath, value: Any) -> Path:
    """Writes indented JSON atomically. Raises ``ValueError`` for NaN, which the caller must replace by ``None``."""
    return write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_failure(path: Path, error: OSError) -> InputError | RunFailedError:
    """Returns the error to raise after a failed attempt to write a file or folder."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        problem = f"{path}: cannot be written, the disk is full"
        return RunFailedError(f"{problem}; free some space and run the same command again")
    problem = f"{path}: cannot be written ({error.strerror or error})"
    hints = {errno.EIO: "the disk may be broken", errno.EFBIG: "see ulimit -f"}
    if error.errno in hints:
        return RunFailedError(f"{problem}; {hints[error.errno]}")
    return InputError(f"{problem}; choose a folder that you may write to")
