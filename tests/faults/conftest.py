"""Trials of faults: commands that are killed, starved or fed with damaged files. ``make test-faults`` runs them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `trials`

from trials import Launcher


@pytest.fixture(scope="session")
def iccld(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path_factory.mktemp("logs"))
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``source`` and ``target``: 64×96 pictures of colored rectangles with labels, four to train on, two to measure."""
    root = tmp_path_factory.mktemp("data")
    colors = np.random.default_rng(0).integers(0, 256, (19, 3))
    for domain, offset in (("source", 0), ("target", 40)):
        rng = np.random.default_rng(offset)
        for split, count in (("train", 4), ("val", 2)):
            images, labels = root / domain / split / "images", root / domain / split / "labels"
            images.mkdir(parents=True)
            labels.mkdir()
            for index in range(count):
                label = rng.integers(0, 14, (4, 6), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
                noise = rng.integers(-20, 20, (64, 96, 3))
                image = np.clip(colors[label] + noise + offset, 0, 255).astype(np.uint8)
                assert cv2.imwrite(str(images / f"{index}.png"), image)
                assert cv2.imwrite(str(labels / f"{index}.png"), label)
    return root


@pytest.fixture(scope="session")
def train_words(data: Path) -> Callable[[Path], list[str]]:
    """The words of a run of eight steps with a mixed domain and an adversary."""

    def make(out: Path, *more: str) -> list[str]:
        words = shlex.split("""
            train demo --steps 8 --checkpoint-every 2 --log-every 2 --device cpu --threads 1 --precision fp32
            --data.source folder --data.target folder --data.source-size 64 96 --data.target-size 64 96
            --data.crop 64 64 --data.batch-size 1 --data.num-workers 0 --data.label-space camvid11
            --model.width 16 --model.latent-channels 4 --optim.warmup-steps 2 --adaptation.start 0.34
            --adaptation.mixing classmix --adaptation.adversarial-weight 0.02
        """)
        roots = ["--data.source-root", str(data / "source"), "--data.target-root", str(data / "target")]
        return [*words, *roots, "--out", str(out), *more]

    return make


@pytest.fixture(scope="session")
def model(
    iccld: Launcher, train_words: Callable[[Path], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A trained run: what other commands work on."""
    folder = tmp_path_factory.mktemp("model")
    ended = iccld(*train_words(folder / "run"), cwd=folder)
    assert ended.code == 0, ended.text
    return folder / "run"
