"""Which number format a device computes in at speed."""

from __future__ import annotations

from functools import cache

import torch

from iccld.machine import read_text


@cache
def has_fast_bf16(device_type: str) -> bool:
    """Tells whether bf16 is faster than fp32: CUDA from Ampere on, CPUs with AMX or AVX-512 BF16."""
    if device_type == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
    if device_type == "cpu":
        flags = read_text("/proc/cpuinfo")
        return "amx_bf16" in flags or "avx512_bf16" in flags
    return False


def choose_device(device: str) -> str:
    """What ``auto`` means here: the first of cuda, mps and cpu that there is; any other name is itself."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def uses_bf16(device_type: str, precision: str) -> bool:
    """Whether a precision (bf16, fp32, or auto: bf16 where the device is fast at it) means bf16."""
    return precision == "bf16" or (precision == "auto" and has_fast_bf16(device_type))


def autocast(device_type: str, precision: str = "auto") -> torch.autocast:
    """The context in which a network runs on cpu, cuda or mps; see ``uses_bf16`` for precisions."""
    return torch.autocast(device_type, dtype=torch.bfloat16, enabled=uses_bf16(device_type, precision))
