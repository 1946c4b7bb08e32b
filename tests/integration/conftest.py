"""A tiny model and the flags of a tiny run on the tiny data sets."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from iccld.data.image_files import write_png
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD
from iccld.models.image_coder import CompactCoder

Flags = Callable[..., list[str]]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a small model of CamVid's classes with random weights."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    ICCLD(CAMVID11, width=16, latent_channels=4).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def own_network() -> None:
    """Asked for by tests that start other processes: the network keeps its size."""


@pytest.fixture
def own_pictures() -> None:
    """Asked for by tests that look at curves.png or adversary.png."""


@pytest.fixture(autouse=True)
def _small_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the pictures of a run by a gray pixel, because drawing them takes as long as a tiny run."""
    if "own_pictures" not in request.fixturenames:
        monkeypatch.setattr("iccld.reporting.curves.save_panels", _gray_pixel)


def _gray_pixel(charts: object, path: Path, *args: object, **options: object) -> Path:
    return write_png(path, np.full((1, 1), 128, np.uint8))


def _without(words: list[str], flag: str) -> list[str]:
    place = words.index(flag)
    return words[:place] + words[place + 2 :]


@pytest.fixture
def flags(tiny_data: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Flags:
    """Makes the words of ``iccld train demo``: six steps, mixed domain and adversary from the third on.

    The backbone is a narrow one, since writing checkpoints would be most of the work.
    """
    if "own_network" not in request.fixturenames:
        narrow = partial(CompactCoder, channels=(8, 12, 16, 24, 32))
        monkeypatch.setattr("iccld.models.image_coder.CompactCoder", narrow)

    def make(out: Path, *more: str) -> list[str]:
        words = shlex.split("""
            train demo --steps 6 --checkpoint-every 3 --log-every 2 --device cpu --threads 1 --precision fp32
            --data.source folder --data.target folder --data.source-size 64 96 --data.target-size 64 96
            --data.crop 64 64 --data.batch-size 1 --data.num-workers 0 --data.label-space camvid11
            --model.backbone compact --model.width 16 --model.latent-channels 4 --optim.warmup-steps 2
        """)
        roots = [
            "--data.source-root",
            str(tiny_data / "source"),
            "--data.target-root",
            str(tiny_data / "target"),
        ]
        method = more[more.index("--method") + 1] if "--method" in more else "iccld"
        # Flags that the run would not read are refused.
        words = words if "--data.global-batch" not in more else _without(words, "--data.batch-size")
        opposed = "--adaptation.adversarial-weight 0" not in " ".join(more)
        mixed = "--adaptation.mixing none" not in " ".join(more)
        if method not in ("source_only", "oracle") and (method != "iccld" or opposed or mixed):
            words += ["--adaptation.start", "0.34"]
        if method in ("iccld", "adaptsegnet", "advent") and opposed:
            words += ["--adaptation.adversarial-warmup", "0.34"]
        if method in ("dacs", "daformer", "mic"):
            words += ["--adaptation.threshold", "0.1"]
        if method == "iccld":  # a rival's recipe is its own
            words += shlex.split("--adaptation.mixing classmix --adaptation.adversarial-weight 0.02")
        return [*words, *roots, "--out", str(out), *more]

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
