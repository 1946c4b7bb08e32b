"""One process at a time in a folder that a command writes to.

The lock is a record lock of the kernel on a file that names its owner: it ends with the process however that ends, is
not inherited by forked workers, and leaves a file behind only after a kill. Such a file is taken over, unless it was
written on another machine, whose processes cannot be looked at from here.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iccld.errors import InputError
from iccld.files import printable, write_failure

LOCK = ".iccld.lock"
_BUSY = (errno.EACCES, errno.EAGAIN)

# Locks of this process, with the thread that took each: the kernel's do not keep a process from itself.
_held: dict[str, int] = {}
_guard = threading.Lock()


@contextlib.contextmanager
def working_in(folder: str | os.PathLike[str], *, patience: float = 0.0) -> Iterator[None]:
    """Keeps other processes of ours out of a folder; the thread that is in may enter once more.

    The folder and those above it are made if they are missing, and removed at the end if they are empty. Where the
    system has no record locks (Windows), nobody is kept out.

    Args:
        folder: to work in.
        patience: seconds to wait for a process that is at work there, as one that saves before it ends.

    Raises:
        InputError: another process is at work in the folder, or was on another machine; or it cannot be written.
    """
    folder = Path(folder)
    key = os.path.realpath(folder)
    with _guard:
        owner = _held.get(key)
        if owner is None:
            _held[key] = threading.get_ident()
    if owner == threading.get_ident():
        yield
        return
    if owner is not None:
        raise InputError(_busy(folder, {"pid": os.getpid(), "host": platform.node()}))
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        handle = None
        try:
            handle = _take(folder, time.monotonic() + patience)
            yield
        finally:
            _leave(folder, handle, made=made)
    finally:
        with _guard:
            del _held[key]


def _take(folder: Path, deadline: float) -> int | None:
    """Takes the lock, by a time of the monotonic clock; gives the open file."""
    if sys.platform == "win32":
        return None
    import fcntl

    path = folder / LOCK
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666
            )
        except OSError as error:
            raise write_failure(folder, error) from error
        try:
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in _BUSY and time.monotonic() < deadline:
                    time.sleep(0.1)
                    os.close(handle)
                    continue
                if error.errno in _BUSY:
                    raise InputError(_busy(folder, _read(handle))) from error
                _refuse_living(folder, _read(handle))  # a file system without record locks
            if not _is_still(path, handle):  # its owner has just removed it
                os.close(handle)
                continue
            _refuse_elsewhere(folder, _read(handle))
            try:
                os.ftruncate(handle, 0)
                os.pwrite(handle, json.dumps(_own()).encode(), 0)
            except OSError as error:
                path.unlink()
                raise write_failure(path, error) from error
        except BaseException:
            os.close(handle)
            raise
        return handle


def _leave(folder: Path, handle: int | None, *, made: list[Path]) -> None:
    if handle is not None:
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()
        os.close(handle)
    with contextlib.suppress(OSError):  # one holds something, as it should
        for place in made:
            place.rmdir()


def _own() -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "boot": _boot(),
        "started": _started(os.getpid()),
        "since": now,
    }


def _read(handle: int) -> dict[str, Any]:
    """What the file says of its owner; nothing where it says nothing."""
    try:
        value = json.loads(os.pread(handle, 4096, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle))
    except OSError:
        return False


def _boot() -> str:
    """Names the running kernel: containers of one machine have it in common, whatever they call their hosts."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process began, in ticks since the start of the machine; empty if there is none or nobody knows."""
    try:
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()[19]
        )
    except (OSError, IndexError):
        return ""


def _refuse_elsewhere(folder: Path, owner: dict[str, Any]) -> None:
    here = owner.get("host") == platform.node() or (owner.get("boot") == _boot() and _boot())
    if owner and not here:
        raise InputError(
            f"{_busy(folder, owner)}; if nothing runs on that machine any more, remove {folder / LOCK}"
        )


def _refuse_living(folder: Path, owner: dict[str, Any]) -> None:
    pid = owner.get("pid")
    if owner.get("boot") != _boot() or not isinstance(pid, int) or not owner.get("started"):
        return
    if _started(pid) == owner["started"]:
        raise InputError(_busy(folder, owner))


def _busy(folder: Path, owner: dict[str, Any]) -> str:
    who = (
        f"process {owner['pid']} on {printable(str(owner.get('host')))}"
        if owner.get("pid")
        else "another process"
    )
    since = f" since {printable(str(owner['since']))}" if owner.get("since") else ""
    return f"{folder}: {who} is at work in this folder{since}; wait for it to end, or choose another folder"
