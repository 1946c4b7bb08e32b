from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from iccld.data.description import Description, read_description
from iccld.data.interface import UNMAPPED
from iccld.errors import InputError
from iccld.inference.rendering import file_to_index, holds_train_ids, index_to_id
from iccld.labels import CAMVID11, CITYSCAPES19, LABEL_SPACES, SYNTHIA16, LabelSpace

SPACES = list(LABEL_SPACES.values())
STREET_SUBSET = LabelSpace.from_names("subset", ["car", "road"])
MIXED = LabelSpace.from_names("mixed", ["road", "crack", "car"])


@pytest.mark.parametrize("space", [*SPACES, STREET_SUBSET, MIXED], ids=lambda s: s.name)
def test_what_is_written_is_read_back(space: LabelSpace):
    table = file_to_index(space)
    written = index_to_id(space, "train")[: len(space)]
    assert table[written].tolist() == list(range(len(space)))
    assert table[255] == 255


@pytest.mark.parametrize("space", [*SPACES, STREET_SUBSET], ids=lambda s: s.name)
def test_label_ids_are_read_back(space: LabelSpace):
    table = file_to_index(space, label_ids=True)
    written = index_to_id(space, "cityscapes")[: len(space)]
    assert table[written].tolist() == list(range(len(space)))


def test_label_ids_are_the_official_ones():
    labels = pytest.importorskip("cityscapesscripts.helpers.labels")
    table = index_to_id(CITYSCAPES19, "cityscapes")
    assert {i: int(table[i]) for i in range(19)} == {i: labels.trainId2label[i].id for i in range(19)}
    assert table[255] == 0  # unlabeled


def test_train_ids_of_spaces_with_fewer_classes():
    assert index_to_id(SYNTHIA16, "train")[15] == 18  # bicycle
    assert index_to_id(CAMVID11, "train")[5] == 7  # sign: traffic sign
    assert index_to_id(SYNTHIA16, "index")[15] == 15


def test_files_fold_many_to_one():
    table = file_to_index(CAMVID11)
    lights, signs, truck, car = table[[6, 7, 14, 13]]
    assert lights == signs == 5
    assert truck == car == 10


def test_a_class_beyond_cityscapes_makes_all_numbers_indices():
    assert not holds_train_ids(MIXED)
    assert index_to_id(MIXED, "train")[:3].tolist() == [0, 1, 2]
    known = np.flatnonzero(file_to_index(MIXED) != UNMAPPED)
    assert known.tolist() == [0, 1, 2, 255]
    with pytest.raises(InputError, match=r"'crack'.*--ids index"):
        index_to_id(MIXED, "cityscapes")
    with pytest.raises(InputError, match="labelIds"):
        file_to_index(MIXED, label_ids=True)


def test_numbers_without_class_are_ignored():
    table = index_to_id(CITYSCAPES19, "train")
    assert np.array_equal(table[19:], np.full(237, 255))


def described(tmp_path: Path, text: str) -> Description:
    path = tmp_path / "dataset.toml"
    path.write_text('images = "*.jpg"\nlabels = "*.png"\n' + text, encoding="utf-8")
    return read_description(path)


def test_ids_of_the_users_label_files(tmp_path: Path):
    own = described(
        tmp_path, 'classes = ["field", "barn"]\nignore = []\nids = { 7 = "barn", 9 = "barn", 255 = "field" }'
    )
    table = index_to_id(LabelSpace.from_names("model", ["barn", "field"]), own)
    assert table[:2].tolist() == [7, 255]  # by name; of several ids the first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('classes = ["barn"]', "has no id for the model's class 'field'"),
        (
            'classes = ["barn", "field"]\nids = { 300 = "field", 1 = "barn" }',
            "id 300 of 'field' does not fit",
        ),
        ('classes = ["barn", "field"]\ncolor_coded = true', "its label files hold colors"),
    ],
)
def test_own_ids_that_cannot_be_written(text: str, said: str, tmp_path: Path):
    with pytest.raises(InputError, match=said):
        index_to_id(LabelSpace.from_names("model", ["barn", "field"]), described(tmp_path, text))
