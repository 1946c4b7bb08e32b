"""Predictions in other classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from iccld.errors import InputError
from iccld.inference.exported import ExportedSegmenter
from iccld.inference.mapping import MappedSegmenter, coarser_classes, load_mapped, map_to, read_map
from iccld.inference.segmenter import PredictSettings, check_settings
from iccld.labels import CAMVID11, CITYSCAPES19, SYNTHIA16, LabelSpace
from iccld.models.iccld import ICCLD

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
DRIVE = """
ignore = ["sky"]
[classes]
drivable = ["road", "parking"]
other = ["building"]
"""
SPACE = LabelSpace.from_names("own", ["road", "building", "parking", "sky"])


@pytest.fixture(scope="module")
def model() -> ICCLD:
    torch.manual_seed(0)
    return ICCLD(CITYSCAPES19, width=16, latent_channels=4).eval()


def _file(folder: Path, text: str) -> str:
    (folder / "drive.toml").write_text(text)
    return str(folder / "drive.toml")


def test_probabilities_are_sums_over_the_models_classes(model: ICCLD) -> None:
    mapped = MappedSegmenter(model, CAMVID11, map_to(CITYSCAPES19, CAMVID11))
    own, result = model.predict(IMAGE, draws=3), mapped.predict(IMAGE, draws=3)
    assert mapped.classes == result.classes == CAMVID11.names
    table = CITYSCAPES19.lut_to(CAMVID11)[:19]
    sums = np.stack([sum(own.probabilities[j] for j in range(19) if table[j] == i) for i in range(11)])
    np.testing.assert_allclose(result.probabilities, sums / sums.sum(axis=0), atol=1e-6)
    np.testing.assert_array_equal(result.labels, sums.argmax(axis=0))
    np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, atol=1e-5)
    assert (result.mutual_information <= result.uncertainty).all()
    assert (result.uncertainty <= own.uncertainty + 1e-5).all() or (np.array(table) == 255).any()


def test_a_file_maps_and_ignores(tmp_path: Path) -> None:
    space, matrix = read_map(_file(tmp_path, DRIVE), SPACE)
    assert (space.name, space.names) == ("drive", ("drivable", "other"))
    np.testing.assert_array_equal(matrix, [[1, 0, 1, 0], [0, 1, 0, 0]])
    assert space.classes[0].color == SPACE.classes[0].color
    assert space.classes[0].train_ids == (), "a sum of classes has no trainId"
    assert space.classes[1].train_ids == SPACE.classes[1].train_ids


@given(values=st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4))
def test_any_probabilities_give_probabilities(values: list[float]) -> None:
    class Fixed(ICCLD):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.label_space = SPACE

        def _predict(self, batch: Any, settings: Any) -> Any:
            from iccld.models.prediction import Prediction

            p = np.array(values, np.float32) / max(1e-30, sum(values))
            maps = np.broadcast_to(p[None, :, None, None], (1, 4, 2, 2)).copy()
            return Prediction(np.zeros((1, 2, 2), np.uint8), maps, np.full((1, 2, 2), 9.0, np.float32))

    matrix = np.array([[1, 0, 1, 0], [0, 1, 0, 0]], np.float32)
    mapped = MappedSegmenter(Fixed(), LabelSpace.from_names("two", ["a", "b"]), matrix)
    result = mapped.predict(np.zeros((2, 2, 3), np.uint8))
    np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, atol=1e-5)
    assert (result.mutual_information <= result.uncertainty).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[classes]\na = ["road"]', "has no place for 'building', 'parking', 'sky'; name each in a class"),
        ('ignore = ["sky", "road"]\n[classes]\na = ["road", "building", "parking"]', "names 'road' twice"),
        ('[classes]\na = ["rode"]', "'rode' is no class of the model; its classes are road, building"),
        ('[classes]\na = []\nb = ["road", "building", "parking", "sky"]', "'a' has no classes of the model"),
        ('[classes]\na = "road"', "must be a list"),
        ("[class]", "unknown key 'class'"),
        ("[classes", "is not valid TOML"),
    ],
)
def test_maps_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    source = _file(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_map(source, SPACE)
    assert str(caught.value).startswith(source)


def test_names_that_are_refused() -> None:
    with pytest.raises(InputError, match="unknown label space 'camvid'; did you mean 'camvid11'"):
        read_map("camvid", SPACE)
    with pytest.raises(InputError, match="no class of the model belongs to one of road"):
        read_map("camvid11", LabelSpace.from_names("own", ["forklift"]))


def test_coarser_data_sets_are_mapped_to(model: ICCLD, capsys: pytest.CaptureFixture[str]) -> None:
    mapped = coarser_classes(model, CAMVID11)
    assert isinstance(mapped, MappedSegmenter)
    assert capsys.readouterr().out == "the model's 19 classes are mapped to the 11 classes of camvid11\n"
    assert coarser_classes(model, CITYSCAPES19) is model
    assert coarser_classes(model, LabelSpace.from_names("own", ["road", "forklift"])) is model
    assert isinstance(coarser_classes(model, SYNTHIA16), MappedSegmenter)


def test_settings_of_an_export_are_checked_through_the_map(model: ICCLD) -> None:
    class Graph(ExportedSegmenter):
        def __init__(self) -> None:
            self.path, self.label_space = Path("m.onnx"), CITYSCAPES19
            self.steps, self.draws, self.input_height, self.precision = 1, 1, 0, "fp32"

    mapped = MappedSegmenter(Graph(), CAMVID11, map_to(CITYSCAPES19, CAMVID11))
    assert mapped.steps == 1
    with pytest.raises(InputError, match="was exported with steps 1, not 3"):
        check_settings(mapped, PredictSettings(steps=3))


def test_loading_with_and_without_a_map(model: ICCLD, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assert isinstance(load_mapped(str(tmp_path), None, threads=1), ICCLD)
    assert load_mapped(str(tmp_path), "camvid11", threads=1).label_space == CAMVID11
