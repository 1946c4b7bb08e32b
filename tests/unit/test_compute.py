from __future__ import annotations

from pathlib import Path

import pytest
import torch

from iccld.compute import autocast, choose_device, has_fast_bf16, uses_bf16


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("flags : fpu avx512_bf16 amx_tile", True), ("flags : amx_bf16", True), ("flags : avx2 avx512f", False)],
)
def test_processors_that_compute_in_bf16(monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self, **_: flags)
    assert has_fast_bf16.__wrapped__("cpu") is expected


def test_unknown_processors_and_devices_compute_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, **_: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", fail)
    assert has_fast_bf16.__wrapped__("cpu") is False
    assert has_fast_bf16("mps") is False


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_precision_is_as_asked(precision: str, dtype: torch.dtype) -> None:
    with autocast("cpu", precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_auto_follows_the_processor() -> None:
    with autocast("cpu"):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert (product.dtype == torch.bfloat16) == has_fast_bf16("cpu")


def test_a_named_device_or_precision_is_itself() -> None:
    assert [choose_device(name) for name in ("cpu", "cuda", "mps")] == ["cpu", "cuda", "mps"]
    assert choose_device("auto") in ("cpu", "cuda", "mps")
    assert uses_bf16("cpu", "bf16")
    assert not uses_bf16("cpu", "fp32")
    assert uses_bf16("cpu", "auto") == has_fast_bf16("cpu")
