"""Users' own folders: images and label maps are separated and paired, and errors name the most similar finding."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from fake_data import random_image, save_gray, save_rgb

from iccld.data import picture_header
from iccld.data.autodetect.detect import guess_folder
from iccld.data.autodetect.guess import survey, to_toml
from iccld.data.check import check_dataset
from iccld.data.datasets import open_dataset
from iccld.errors import InputError

RNG = np.random.default_rng(0)
MASK = np.array([[0, 0, 1, 2], [3, 1, 2, 0]], np.uint8)


def fill(root: Path, images: str, labels: str = "") -> None:
    """Writes images and label maps. The names in both strings are separated by spaces."""
    for name in images.split():
        save_rgb(root / name, random_image(RNG, (2, 4)))
    for name in labels.split():
        save_gray(root / name, MASK)


def refusal(root: Path, **settings: tuple[str, ...]) -> str:
    with pytest.raises(InputError) as error:
        guess_folder(root, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("images", "labels", "globs"),
    [
        ("images/1.jpg images/2.jpg", "labels/1.png labels/2.png", ("images/*.jpg", "labels/*.png")),
        ("images/a/1.jpg images/2.JPG", "labels/a/1.png labels/2.png", ("images/**/*.{JPG,jpg}", "labels/**/*.png")),
        ("1.jpg 2.jpg", "masks/1.png masks/2.png", ("*.jpg", "masks/*.png")),
        ("1_img.png 2_img.png", "1_mask.png 2_mask.png", ("*_img.png", "*_mask.png")),
        ("img/img_1.png img/img_2.png", "gt/gt_1.png gt/gt_2.png", ("img/img_*.png", "gt/gt_*.png")),
        ("rgb/a_1.png", "annotations/a_1_seg.png", ("rgb/*.png", "annotations/*_seg.png")),
        ("frames/1.jpg", "labels/1_color.png labels/1_ids.png", ("frames/*.jpg", "labels/*_ids.png")),
        ("train_images/1.jpg", "train_masks/1.png", ("train_images/*.jpg", "train_masks/*.png")),
        ("1.jpg 2.jpg", "1.png 2.png", ("*.jpg", "*.png")),
        ("data/1.jpg data/2.jpg", "data/1.png data/2.png", ("data/*.jpg", "data/*.png")),
        ("frames/1.jpg", "annotated/1.png", ("frames/*.jpg", "annotated/*.png")),
        ("frames/1.jpg", "painted/1.png", ("frames/*.jpg", "painted/*.png")),
        ("train/x/1.jpg", "train/y/1.png", ("train/x/*.jpg", "train/y/*.png")),
        ("1.JPG", "1.PNG", ("*.JPG", "*.PNG")),
        ("images/sträße.jpg", "masks/stra\u0308ße.png", ("images/*.jpg", "masks/*.png")),
    ],
)  # fmt: skip
def test_pairs_by_folders_and_names(images: str, labels: str, globs: tuple[str, str], tmp_path: Path) -> None:
    fill(tmp_path, images, labels)
    entry = guess_folder(tmp_path).splits["train"]
    assert (entry.images, entry.labels) == globs
    assert entry.num_images == entry.num_labels == len(images.split())
    (tmp_path / "dataset.toml").write_text(to_toml(guess_folder(tmp_path)), encoding="utf-8")
    assert len(open_dataset("folder", tmp_path)) == entry.num_images


def test_folders_that_say_nothing_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    images = " ".join(f"left/{i}.png" for i in range(3))
    for name in images.split():
        save_rgb(tmp_path / name, random_image(RNG, (20, 40)))
    fill(tmp_path, "", images.replace("left", "right"))
    entry = guess_folder(tmp_path).splits["train"]
    assert (entry.images, entry.labels) == ("left/*.png", "right/*.png")


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        ("images/1.png images/1.jpg", "masks/1.png", "images/1.png: has the same name as 1.jpg"),
        ("images/1.jpg", "masks/1.png masks/1.tif", "masks/1.tif: has the same name as 1.png"),
        ("1.jpg 1.jpeg", "", "1.jpg: has the same name as 1.jpeg"),
    ],
)
def test_two_files_of_one_name_are_ambiguous(images: str, labels: str, said: str, tmp_path: Path) -> None:
    fill(tmp_path, images, labels)
    assert said in refusal(tmp_path)


@pytest.mark.parametrize(
    "names", ["1.jpg a/2.png b/c/3.jpeg", "day/1.jpg night/1.jpg", "front/1.jpg rgb/1.jpg"]
)
def test_images_alone_are_a_target(names: str, tmp_path: Path) -> None:
    fill(tmp_path, names)
    guess = guess_folder(tmp_path)
    assert guess.meaning is None
    (tmp_path / "dataset.toml").write_text(to_toml(guess), encoding="utf-8")
    assert 'role = "target"' in to_toml(guess)
    assert len(open_dataset("folder", tmp_path, needs_labels=False)) == len(names.split())
    assert check_dataset("folder", tmp_path).errors == []


def test_splits_with_and_without_labels(tmp_path: Path) -> None:
    fill(tmp_path, "train/images/1.jpg val/images/2.jpg test/images/3.jpg", "val/labels/2.png")
    guess = guess_folder(tmp_path)
    assert {name: entry.labels for name, entry in guess.splits.items()} == {
        "train": None,
        "val": "val/labels/*.png",
        "test": None,
    }
    assert 'role = "target"' in to_toml(guess)
    assert 'role = "source"\n' in to_toml(guess, role="source")


def test_labels_of_all_splits_in_one_folder(tmp_path: Path) -> None:
    fill(tmp_path, "train/1.jpg val/2.jpg", "labels/1.png labels/2.png")
    splits = guess_folder(tmp_path).splits
    assert [entry.labels for entry in splits.values()] == ["labels/*.png"] * 2
    assert [entry.num_labels for entry in splits.values()] == [1, 1]


def test_another_folder_of_images_is_mentioned(tmp_path: Path) -> None:
    fill(tmp_path, "images/1.jpg images/2.jpg pictures/9.jpg", "labels/1.png labels/2.png")
    guess = guess_folder(tmp_path)
    assert guess.splits["train"].images == "images/*.jpg"
    assert "Images in pictures/ were left out." in to_toml(guess)


def test_missing_label_maps_are_mentioned(tmp_path: Path) -> None:
    fill(tmp_path, "images/1.jpg images/2.jpg images/3.jpg", "labels/1.png")
    assert "Some images have no label map: 2 of train." in to_toml(guess_folder(tmp_path))


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        ("", "", "holds no image, it is empty; looked for Cityscapes, GTA5"),
        ("", "labels/1.png", "holds label maps (labels/) but no images; looked for"),
        ("images/1.jpg", "labels/x.png", "(images/1.jpg) and label maps (labels/x.png) do not share their names"),
        ("1.png 2.png", "1_mask.png 2_mask.png", "no pattern tells the images from label maps such as 1_mask.png"),
        ("a{b}/images/1.jpg", "a{b}/labels/1.png", "globs cannot name the characters"),
        ("x/VOC/JPEGImages/1.jpg", "x/VOC/SegmentationClass/1.png", "Pascal VOC lies in"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(images: str, labels: str, said: str, tmp_path: Path) -> None:
    fill(tmp_path, images, labels)
    assert said in refusal(tmp_path)


def test_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"")
    assert "there are only other files (1 .zip)" in refusal(tmp_path)
    assert "no such folder" in refusal(tmp_path / "gone")


def test_photographs_are_no_label_maps(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        save_rgb(tmp_path / folder / "1.png", random_image(RNG, (40, 40)))
    said = refusal(tmp_path)
    assert re.search(r"labels/\*\.png are no label maps that can be used: .* colors, as in photographs", said)


def test_polygons_alone_leave_a_target(tmp_path: Path) -> None:
    fill(tmp_path, "leftImg8bit/train/201/frame1_leftImg8bit.png")
    polygons = tmp_path / "gtFine/train/201/frame1_gtFine_polygons.json"
    polygons.parent.mkdir(parents=True)
    polygons.write_text("{}")
    guess = guess_folder(tmp_path)
    assert (guess.layout, guess.builtin, guess.role) == ("IDD", None, "target")
    assert (
        "annotations in Cityscapes' polygons (gtFine/train/201/frame1_gtFine_polygons.json)" in guess.notes[0]
    )


def test_only_a_sample_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iccld.data.autodetect.evidence._MOST_PIXELS", 20)
    names = [f"{i:02d}" for i in range(9)]
    fill(tmp_path, " ".join(f"images/{n}.jpg" for n in names), " ".join(f"labels/{n}.png" for n in names))
    evidence = guess_folder(tmp_path).evidence
    assert evidence is not None
    assert (evidence.num_read, evidence.num_files) == (3, 9)
    assert "Not every label map was read" in to_toml(guess_folder(tmp_path))


def test_label_maps_beyond_the_limit_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "images/1.png", "labels/1.png")
    monkeypatch.setattr(picture_header, "MOST_PIXELS", 3)
    assert "pixels, far more than can be read safely" in refusal(tmp_path)
    assert "pixels, far more than can be read safely" in check_dataset("folder", tmp_path).errors[0]


def test_maps_of_no_image_are_not_judged(tmp_path: Path) -> None:
    fill(tmp_path, "images/0.png labels/0_color.png", "labels/0.png")
    save_gray(tmp_path / "labels/old.png", MASK + 40)
    guess = guess_folder(tmp_path)
    assert guess.evidence is not None
    assert (guess.evidence.num_files, guess.evidence.fault, set(guess.evidence.ids)) == (1, "", {0, 1, 2, 3})


def test_a_link_to_the_folder_itself_is_walked_once(tmp_path: Path) -> None:
    fill(tmp_path, "images/1.png", "labels/1.png")
    (tmp_path / "images" / "up").symlink_to(tmp_path)
    assert survey(tmp_path).images == ("images/1.png", "labels/1.png")


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"stra\xdfe")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    fill(folder, "images/1.png", "labels/1.png")
    assert r"stra\xdfe: this name is not UTF-8; rename" in refusal(folder)
    fill(tmp_path, "images/1.png")
    assert r"stra\xdfe/images/1.png: this name is not UTF-8" in refusal(tmp_path)
