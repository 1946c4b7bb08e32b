"""How the C library keeps memory."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # names of mallopt(3), from malloc.h
_LARGEST = 2**31 - 1
_LARGEST_OF_OLD = 2**25  # glibc before 2.35 takes no more


def keep_freed_memory() -> None:
    """Makes the C library keep what tensors free for the next ones, rather than give it back to the system.

    The tensors of every training step are alike, and glibc asks the system for each large one anew: ten thousand
    page faults a step and more, and up to a tenth of its time (docs/performance.md). Nothing changes elsewhere than
    on glibc, nor where the environment already says how memory is to be kept.
    """
    library = _glibc()
    if library is None or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    # The first of them to be taken; without it the others would end glibc's own adaptation and make things worse.
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
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None  # musl has none
