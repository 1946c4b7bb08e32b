from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from iccld.app.answers import AppModel, in_colors_of, load_models, short_names
from iccld.inference.exported import ExportedSegmenter, Facts
from iccld.labels import CITYSCAPES19, LabelSpace
from iccld.models.iccld import ICCLD


def _exported() -> AppModel:
    def engine(images: np.ndarray) -> dict[str, np.ndarray]:
        shape = images.shape[:3]
        probabilities = np.full((shape[0], 19, *shape[1:]), 1 / 19, np.float32)
        return {"labels": np.zeros(shape, np.uint8), "probabilities": probabilities}

    facts = Facts(CITYSCAPES19, steps=4, draws=2, input_height=0, precision="fp32")
    return AppModel("m.onnx", ExportedSegmenter(Path("m.onnx"), engine, facts), CITYSCAPES19)


def test_exported_models_keep_their_settings() -> None:
    model = _exported()
    assert model.fixed == (4, 2)
    assert model.predict(np.zeros((40, 50, 3), np.uint8), 1, 1).labels.shape == (40, 50)
    assert model.settings_note == "m.onnx is an exported file: K = 4 and N = 2 are fixed in it."


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "plain"
    torch.manual_seed(0)
    ICCLD(CITYSCAPES19, width=16, latent_channels=4, diffusion=False).eval().save_pretrained(folder)
    return folder


def test_loading(saved: Path) -> None:
    model, same = load_models([str(saved), str(saved)], device="cpu")
    assert (model.name, model.device, model.fixed) == ("plain (1)", "cpu", None)
    assert same.name == "plain (2)"
    assert model.settings_note == "plain (1) was trained without diffusion: K and N change nothing."


def test_names_are_as_long_as_it_takes(tmp_path: Path) -> None:
    for run in ("a", "b"):
        (tmp_path / run / "model").mkdir(parents=True)
    assert short_names([str(tmp_path / "a" / "model")]) == ["model"]
    assert short_names([str(tmp_path / "a"), str(tmp_path / "b")]) == ["a", "b"]
    both = [str(tmp_path / run / "model") for run in ("a", "b")]
    assert short_names(both) == ["a/model", "b/model"]
    assert short_names(["user/hub-model"]) == ["user/hub-model"]


def test_classes_of_one_name_have_one_color() -> None:
    first = LabelSpace.from_names("first", ["road", "cat"], [(1, 2, 3), (4, 5, 6)])
    second = LabelSpace.from_names("second", ["dog", "cat"], [(7, 8, 9), (10, 11, 12)])
    assert in_colors_of(first, second).palette == ((7, 8, 9), (4, 5, 6))
