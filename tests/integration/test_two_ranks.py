"""Two processes train one model, as ``torchrun`` starts them, on the CPU."""

from __future__ import annotations

import json
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

# What each rank runs: the command line, once for each list of words, and then its tensors to a file of its own.
_RANK = """
import json, os, sys
from pathlib import Path
from safetensors.torch import save_file
from iccld.cli import main
from iccld.training.checkpoint import pack
from iccld.training.loop import Trainer

original, folder = Trainer.run, Path(sys.argv[1])

def run(self):
    outcome = original(self)
    tensors = pack({"student": self.update.model, "teacher": self.update.teacher})
    if self.update.discriminator is not None:
        tensors |= pack({"discriminator": self.update.discriminator})
    tensors = {name: value.contiguous().clone() for name, value in tensors.items()}
    save_file(tensors, folder / f"{name}-rank{os.environ['RANK']}.safetensors")
    return outcome

Trainer.run = run
for name, words in json.loads((folder / "runs.json").read_text()).items():
    print("===", name, flush=True)
    code = main(words)
    if code:
        sys.exit(code)
"""

# A setting in which the loss of a batch is the mean of the losses of its images, whatever the random numbers:
# no diffusion, no noise on the reconstruction, every pixel labeled, labels that no 2×2 block divides.
STILL = shlex.split(
    """--method source_only --model.no-diffusion --adaptation.reconstruction-weight 0 --optim.grad-clip 1e9
    --data.no-rare-class-sampling --data.label-space cityscapes19 --data.crop 64 96"""
)


def _torchrun(folder: Path, runs: dict[str, list[str]]) -> subprocess.CompletedProcess[str]:
    script = folder / "rank.py"
    script.write_text(_RANK)
    (folder / "runs.json").write_text(json.dumps(runs))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launcher, str(script), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def _ranks(folder: Path, name: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    return load_file(folder / f"{name}-rank0.safetensors"), load_file(folder / f"{name}-rank1.safetensors")


def _assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert not [name for name, value in one.items() if not torch.equal(value, other[name])]


@pytest.mark.slow
@pytest.mark.usefixtures("own_network")
def test_two_ranks(flags: Flags, tmp_path: Path) -> None:
    """They agree on every number, resume, and are what one process with a batch of both would be.

    All links are off in the first run, so that some weights take no part: distributed training has to know. So it
    has of the label encoder in the rival's.
    """
    out = tmp_path / "run"
    words = flags(out, "--steps", "5", "--model.no-context-links", "--model.no-detail-links")
    still = [*STILL, "--steps", "3"]
    result = _torchrun(
        tmp_path,
        {
            "first": [*words, "--stop-at", "4"],
            "second": words,
            "whole": flags(tmp_path / "whole", "--steps", "3"),
            "rival": flags(tmp_path / "rival", "--steps", "3", "--method", "advent"),
            "still": flags(tmp_path / "two", *still),
        },
    )
    assert result.returncode == 0, result.stderr
    assert "2 ranks" in result.stdout
    assert result.stdout.count("labeled:") == 5, "one rank speaks"
    assert result.stdout.count("resuming from step 4") == 1

    runs = (("first", out, 4), ("second", out, 5), ("whole", tmp_path / "whole", 3))
    for name, folder, steps in (*runs, ("rival", tmp_path / "rival", 3)):
        one, other = _ranks(tmp_path, name)
        assert any(key.startswith("discriminator/") for key in one)
        assert int(one["teacher/n_averaged"]) == steps
        _assert_equal(one, other)
        saved = load_file(folder / "checkpoints" / f"step-{steps:08d}.safetensors")
        _assert_equal(one, {key: saved[key] for key in one})
    assert [row["step"] for row in read_metrics(out / "metrics.csv")] == ["2", "4", "5"]
    ICCLD.from_pretrained(out)

    assert main(flags(tmp_path / "one", *still, "--data.batch-size", "2")) == 0
    _assert_close(_moments(tmp_path / "two", 3), _moments(tmp_path / "one", 3))


def test_accumulated_micro_batches_are_one_batch(flags: Flags, tmp_path: Path) -> None:
    words = [*STILL, "--steps", "3"]
    assert main(flags(tmp_path / "parts", *words, "--optim.accumulation", "2")) == 0
    assert main(flags(tmp_path / "whole", *words, "--data.batch-size", "2")) == 0
    assert main(flags(tmp_path / "half", *words)) == 0
    _assert_close(_moments(tmp_path / "parts", 3), _moments(tmp_path / "whole", 3))
    with pytest.raises(AssertionError):
        _assert_close(_moments(tmp_path / "half", 3), _moments(tmp_path / "whole", 3))


def _moments(run: Path, step: int) -> dict[str, torch.Tensor]:
    """The first moments of the gradients: weights after Adam's first steps are signs of them, too coarse to compare."""
    tensors = load_file(run / "checkpoints" / f"step-{step:08d}.safetensors")
    return {name: value for name, value in tensors.items() if name.endswith("/exp_avg")}


def _assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    differences = torch.cat([(one[name] - other[name]).flatten() for name in one])
    scale = torch.cat([other[name].flatten() for name in one]).norm()
    assert float(differences.norm() / scale) < 0.02


@pytest.mark.slow
@pytest.mark.usefixtures("own_network")
def test_a_global_batch_keeps_the_images_of_a_step(
    flags: Flags, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of two ranks continues in one process, and gives the gradients of a run that had one rank throughout."""
    words = [*STILL, "--steps", "3", "--data.global-batch", "2"]
    out = tmp_path / "two"
    result = _torchrun(tmp_path, {"begin": flags(out, *words, "--stop-at", "2")})
    assert result.returncode == 0, result.stderr
    assert "1 per branch" in result.stdout
    assert main(flags(out, *words)) == 0
    assert main(flags(tmp_path / "one", *words)) == 0
    assert "2 per branch" in capsys.readouterr().out
    _assert_close(_moments(out, 3), _moments(tmp_path / "one", 3))
