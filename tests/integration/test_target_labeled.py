"""Semi-supervised adaptation: ``--data.target-labeled``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from iccld.cli import main

Flags = Callable[..., list[str]]


@pytest.fixture
def few(tiny_data: Path, tmp_path: Path) -> Path:
    """Two labeled images of the target."""
    folder = tmp_path / "few"
    for kind in ("images", "labels"):
        (folder / "train" / kind).mkdir(parents=True)
        for index in range(2):
            shutil.copy(tiny_data / "target" / "train" / kind / f"{index}.png", folder / "train" / kind)
    return folder


def _weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


@pytest.mark.parametrize("method", ["iccld", "source_only"])
def test_labels_of_the_target_change_the_training(
    method: str, flags: Flags, few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--method", method, "--data.batch-size", "2")
    assert main(flags(tmp_path / "without", *words)) == 0
    assert "also labeled" not in capsys.readouterr().out
    assert main(flags(tmp_path / "with", *words, "--data.target-labeled", str(few))) == 0
    assert "also labeled: 2 images of the target" in capsys.readouterr().out
    assert _weights(tmp_path / "without") != _weights(tmp_path / "with")
    record = json.loads((tmp_path / "with" / "data.json").read_text())
    assert record["target_labeled"]["images"] == 2


def test_a_resumed_run_is_the_same(flags: Flags, few: Path, tmp_path: Path) -> None:
    words = ("--data.target-labeled", str(few))
    assert main(flags(tmp_path / "whole", *words)) == 0
    assert main(flags(tmp_path / "parts", *words, "--stop-at", "3")) == 0
    moved = few.rename(tmp_path / "moved")  # the same images in another folder
    assert main(flags(tmp_path / "parts", "--data.target-labeled", str(moved))) == 0
    assert _weights(tmp_path / "whole") == _weights(tmp_path / "parts")


def test_other_labels_or_none_are_refused_when_resumed(
    flags: Flags, few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, words = tmp_path / "run", ("--data.target-labeled", str(few))
    assert main(flags(out, *words, "--stop-at", "3")) == 0
    (few / "train" / "labels" / "1.png").unlink()
    (few / "train" / "images" / "1.png").unlink()
    assert main(flags(out, *words)) == 2
    assert "of the labeled target images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data.target-labeled", "gone"), "gone"),
        (("--method", "oracle", "--data.target-labeled", "{few}"), "--data.target-labeled is not read here"),
    ],
)
def test_mistakes(
    words: tuple[str, ...],
    said: str,
    flags: Flags,
    few: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [word.format(few=few) for word in words]
    assert main(flags(tmp_path / "run", *filled)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
