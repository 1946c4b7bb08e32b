"""What can only be seen on a CUDA device; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from iccld.cli import main
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

IMAGE = np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)


def _flags(out: Path, *more: str) -> list[str]:
    words = (
        "train demo --steps 4 --device cuda --log-every 1 --checkpoint-every 10 --data.source-count 4 "
        "--data.target-count 4 --data.val-count 2 --data.source-size 64 96 --data.target-size 64 96 "
        "--data.crop 64 64 --data.batch-size 2 --data.num-workers 0 --adaptation.start 0.1 "
        "--adaptation.mixing classmix --adaptation.adversarial-weight 0.02 --adaptation.adversarial-warmup 0.2"
    )
    return [*words.split(), "--out", str(out), *more]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_trains_stops_resumes_and_predicts(
    precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(_flags(out, "--precision", precision, "--stop-at", "3")) == 0
    assert main(_flags(out, "--precision", precision)) == 0
    captured = capsys.readouterr()
    assert "resuming from step 3" in captured.out
    assert "cuda" in captured.out
    tensors = load_file(out / "checkpoints" / "step-00000004.safetensors")
    assert all(bool(torch.isfinite(value).all()) for value in tensors.values())
    assert int(tensors["teacher/n_averaged"]) == 4
    model = ICCLD.from_pretrained(out).to("cuda")
    assert model.predict(IMAGE, steps=2, draws=2).labels.shape == (96, 160)


@pytest.mark.parametrize("window", [None, (64, 96)])
def test_answers_as_on_the_cpu(window: tuple[int, int] | None) -> None:
    """The noise comes from the CPU's generator, so that a seed means the same on every device."""
    torch.manual_seed(0)
    model = ICCLD(CAMVID11).eval()
    on_cpu = model.predict(IMAGE, steps=2, draws=2, window=window, precision="fp32")
    on_gpu = model.to("cuda").predict(IMAGE, steps=2, draws=2, window=window, precision="fp32")
    np.testing.assert_allclose(on_gpu.probabilities, on_cpu.probabilities, atol=2e-2)
    assert float((on_gpu.labels == on_cpu.labels).mean()) > 0.98


def test_prediction_leaves_the_devices_random_state_alone() -> None:
    model = ICCLD(CAMVID11).eval().to("cuda")
    state = torch.cuda.get_rng_state()
    model.predict(IMAGE, draws=2)
    assert torch.equal(torch.cuda.get_rng_state(), state)


def test_the_first_step_is_the_cpus(tmp_path: Path) -> None:
    """In fp32 the losses of the first step agree; later ones drift apart with the order of sums."""
    from iccld.training.tracking import read_metrics

    for device in ("cuda", "cpu"):
        words = _flags(tmp_path / device, "--precision", "fp32", "--steps", "1", "--device", device)
        assert main(words) == 0
    on_gpu, on_cpu = (read_metrics(tmp_path / device / "metrics.csv")[0] for device in ("cuda", "cpu"))
    for name in ("train/loss", "train/loss_seg_source", "train/loss_denoising_source"):
        assert float(on_gpu[name]) == pytest.approx(float(on_cpu[name]), rel=2e-2)
