"""``iccld adapt`` and ``iccld.adapt``: a trained model learns from unlabeled images."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path

import pytest
import torch

import iccld
from iccld.cli import main
from iccld.config import read_settings
from iccld.labels import CAMVID11, LabelClass, LabelSpace
from iccld.models.image_coder import CompactCoder

_SHORT = {
    "steps": 4,
    "checkpoint_every": 2,
    "log_every": 2,
    "device": "cpu",
    "threads": 1,
    "precision": "fp32",
}
_DATA = {
    "source_count": 4,
    "source_size": (64, 96),
    "target_size": (64, 96),
    "crop": (64, 64),
    "batch_size": 1,
    "num_workers": 0,
}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    coder = partial(CompactCoder, channels=(8, 12, 16, 24, 32))
    monkeypatch.setattr("iccld.models.image_coder.CompactCoder", coder)


def _stored(folder: Path, space: LabelSpace = CAMVID11) -> Path:
    torch.manual_seed(0)
    iccld.ICCLD(space, width=16, latent_channels=4, light_steps=True, input_height=48).save_pretrained(folder)
    return folder


def _images(tiny_data: Path) -> Path:
    return tiny_data / "target" / "train" / "images"


def _words() -> list[str]:
    pairs = {**_SHORT, **{f"data.{name}": value for name, value in _DATA.items()}}
    words: list[str] = []
    for name, value in pairs.items():
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


def test_command_and_function_give_the_same_model(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored, images = _stored(tmp_path / "stored"), _images(tiny_data)
    run = iccld.adapt(images, tmp_path / "api", model=stored, data=_DATA, **_SHORT)
    capsys.readouterr()
    out = tmp_path / "command"
    words = ["adapt", str(images), "--out", str(out), "--model.init", str(stored), *_words()]
    assert main(words) == 0
    assert f"predict with: iccld predict {out} {images} --out predictions" in capsys.readouterr().out
    assert run.outcome == "finished"
    assert (out / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()
    assert (out / "report.html").is_file()
    assert main(words) == 0  # nothing is left to do
    assert "finished earlier" in capsys.readouterr().out


def test_the_adapted_model_is_like_the_stored_one(tiny_data: Path, tmp_path: Path) -> None:
    stored = _stored(tmp_path / "stored")
    run = iccld.adapt(_images(tiny_data), tmp_path / "run", model=stored, data=_DATA, **_SHORT)
    assert run.model.label_space == CAMVID11
    assert run.model.spec.light_steps
    assert run.model.spec.width == 16
    before = iccld.ICCLD.from_pretrained(stored).state_dict()
    moved = [(value - before[name]).abs().max() for name, value in run.model.state_dict().items()]
    assert 0 < float(torch.stack(moved).max()) < 0.5  # changed, and not trained from new weights


def test_the_height_of_the_stored_model_is_kept(tiny_data: Path, tmp_path: Path) -> None:
    stored, out = _stored(tmp_path / "stored"), tmp_path / "run"
    data = {name: value for name, value in _DATA.items() if name != "target_size"}
    run = iccld.adapt(_images(tiny_data), out, model=stored, data={**data, "crop": (32, 32)}, **_SHORT)
    assert read_settings(out / "run.json", remedy="").data.target_size == (48, 64)
    assert run.model.spec.input_height == 48


def test_other_classes_than_those_of_streets_are_refused(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = LabelSpace("own", (LabelClass("weld", (1, 2, 3)), LabelClass("crack", (4, 5, 6))))
    stored = _stored(tmp_path / "stored", own)
    words = ["adapt", str(_images(tiny_data)), "--out", str(tmp_path / "run"), "--model.init", str(stored)]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "weld, crack" in err
    assert "iccld train folder_to_folder" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["adapt", "adapt --help", "adapt photos --help"])
def test_help_names_the_command(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(shlex.split(text))
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr()
    assert code == (2 if text == "adapt" else 0)
    assert "iccld adapt" in said.out + said.err
