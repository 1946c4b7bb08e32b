"""Access to the operating system: usable processors, memory, and a signal when the parent process ends."""

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

_PR_SET_PDEATHSIG = 1  # option of prctl(2)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # parameters of mallopt(3), from malloc.h
_LARGEST = 2**31 - 1
_LARGEST_OF_OLD = 2**25  # maximum threshold in bytes in glibc before 2.35


def usable_cores(root: Path = Path("/")) -> int:
    """Returns the number of processors that the process may use according to its CPU affinity and its cgroup quotas."""
    affinity = getattr(os, "sched_getaffinity", None)  # missing on some systems
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    for group in _groups(root):
        words = read_text(group / "cpu.max").split()
        if len(words) == 2 and all(word.isdecimal() and int(word) for word in words):
            cores = min(cores, math.ceil(int(words[0]) / int(words[1])))
    return max(1, cores)


def _groups(root: Path) -> list[Path]:
    """Returns the folders of the process's cgroup (version 2) and of all parent groups up to the root group.

    Some of these folders may not exist. In a container, the kernel can report the path that the cgroup has on the host.
    """
    base = root / "sys/fs/cgroup"
    paths = re.findall("^0::/?(.*)", read_text(root / "proc/self/cgroup"), re.MULTILINE)
    folders = [folder for path in paths for folder in (base / path, *(base / path).parents)]
    return [folder for folder in folders if folder.is_relative_to(base)]


def free_memory(root: Path = Path("/")) -> int | None:
    """Returns the number of bytes that the process can still allocate. Returns ``None`` if the number is unknown.

    The number is the smallest of three values: the free memory of the machine, the free memory within the cgroup
    limits, and the free part of the address space limit.
    """
    found = [number << 10 for number in _numbers(root / "proc/meminfo", "MemAvailable:")]
    for group in _groups(root):
        limit, usage = (read_text(group / f"memory.{name}").strip() for name in ("max", "current"))
        if limit.isdecimal() and usage.isdecimal():
            # Cached file pages count as free, because the system frees them when memory is needed.
            found.append(int(limit) - int(usage) + sum(_numbers(group / "memory.stat", "inactive_file")))
    for number in _numbers(root / "proc/self/limits", "Max address space"):
        found.append(number - (sum(_numbers(root / "proc/self/status", "VmSize:")) << 10))
    return max(0, min(found)) if found else None


def own_memory(root: Path = Path("/")) -> int:
    """Returns the resident memory of the process in bytes. Returns 0 if the system does not report this number."""
    return sum(_numbers(root / "proc/self/status", "VmRSS:")) << 10


def _numbers(path: Path, name: str) -> list[int]:
    """Returns the numbers directly after ``name`` in all lines of a file that begin with ``name``."""
    words = [line[len(name) :].split() for line in read_text(path).splitlines() if line.startswith(name)]
    return [int(rest[0]) for rest in words if rest and rest[0].isdecimal()]


def read_text(path: str | Path) -> str:
    """Returns the text of a kernel file, such as those in /proc, or an empty text if the file cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def keep_freed_memory() -> None:
    """Makes glibc keep the memory of freed tensors for later tensors, instead of returning it to the system.

    By default, glibc requests the memory of each large tensor from the system again. This causes at least ten thousand
    page faults per training step, which take up to a tenth of the time (docs/performance.md). The function does nothing
    without glibc, or if environment variables already configure the allocator.
    """
    library = _glibc()
    if library is None or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    # The trim threshold and the padding are set only if glibc accepts the mmap threshold. Alone, these two parameters
    # would only stop glibc from adapting the mmap threshold.
    if any(library.mallopt(_MMAP_THRESHOLD, size) for size in (_LARGEST, _LARGEST_OF_OLD)):
        library.mallopt(_TRIM_THRESHOLD, _LARGEST)
        library.mallopt(_TOP_PAD, 64 * 2**20)


def release_freed_memory() -> None:
    """Returns freed memory to the system. A call before a fork prevents child processes from keeping this memory."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "malloc_trim") else None  # musl has no malloc_trim


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Arranges that this process gets the signal ``number`` when its parent ends, even if the parent is killed."""
    parent = os.getppid()
    if platform.system() == "Linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # the parent ended before the call of prctl
            os.kill(os.getpid(), number)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True).start()
