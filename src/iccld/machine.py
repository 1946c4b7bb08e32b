"""What the operating system grants this process: processors, memory, and an end together with its parent."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import re
import signal
import sys
import threading
import time
from functools import cache
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # of prctl(2)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # names of mallopt(3), from malloc.h
_LARGEST = 2**31 - 1
_LARGEST_OF_OLD = 2**25  # glibc before 2.35 takes no more


def usable_cores(root: Path = Path("/")) -> int:
    """Counts the processors that this process may keep busy: its affinity, and the quota of its control groups."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    for group in _groups(root):
        words = read_text(group / "cpu.max").split()
        if len(words) == 2 and all(word.isdecimal() and int(word) for word in words):
            cores = min(cores, math.ceil(int(words[0]) / int(words[1])))
    return max(1, cores)


def _groups(root: Path) -> list[Path]:
    """The folders of the control groups (version 2) that this process is in, up to the root."""
    base = root / "sys/fs/cgroup"
    # In a container the path may be the host's: then only the mount's own root is visible.
    paths = re.findall("^0::/?(.*)", read_text(root / "proc/self/cgroup"), re.MULTILINE)
    folders = [folder for path in paths for folder in (base / path, *(base / path).parents)]
    return [folder for folder in folders if folder.is_relative_to(base)]


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take: of the machine, its control groups and its limit of addresses.

    None where the system does not tell; ``proc`` and ``sys`` lie in ``root``.
    """
    found = [number << 10 for number in _numbers(root / "proc/meminfo", "MemAvailable:")]
    for group in _groups(root):
        limit, usage = (read_text(group / f"memory.{name}").strip() for name in ("max", "current"))
        if limit.isdecimal() and usage.isdecimal():
            # Pages of files are given back when they are needed.
            found.append(int(limit) - int(usage) + sum(_numbers(group / "memory.stat", "inactive_file")))
    for number in _numbers(root / "proc/self/limits", "Max address space"):
        found.append(number - (sum(_numbers(root / "proc/self/status", "VmSize:")) << 10))
    return max(0, min(found)) if found else None


def own_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process occupies; 0 where the system does not tell."""
    return sum(_numbers(root / "proc/self/status", "VmRSS:")) << 10


def _numbers(path: Path, name: str) -> list[int]:
    """The first number behind a name at the start of a line; none where there is no number."""
    words = [line[len(name) :].split() for line in read_text(path).splitlines() if line.startswith(name)]
    return [int(rest[0]) for rest in words if rest and rest[0].isdecimal()]


def read_text(path: str | Path) -> str:
    """What a file of the kernel says; nothing where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def keep_freed_memory() -> None:
    """Makes the C library keep what tensors free for the next ones, rather than give it back to the system.

    The tensors of every training step are alike, and glibc asks the system for each large one anew: ten thousand
    page faults a step and more, and up to a tenth of its time (docs/performance.md). Nothing changes elsewhere than
    on glibc, nor where the environment already says how memory is to be kept.
    """
    library = _glibc()
    if library is None or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    # Without the first of these, the others would end glibc's own adaptation and make things worse.
    if any(library.mallopt(_MMAP_THRESHOLD, size) for size in (_LARGEST, _LARGEST_OF_OLD)):
        library.mallopt(_TRIM_THRESHOLD, _LARGEST)
        library.mallopt(_TOP_PAD, 64 * 2**20)


def release_freed_memory() -> None:
    """Gives back to the system what has been kept: before a fork, whose child would hold it, and after the work."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "malloc_trim") else None  # musl has none


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Makes this process get a signal (``number``) when its parent ends, however that ends."""
    parent = os.getppid()
    if platform.system() == "Linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it ended in between
            os.kill(os.getpid(), number)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True).start()
