"""What the operating system grants this process: processors, memory, and an end together with its parent."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # of prctl(2)


def usable_cores(root: Path = Path("/")) -> int:
    """Counts the processors that this process may keep busy: its affinity, and the quota of its control groups.

    Args:
        root: where ``proc`` and ``sys`` lie.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        cores = os.cpu_count() or 1
    quota = min(_quotas(root), default=math.inf)
    return max(1, min(cores, math.ceil(quota) if math.isfinite(quota) else cores))


def _quotas(root: Path) -> Iterator[float]:
    """The processors granted by each control group (version 1 or 2) that this process is in, up to the root."""
    for group in _groups(root, "cpu"):
        quota = _quota(group)
        if quota is not None:
            yield quota


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the control groups that this process is in, up to the root."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            base = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            base = root / "sys/fs/cgroup" / controller
        else:
            continue
        # In a container the path may be the host's: then only the mount's own root is visible.
        folder = base / path.lstrip("/")
        for group in (folder, *folder.parents):
            if not group.is_relative_to(base):
                break
            yield group


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take: of the machine, its control groups and its limit of addresses.

    Args:
        root: where ``proc`` and ``sys`` lie.

    Returns:
        The number of bytes; None where the system does not tell.
    """
    found = [number << 10 for number in _numbers(root / "proc/meminfo", "MemAvailable:")]
    for group in _groups(root, "memory"):
        for most, used in (("max", "current"), ("limit_in_bytes", "usage_in_bytes")):
            limit, usage = _read(group / f"memory.{most}").strip(), _read(group / f"memory.{used}").strip()
            if limit.isdecimal() and usage.isdecimal():
                # Pages of files are given back when they are needed.
                cached = sum(_numbers(group / "memory.stat", "inactive_file"))
                found.append(int(limit) - int(usage) + cached)
    for number in _numbers(root / "proc/self/limits", "Max address space"):
        found.append(number - (sum(_numbers(root / "proc/self/status", "VmSize:")) << 10))
    return max(0, min(found)) if found else None


def own_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process occupies; 0 where the system does not tell."""
    return sum(_numbers(root / "proc/self/status", "VmRSS:")) << 10


def _numbers(path: Path, name: str) -> list[int]:
    """The first number behind a name at the start of a line; none where there is no number."""
    words = [line[len(name) :].split() for line in _read(path).splitlines() if line.startswith(name)]
    return [int(rest[0]) for rest in words if rest and rest[0].isdecimal()]


def _quota(group: Path) -> float | None:
    words = _read(group / "cpu.max").split()
    if not words:
        words = [*_read(group / "cpu.cfs_quota_us").split(), *_read(group / "cpu.cfs_period_us").split()]
    try:
        quota, period = float(words[0]), float(words[1])
    except (IndexError, ValueError):  # no such file, or "max": no limit
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Makes this process get a signal when its parent ends, however that ends.

    Args:
        number: of the signal.
    """
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
