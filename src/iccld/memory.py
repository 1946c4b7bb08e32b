"""How the C library keeps memory."""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # names of mallopt(3), from malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Makes the C library keep what tensors free for the next ones, rather than give it back to the system.

    The tensors of every training step are alike, and glibc asks the system for each large one anew: ten thousand
    page faults a step and more, and up to a tenth of its time (docs/performance.md). Nothing changes elsewhere than
    on glibc, nor where the environment already says how memory is to be kept.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return  # musl
    for name, value in ((_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, _LARGEST), (_TOP_PAD, 64 * 2**20)):
        library.mallopt(name, value)
