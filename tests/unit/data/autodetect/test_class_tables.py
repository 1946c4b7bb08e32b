"""Tables of classes that come with color-coded label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_data import random_image, save_rgb

from iccld.data.autodetect.class_tables import find_class_table
from iccld.data.autodetect.detect import guess_folder

COLORS = {"Road": (128, 64, 128), "Sky": (128, 128, 128), "Void": (0, 0, 0)}
TABLES = {
    "class_dict.csv": "name,r,g,b\nRoad,128, 64,128\nSky, 128,128,128\nVoid,0,0,0\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\nRoad:128,64,128::\nSky:128,128,128::\nVoid:0,0,0::\n",
    "label_colors.txt": "128 64 128\tRoad\n128 128 128\tSky\n0 0 0\t\tVoid\n",
}


@pytest.mark.parametrize("name", list(TABLES))
def test_names_and_colors_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("\ufeff" + TABLES[name].replace("\n", "\r\n"), encoding="utf-8")
    assert find_class_table(tmp_path) == (name, COLORS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name,r,g,b\n",
        "name,r,g,b\nRoad,1,2\n",
        "name,r,g,b\nRoad,1,2,256\n",
        "name,r,g,b\nA,1,2,3\nB,1,2,3\n",
    ],
)
def test_other_tables_are_not_used(tmp_path: Path, text: str) -> None:
    (tmp_path / "class_dict.csv").write_text(text)
    assert find_class_table(tmp_path) is None


def _save(root: Path, layout: dict[str, str], extra: tuple[int, int, int] | None = None) -> None:
    rng = np.random.default_rng(0)
    palette = np.array([*COLORS.values(), *([extra] if extra else [])], np.uint8)
    for split in ("train", "val"):
        for index in range(3):
            save_rgb(root / layout["images"].format(split, index), random_image(rng))
            colors = palette[rng.integers(0, len(palette), (12, 16))]
            save_rgb(root / layout["labels"].format(split, index), colors)


KAGGLE = {"images": "{}/f{}.png", "labels": "{}_labels/f{}_L.png"}
CVAT = {"images": "JPEGImages/{}{}.jpg", "labels": "SegmentationClass/{}{}.png"}


def test_kaggles_camvid(tmp_path: Path) -> None:
    _save(tmp_path, KAGGLE)
    (tmp_path / "class_dict.csv").write_text(TABLES["class_dict.csv"])
    guess = guess_folder(tmp_path)
    assert guess.meaning is not None
    assert guess.meaning.keys["classes"] == ["Road", "Sky"]
    assert guess.meaning.keys["ignore_colors"] == [[0, 0, 0]]
    assert sorted(guess.splits) == ["train", "val"]


def test_masks_of_cvat(tmp_path: Path) -> None:
    _save(tmp_path, CVAT)
    (tmp_path / "labelmap.txt").write_text(TABLES["labelmap.txt"].replace("Void", "background"))
    guess = guess_folder(tmp_path)
    assert guess.meaning is not None
    assert guess.meaning.keys["classes"] == ["Road", "Sky", "background"]


def test_a_table_without_a_seen_color_is_not_used(tmp_path: Path) -> None:
    _save(tmp_path, KAGGLE, extra=(1, 2, 3))
    (tmp_path / "class_dict.csv").write_text(TABLES["class_dict.csv"])
    guess = guess_folder(tmp_path)
    assert guess.meaning is not None
    assert guess.meaning.is_guess


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("label_colors.txt", "1" + " " * 100_000 + "2" + " " * 100_000 + "x"),
        ("classes.csv", 'name,r,g,b\n"' + "x" * 200_000),
        ("labelmap.txt", "²:1,²,3::\n"),
        ("labelmap.txt", ":" * 100_000),
    ],
)
def test_strange_files_end_quickly(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert find_class_table(tmp_path) is None


def test_numbers_may_be_names(tmp_path: Path) -> None:
    (tmp_path / "labelmap.txt").write_text("0:10,20,30::\n1:11,21,31::\n")
    assert find_class_table(tmp_path) == ("labelmap.txt", {"0": (10, 20, 30), "1": (11, 21, 31)})


def test_a_link_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "class_dict.csv").write_text(TABLES["class_dict.csv"])
    (tmp_path / "data" / "class_dict.csv").symlink_to(tmp_path / "class_dict.csv")
    assert find_class_table(tmp_path / "data") is None
