"""Choice of the device and of the floating-point precision."""

from __future__ import annotations

from functools import cache

import torch

from iccld.machine import read_text


@cache
def has_fast_bf16(device_type: str) -> bool:
    """Returns whether a device type (cpu or cuda) computes faster in bf16 than in fp32.

    bf16 is faster on CUDA GPUs since Ampere and on CPUs with AMX-BF16 or AVX-512 BF16.
    """
    if device_type == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
    if device_type == "cpu":
        flags = read_text("/proc/cpuinfo")
        return "amx_bf16" in flags or "avx512_bf16" in flags
    return False


def choose_device(device: str) -> str:
    """Returns the given device. For ``auto``, returns the first available device in the order cuda, mps, cpu."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def uses_bf16(device_type: str, precision: str) -> bool:
    """Returns whether a device computes in bf16 with the given precision (auto, bf16 or fp32).

    ``auto`` means bf16 on devices with fast bf16, and fp32 on all other devices.
    """
    return precision == "bf16" or (precision == "auto" and has_fast_bf16(device_type))


def autocast(device_type: str, precision: str = "auto") -> torch.autocast:
    """Returns the autocast context for a device type (cpu, cuda or mps). ``precision`` is auto, bf16 or fp32."""
    return torch.autocast(device_type, dtype=torch.bfloat16, enabled=uses_bf16(device_type, precision))
