"""For an unknown split, the error lists the existing splits, for each data set. Splits of folders are found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_data import (
    make_camvid,
    make_cityscapes,
    make_gta5,
    make_synthia,
    random_ids,
    random_image,
    save_gray,
    save_rgb,
)

from iccld.data.datasets import FileDataset, choose_split, list_splits, open_dataset
from iccld.data.identity import shared_files, shared_images
from iccld.errors import InputError

RNG = np.random.default_rng(0)


def add(root: Path, *files: str) -> Path:
    for file in files:
        if "mask" in file or "label" in file:
            save_gray(root / file, random_ids(RNG, [0, 1]))
        else:
            save_rgb(root / file, random_image(RNG))
    return root


def names(root: Path, split: str, *, needs_labels: bool = True) -> list[str]:
    data = open_dataset("folder", root, split=split, needs_labels=needs_labels)
    assert isinstance(data, FileDataset)
    return [str(pair.image.relative_to(root)) for pair in data.layout.pairs]


OWN = ("train/images/1.png", "train/masks/1.png", "val/images/2.png", "val/masks/2.png")


@pytest.mark.parametrize(
    ("files", "splits", "wanted", "found"),
    [
        (OWN, ("train", "val"), "val", ["val/images/2.png"]),
        (("validation/images/1.png", "validation/labels/1.png"), ("validation",), "val", ["validation/images/1.png"]),
        (("night/images/1.png", "night/labels/1.png"), ("night",), "night", ["night/images/1.png"]),
        (
            ("images/train/1.png", "images/val/2.png", "labels/train/1.png", "labels/val/2.png"),
            ("train", "val"), "val", ["images/val/2.png"],
        ),
        (
            ("images/a/1.png", "images/2.png", "labels/a/1.png", "labels/2.png"),
            ("train",), "train", ["images/2.png", "images/a/1.png"],
        ),
        (("imgs/1.png", "masks/1.png"), ("train",), "all", ["imgs/1.png"]),
    ],
)  # fmt: skip
def test_splits_of_plain_folders(
    files: tuple[str, ...], splits: tuple[str, ...], wanted: str, found: list[str], tmp_path: Path
) -> None:
    add(tmp_path, *files)
    assert list_splits("folder", tmp_path) == splits
    assert names(tmp_path, wanted) == found


def test_splits_of_images_alone(tmp_path: Path) -> None:
    add(tmp_path, "train/a/1.jpg", "test/2.jpg")
    assert names(tmp_path, "train", needs_labels=False) == ["train/a/1.jpg"]
    assert names(tmp_path, "test", needs_labels=False) == ["test/2.jpg"]


@pytest.mark.parametrize("make", [make_gta5, make_synthia, make_cityscapes, make_camvid])
def test_unknown_splits_of_public_data_sets(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path)
    name = make.__name__.removeprefix("make_")
    for needs_labels in (True, False):
        with pytest.raises(InputError, match=r"has no split 'tset'.*train"):
            open_dataset(name, tmp_path, split="tset", needs_labels=needs_labels)
    assert list_splits(name, tmp_path) == ("train",)
    assert choose_split(name, tmp_path, None, "val") == "train"


@pytest.mark.parametrize(
    "files",
    [OWN, ("images/1.png", "labels/1.png"), ("1.png", "b/2.png"), ("train/1.png", "val/2.png")],
)
@pytest.mark.parametrize("needs_labels", [True, False])
def test_unknown_splits_of_own_folders(files: tuple[str, ...], needs_labels: bool, tmp_path: Path) -> None:
    add(tmp_path, *files)
    with pytest.raises(InputError, match=r"has no split 'tset'; .*choose from train"):
        open_dataset("folder", tmp_path, split="tset", needs_labels=needs_labels)


def test_unknown_splits_of_descriptions_and_scenes(tmp_path: Path) -> None:
    add(tmp_path, "images/1.png")
    (tmp_path / "dataset.toml").write_text('[splits.validation]\nimages = "images/*.png"\n')
    assert names(tmp_path, "val", needs_labels=False) == ["images/1.png"]
    with pytest.raises(InputError, match="has no split 'train'; choose from validation"):
        open_dataset("folder", tmp_path, needs_labels=False)
    with pytest.raises(InputError, match="did you mean 'train'"):
        open_dataset("street_scenes", split="trian")


def test_label_maps_beside_images_are_not_taken_for_images(tmp_path: Path) -> None:
    add(tmp_path, "1.jpg", "1.png")
    with pytest.raises(InputError, match=r"1\.png: has the same name as 1\.jpg"):
        open_dataset("folder", tmp_path, needs_labels=False)
    add(tmp_path / "deep", "1.jpg", "masks/1.png")
    with pytest.raises(InputError, match="seems to be a label map"):
        open_dataset("folder", tmp_path / "deep", needs_labels=False)


def test_a_list_of_images_is_a_split_of_a_folder_without_splits(tmp_path: Path) -> None:
    add(tmp_path, "images/1.png", "images/2.png", "labels/1.png", "labels/2.png")
    (tmp_path / "half.txt").write_text("2\n")
    assert names(tmp_path, "half.txt") == names(tmp_path, str(tmp_path / "half.txt")) == ["images/2.png"]
    (tmp_path / "half.txt").write_text("3\n")
    with pytest.raises(InputError, match=r"half\.txt: '3' is no image of"):
        names(tmp_path, "half.txt")


def test_shared_images_by_link_path_and_content(tmp_path: Path) -> None:
    add(tmp_path, "train/images/1.png", "train/images/2.png", "train/images/3.png", "val/images/4.png")
    train, val = tmp_path / "train/images", tmp_path / "val/images"
    (val / "linked.png").symlink_to(train / "1.png")
    (val / "hard.png").hardlink_to(train / "2.png")
    (val / "copied.png").write_bytes((train / "3.png").read_bytes())
    sets = [open_dataset("folder", tmp_path, split=split, needs_labels=False) for split in ("val", "train")]
    assert shared_images(*sets) == ["copied.png", "hard.png", "linked.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_is_not_waited_for_and_equals_nothing(tmp_path: Path) -> None:
    pipe, empty = tmp_path / "pipe.png", tmp_path / "empty.png"
    os.mkfifo(pipe)
    empty.touch()  # has the size of the FIFO in the file system
    assert shared_files([("pipe.png", pipe)], [("empty.png", empty)]) == []
    assert shared_files([("empty.png", empty)], [("pipe.png", pipe)]) == []
