"""Two processes train one model, as ``torchrun`` starts them, on the CPU."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from iccld.cli import main
from iccld.models.iccld import ICCLD
from iccld.training.tracking import read_metrics

Flags = Callable[..., list[str]]

# What each rank runs: the command line itself, and then its tensors to a file of its own.
_RANK = """
import os, sys
from pathlib import Path
from safetensors.torch import save_file
from iccld.training.checkpoint import pack_module
from iccld.training.loop import Trainer

original = Trainer.run

def run(self):
    outcome = original(self)
    tensors = pack_module("student", self.model) | pack_module("teacher", self.teacher)
    if self.discriminator is not None:
        tensors |= pack_module("discriminator", self.discriminator)
    tensors = {name: value.contiguous().clone() for name, value in tensors.items()}
    save_file(tensors, Path(sys.argv[1], f"rank{os.environ['RANK']}.safetensors"))
    return outcome

Trainer.run = run
from iccld.cli import main
sys.exit(main(sys.argv[2:]))
"""

# A setting in which the loss of a batch is the mean of the losses of its images, whatever the random numbers:
# no diffusion, no noise on the reconstruction, every pixel labeled, labels that no 2×2 block divides.
STILL = shlex.split(
    """--method source_only --model.no-diffusion --adaptation.reconstruction-weight 0 --optim.grad-clip 1e9
    --data.no-rare-class-sampling --data.label-space cityscapes19 --data.crop 64 96"""
)


def _torchrun(folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    script = folder / "rank.py"
    script.write_text(_RANK)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launcher, str(script), str(folder), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def _ranks(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    return load_file(folder / "rank0.safetensors"), load_file(folder / "rank1.safetensors")


def _assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert not [name for name, value in one.items() if not torch.equal(value, other[name])]


@pytest.mark.slow
def test_ranks_agree_and_resume(flags: Flags, tmp_path: Path) -> None:
    """With all links off, so that some weights take no part: distributed training has to know."""
    out = tmp_path / "run"
    words = flags(out, "--steps", "5", "--model.no-context-links", "--model.no-detail-links")
    first = _torchrun(tmp_path, [*words, "--stop-at", "4"])
    assert first.returncode == 0, first.stderr
    assert "2 ranks" in first.stdout
    assert first.stdout.count("labelled:") == 1, "one rank speaks"
    one, other = _ranks(tmp_path)
    assert any(name.startswith("discriminator/") for name in one)
    assert int(one["teacher/n_averaged"]) == 4
    _assert_equal(one, other)
    saved = load_file(out / "checkpoints" / "step-00000004.safetensors")
    _assert_equal(one, {name: saved[name] for name in one})

    second = _torchrun(tmp_path, words)
    assert second.returncode == 0, second.stderr
    assert second.stdout.count("resuming from step 4") == 1
    one, other = _ranks(tmp_path)
    assert int(one["teacher/n_averaged"]) == 5
    _assert_equal(one, other)
    assert len(read_metrics(out / "metrics.csv")) >= 2
    ICCLD.from_pretrained(out)


@pytest.mark.slow
def test_two_ranks_are_one_with_a_batch_of_both(flags: Flags, tmp_path: Path) -> None:
    """They take the same samples, and their gradients are averaged."""
    words = [*STILL, "--steps", "3"]
    result = _torchrun(tmp_path, flags(tmp_path / "two", *words))
    assert result.returncode == 0, result.stderr
    assert main(flags(tmp_path / "one", *words, "--data.batch-size", "2")) == 0
    _assert_close(_student(tmp_path / "two", 3), _student(tmp_path / "one", 3))


def test_accumulated_micro_batches_are_one_batch(flags: Flags, tmp_path: Path) -> None:
    words = [*STILL, "--steps", "3"]
    assert main(flags(tmp_path / "parts", *words, "--optim.accumulation", "2")) == 0
    assert main(flags(tmp_path / "whole", *words, "--data.batch-size", "2")) == 0
    assert main(flags(tmp_path / "half", *words)) == 0
    _assert_close(_student(tmp_path / "parts", 3), _student(tmp_path / "whole", 3))
    with pytest.raises(AssertionError):
        _assert_close(_student(tmp_path / "half", 3), _student(tmp_path / "whole", 3))


def _student(run: Path, step: int) -> dict[str, torch.Tensor]:
    """The first moments of the gradients: weights after Adam's first steps are signs of them, too coarse to compare."""
    tensors = load_file(run / "checkpoints" / f"step-{step:08d}.safetensors")
    return {name: value for name, value in tensors.items() if name.endswith("/exp_avg")}


def _assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    differences = torch.cat([(one[name] - other[name]).flatten() for name in one])
    scale = torch.cat([other[name].flatten() for name in one]).norm()
    assert float(differences.norm() / scale) < 0.02
