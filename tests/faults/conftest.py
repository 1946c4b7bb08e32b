"""Trials of faults: commands that are killed, starved or fed with damaged files. ``make test-faults`` runs them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `trials`

from trials import Launcher


@pytest.fixture(scope="session")
def iccld(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path_factory.mktemp("logs"))
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def train_words(tiny_data: Path) -> Callable[[Path], list[str]]:
    """The words of a run of eight steps with a mixed domain and an adversary."""

    def make(out: Path, *more: str) -> list[str]:
        words = shlex.split("""
            train demo --steps 8 --checkpoint-every 2 --log-every 2 --device cpu --threads 1 --precision fp32
            --data.source folder --data.target folder --data.source-size 64 96 --data.target-size 64 96
            --data.crop 64 64 --data.batch-size 1 --data.num-workers 0 --data.label-space camvid11
            --model.width 16 --model.latent-channels 4 --optim.warmup-steps 2 --adaptation.start 0.34
            --adaptation.mixing classmix --adaptation.adversarial-weight 0.02
        """)
        roots = [
            "--data.source-root",
            str(tiny_data / "source"),
            "--data.target-root",
            str(tiny_data / "target"),
        ]
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


@pytest.fixture(scope="session")
def commands(
    tiny_data: Path, model: Path, train_words: Callable[..., list[str]]
) -> dict[str, Callable[[Path], list[str]]]:
    """Name → words of a command that writes into a folder; ``bench`` runs the ``plan.toml`` that stands there."""
    images, target = tiny_data / "target" / "train" / "images", tiny_data / "target"
    return {
        "train": lambda out: train_words(out / "run"),
        "predict": lambda out: shlex.split(f"predict {model} {images} --out {out}/p --json {out}/p.json"),
        "evaluate": lambda out: shlex.split(
            f"evaluate {model} --dataset folder --root {target} --split val --json {out}/e.json --report {out}/e.html"
        ),
        "export": lambda out: shlex.split(f"export {model} --format onnx --out {out}/m.onnx"),
        "scenes": lambda out: shlex.split(f"data scenes {out}/s --count 4 --height 64 --width 96"),
        "cache": lambda out: ["data", "cache", *train_words(out)[1:-2], "--data.cache", f"{out}/c"],
        "rank": lambda out: shlex.split(f"rank {model} {images} --out {out}/r"),
        "bench": lambda out: shlex.split(f"bench {out}/plan.toml --results {out}/b --work {out}/w"),
    }
