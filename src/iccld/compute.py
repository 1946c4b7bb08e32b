"""Which number format a device computes in at speed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch


@cache
def has_fast_bf16(device_type: str) -> bool:
    """Tells whether bf16 is faster than fp32: CUDA from Ampere on, CPUs with AMX or AVX-512 BF16."""
    if device_type == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
    if device_type == "cpu":
        try:
            flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        except OSError:
            return False
        return "amx_bf16" in flags or "avx512_bf16" in flags
    return False


def autocast(device_type: str, precision: str = "auto") -> torch.autocast:
    """The context in which a network runs.

    Args:
        device_type: cpu, cuda or mps.
        precision: bf16, fp32, or auto: bf16 where the device is fast at it.
    """
    enabled = precision == "bf16" or (precision == "auto" and has_fast_bf16(device_type))
    return torch.autocast(device_type, dtype=torch.bfloat16, enabled=enabled)
