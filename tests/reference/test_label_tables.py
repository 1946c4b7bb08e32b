"""Comparison of id tables and decoded label files with the table of the Cityscapes scripts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels, name2label
from PIL import Image

from iccld.data.datasets import open_dataset
from iccld.data.image_files import write_png
from iccld.labels import CITYSCAPES19, CITYSCAPES_ID_TO_TRAIN_ID, IGNORE, SYNTHIA_ID_TO_TRAIN_ID

# The classes of SYNTHIA-RAND-CITYSCAPES, in order, as its README names them.
SYNTHIA_NAMES = [
    "void",
    "sky",
    "building",
    "road",
    "sidewalk",
    "fence",
    "vegetation",
    "pole",
    "car",
    "traffic sign",
    "person",
    "bicycle",
    "motorcycle",
    "parking slot",
    "road work",
    "traffic light",
    "terrain",
    "rider",
    "truck",
    "bus",
    "train",
    "wall",
    "lane marking",
]


def expected_train_id(train_id: int) -> int:
    return train_id if 0 <= train_id < 19 else IGNORE


def test_ids() -> None:
    for label in labels:
        if label.id >= 0:
            assert CITYSCAPES_ID_TO_TRAIN_ID[label.id] == expected_train_id(label.trainId), label.name


def test_names_and_colors() -> None:
    evaluated = [label for label in labels if expected_train_id(label.trainId) != IGNORE]
    for label in evaluated:
        ours = CITYSCAPES19.classes[label.trainId]
        assert (ours.name, ours.color) == (label.name, label.color)
    assert len(evaluated) == len(CITYSCAPES19)


def test_synthia_ids_by_name() -> None:
    for raw, name in enumerate(SYNTHIA_NAMES):
        known = name2label.get(name)
        expected = IGNORE if known is None else expected_train_id(known.trainId)
        assert SYNTHIA_ID_TO_TRAIN_ID[raw] == expected, name
    assert set(SYNTHIA_ID_TO_TRAIN_ID) == set(range(len(SYNTHIA_NAMES)))


@pytest.mark.parametrize("name", ["gta5", "cityscapes"])
def test_every_id_in_a_file(tmp_path: Path, name: str) -> None:
    known = [label for label in labels if label.id >= 0]
    raw = np.array([[label.id for label in known]], dtype=np.uint8)
    if name == "gta5":
        image, label_file = tmp_path / "images/1.png", tmp_path / "labels/1.png"
    else:
        image = tmp_path / "leftImg8bit/train/a/1_leftImg8bit.png"
        label_file = tmp_path / "gtFine/train/a/1_gtFine_labelIds.png"
    label_file.parent.mkdir(parents=True)
    stored = Image.fromarray(raw)
    if name == "gta5":
        stored.putpalette([channel for label in known for channel in label.color])
    stored.save(label_file)
    write_png(image, np.zeros((*raw.shape, 3), dtype=np.uint8))
    decoded = open_dataset(name, tmp_path).label(0)
    assert decoded.tolist() == [[expected_train_id(label.trainId) for label in known]]
