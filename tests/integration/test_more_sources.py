"""Training from several labeled sources: ``--data.more-sources`` and ``--data.source-weights``."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from iccld.cli import main

Flags = Callable[..., list[str]]


@pytest.fixture
def second(tiny_data: Path, tmp_path: Path) -> Path:
    """A source with three images, of which only the road has a class of CamVid."""
    folder = tmp_path / "second"
    for kind in ("images", "labels"):
        (folder / "train" / kind).mkdir(parents=True)
    for index in range(3):
        shutil.copy(tiny_data / "source" / "train" / "images" / f"{index}.png", folder / "train" / "images")
        label = np.full((64, 96), 200, np.uint8)
        label[40:] = 7
        assert cv2.imwrite(str(folder / "train" / "labels" / f"{index}.png"), label)
    (folder / "dataset.toml").write_text(
        'images = "train/images/*.png"\nlabels = "train/labels/*.png"\nname = "second"\n'
        'classes = ["road", "spaceship"]\n[ids]\n7 = "road"\n200 = "spaceship"\n'
    )
    return folder


def _weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


@pytest.mark.parametrize("method", ["iccld", "source_only"])
def test_a_second_source_changes_the_training_and_is_recorded(
    method: str, flags: Flags, second: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "--method",
        method,
        "--data.batch-size",
        "2",
        "--data.more-sources",
        str(second),
        "street_scenes",
    )
    scenes = ("--data.source-count", "2")
    assert main(flags(tmp_path / "three", *words, *scenes)) == 0
    said = capsys.readouterr().out
    sources = r"4 images of \S+ and 3 images of second and 2 images of street_scenes\S*"
    assert re.search(rf"labeled: {sources}, 11 classes", said)
    record = json.loads((tmp_path / "three" / "data.json").read_text())
    counts = {role: facts["images"] for role, facts in record.items() if role.startswith("labeled")}
    assert counts == {"labeled": 4, "labeled_2": 3, "labeled_3": 2}
    assert main(flags(tmp_path / "one", "--method", method, "--data.batch-size", "2")) == 0
    assert _weights(tmp_path / "one") != _weights(tmp_path / "three")


def test_a_source_with_almost_no_weight_changes_nothing(flags: Flags, second: Path, tmp_path: Path) -> None:
    more = ("--data.more-sources", str(second), "--data.source-weights", "1", "1e-9")
    assert main(flags(tmp_path / "one")) == 0
    assert main(flags(tmp_path / "two", *more)) == 0
    assert _weights(tmp_path / "one") == _weights(tmp_path / "two")


def test_a_resumed_run_is_the_same_and_takes_moved_data(flags: Flags, second: Path, tmp_path: Path) -> None:
    words = ("--data.more-sources", str(second))
    assert main(flags(tmp_path / "whole", *words)) == 0
    assert main(flags(tmp_path / "parts", *words, "--stop-at", "3")) == 0
    moved = second.rename(tmp_path / "moved")
    assert main(flags(tmp_path / "parts", "--data.more-sources", str(moved))) == 0
    assert _weights(tmp_path / "whole") == _weights(tmp_path / "parts")


def test_other_sources_are_refused_when_resumed(
    flags: Flags, second: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, words = tmp_path / "run", ("--data.more-sources", str(second))
    assert main(flags(out, *words, "--stop-at", "3")) == 0
    assert main(flags(out)) == 2
    assert "data.more_sources" in capsys.readouterr().err
    (second / "train" / "images" / "2.png").unlink()
    (second / "train" / "labels" / "2.png").unlink()
    assert main(flags(out, *words)) == 2
    assert "of the labeled images of source 2" in capsys.readouterr().err


def test_images_of_every_source_are_cached(flags: Flags, second: Path, tmp_path: Path) -> None:
    words = ("--data.more-sources", str(second), "--data.cache", str(tmp_path / "cache"))
    assert main(flags(tmp_path / "run", *words, "--stop-at", "3")) == 0
    assert len(list((tmp_path / "cache").glob("*"))) == 3  # two sources and the target


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data.more-sources", "gone"), "gone"),
        (("--data.more-sources", "gta6:somewhere"), "gta6"),
        (("--data.more-sources", "gta5:gone"), "gone"),
        (("--data.source-weights", "1", "2"), "--data.source-weights"),
        (("--data.more-sources", "{second}", "--data.source-weights", "1"), "1 weights for 2 sources"),
        (("--data.more-sources", "{second}", "--data.source-weights", "1", "0"), "--data.source-weights"),
        (("--method", "oracle", "--data.more-sources", "{second}"), "--data.more-sources is not read here"),
        (("--data.more-sources", "{second}", "--out", "{second}/run"), "second"),
    ],
)
def test_mistakes(
    words: tuple[str, ...],
    said: str,
    flags: Flags,
    second: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = tuple(word.format(second=second) for word in words)
    assert main(flags(tmp_path / "run", *words)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
