from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fake_data import (
    SIZE,
    make_camvid,
    make_cityscapes,
    make_gta5,
    make_synthia,
    random_ids,
    random_image,
    save_gray,
    save_palette,
    save_rgb,
    truncate,
)

from iccld.data.check import check_dataset
from iccld.data.datasets import open_dataset
from iccld.errors import InputError
from iccld.labels import CITYSCAPES19
from iccld.shards import Shard

RNG = np.random.default_rng(0)


def only(lines: list[str]) -> str:
    assert len(lines) == 1, lines
    assert "\n" not in lines[0]
    return lines[0]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("gta5", make_gta5),
        ("synthia", make_synthia),
        ("camvid", make_camvid),
        ("cityscapes", make_cityscapes),
    ],
)
def test_sound_data_sets_pass_and_are_counted_right(tmp_path: Path, name: str, make) -> None:
    make(tmp_path)
    report = check_dataset(name, tmp_path)
    assert report.errors == []
    assert (report.num_images, report.num_labels, report.num_read) == (3, 3, 3)
    assert report.sizes == {"16×12": 3}
    data = open_dataset(name, tmp_path)
    labels = [data.label(i) for i in range(3)]
    for index, found in enumerate(report.classes):
        assert found.name == data.label_space.names[index]
        assert found.pixels == sum(int((label == index).sum()) for label in labels)
        assert found.images == sum((label == index).any() for label in labels)
    assert report.ignored_pixels == sum(int((label == 255).sum()) for label in labels)
    assert report.num_pixels == 3 * SIZE[0] * SIZE[1]


def test_label_space_is_chosen(tmp_path: Path) -> None:
    make_camvid(tmp_path)
    report = check_dataset("camvid", tmp_path, label_space=CITYSCAPES19)
    assert len(report.classes) == 19
    never = only(report.warnings)
    assert never == "never seen: wall, traffic light, terrain, truck, bus, train, motorcycle, bicycle"


def test_limit_spreads_over_the_data(tmp_path: Path) -> None:
    make_camvid(tmp_path, count=9)
    report = check_dataset("camvid", tmp_path, limit=3)
    assert (report.num_labels, report.num_read) == (9, 3)
    truncate(tmp_path / "train/labels/0001TP_000008.png")
    assert check_dataset("camvid", tmp_path, limit=3).errors == []
    assert "never seen in the label maps that were read" in "".join(
        check_dataset("camvid", tmp_path, label_space=CITYSCAPES19, limit=1).warnings
    )
    with pytest.raises(InputError, match="limit is 0"):
        check_dataset("camvid", tmp_path, limit=0)


def test_unmatched_files_both_ways(tmp_path: Path) -> None:
    make_camvid(tmp_path, count=9)
    for i in range(7):
        (tmp_path / f"train/labels/0001TP_{i:06d}.png").unlink()
    stray = save_gray(tmp_path / "train/labels/other.png", np.zeros(SIZE, np.uint8))
    report = check_dataset("camvid", tmp_path)
    error = only(report.errors)
    assert error.startswith("7 of 9 images have no label (")
    assert "0001TP_000004.jpg and 2 more" in error
    assert "0001TP_000005.jpg" not in error
    assert len(report.files["images_without_label"]) == 7
    assert f"1 label files belong to no image ({stray})" in report.warnings


def test_no_labels_at_all(tmp_path: Path) -> None:
    save_rgb(tmp_path / "images/1.png", random_image(RNG))
    error = only(check_dataset("gta5", tmp_path).errors)
    assert "labels = 'labels/**/*.*' matches no file" in error
    assert "--images-only" in error
    assert check_dataset("gta5", tmp_path, images_only=True).errors == []


def test_a_target_needs_no_labels(tmp_path: Path) -> None:
    save_rgb(tmp_path / "1.png", random_image(RNG))
    (tmp_path / "dataset.toml").write_text('images = "*.png"\nrole = "target"')
    assert check_dataset("folder", tmp_path).errors == []
    (tmp_path / "dataset.toml").write_text('images = "*.png"')
    assert "has no labels for split 'train'" in only(check_dataset("folder", tmp_path).errors)


def test_sizes_that_disagree_are_an_error_but_known_of_gta5(tmp_path: Path) -> None:
    make_camvid(tmp_path / "camvid")
    save_gray(tmp_path / "camvid/train/labels/0001TP_000001.png", random_ids(RNG, [0, 1], (5, 6)))
    error = only(check_dataset("camvid", tmp_path / "camvid").errors)
    assert "1 label maps differ in size" in error
    assert "0001TP_000001.png (6×5, image 16×12)" in error
    make_gta5(tmp_path / "gta5")
    save_palette(tmp_path / "gta5/labels/00002.png", random_ids(RNG, [7], (5, 6)))
    report = check_dataset("gta5", tmp_path / "gta5")
    assert report.errors == []
    assert any("00002.png (6×5, image 16×12)" in line for line in report.warnings)


def test_unreadable_files(tmp_path: Path) -> None:
    make_camvid(tmp_path, count=4)
    image = truncate(tmp_path / "train/images/0001TP_000000.jpg", 0.9)
    label = truncate(tmp_path / "train/labels/0001TP_000001.png")
    (tmp_path / "train/labels/0001TP_000002.png").write_bytes(b"")
    report = check_dataset("camvid", tmp_path)
    images, labels = report.errors
    assert images.startswith(f"1 images cannot be read ({image})")
    assert "truncated" in images
    assert labels.startswith(f"2 label maps cannot be read ({label}")
    assert report.num_read == 2


def test_pictures_of_other_formats_are_named(tmp_path: Path) -> None:
    make_camvid(tmp_path)
    (tmp_path / "train" / "images" / "more.JP2").write_bytes(b"x")
    report = check_dataset("camvid", tmp_path)
    assert report.errors == []
    assert "1 pictures are in formats that are not read" in only(report.warnings)
    assert "more.JP2" in report.warnings[0]


def test_unknown_ids(tmp_path: Path) -> None:
    make_camvid(tmp_path)
    ids = np.zeros(SIZE, np.uint8)
    ids[0, :3] = 40
    for i in (1, 2):
        save_gray(tmp_path / f"train/labels/0001TP_00000{i}.png", ids)
    error = only(check_dataset("camvid", tmp_path).errors)
    first = tmp_path / "train/labels/0001TP_000001.png"
    assert f"no class for id 40 (6 pixels in 2 label maps, first {first})" in error


def test_label_ids_taken_for_train_ids(tmp_path: Path) -> None:
    save_rgb(tmp_path / "images/1.png", random_image(RNG))
    save_gray(tmp_path / "labels/1.png", random_ids(RNG, [7, 11, 23, 26, 33]))
    assert "look like Cityscapes labelIds" in only(check_dataset("folder", tmp_path).errors)


@pytest.mark.parametrize(
    "description", ["", 'images = "images/*"\nlabels = "labels/*"\nclasses = ["off", "on"]']
)
def test_binary_mask_trap(tmp_path: Path, description: str) -> None:
    for i in range(2):
        save_rgb(tmp_path / f"images/{i}.png", random_image(RNG))
        save_gray(tmp_path / f"labels/{i}.png", random_ids(RNG, [0, 255]))
    if description:
        (tmp_path / "dataset.toml").write_text(description)
    error = only(check_dataset("folder", tmp_path).errors)
    assert "only 0 and 255" in error
    remedy = 'ignore = [], ids = {0 = "background", 255 = "thing"}'
    assert remedy in error
    # The advice in the message removes the error.
    (tmp_path / "dataset.toml").write_text(
        'images = "images/*"\nlabels = "labels/*"\nclasses = ["background", "thing"]\n'
        + remedy.replace("], ", "]\n")
    )
    assert check_dataset("folder", tmp_path).errors == []


def test_one_class_and_ignore_is_no_binary_mask(tmp_path: Path) -> None:
    save_rgb(tmp_path / "images/1.png", random_image(RNG))
    save_gray(tmp_path / "labels/1.png", random_ids(RNG, [0, 255]))
    (tmp_path / "dataset.toml").write_text('images = "images/*"\nlabels = "labels/*"\nclasses = ["road"]')
    assert check_dataset("folder", tmp_path).errors == []


def test_label_maps_all_ignored(tmp_path: Path) -> None:
    make_camvid(tmp_path)
    blank = np.full(SIZE, 255, np.uint8)
    path = save_gray(tmp_path / "train/labels/0001TP_000001.png", blank)
    report = check_dataset("camvid", tmp_path)
    assert report.errors == []
    assert f"1 label maps are ignored as a whole ({path})" in report.warnings
    for i in range(3):
        save_gray(tmp_path / f"train/labels/0001TP_00000{i}.png", blank)
    assert "all pixels of all label maps are ignored (they hold 255)" in only(
        check_dataset("camvid", tmp_path).errors
    )


def test_cityscapes_test_split_without_truth_is_noticed(tmp_path: Path) -> None:
    """The label maps of the benchmark's test split contain only void ids."""
    make_cityscapes(tmp_path, "test")
    for path in (tmp_path / "gtFine/test").rglob("*_labelIds.png"):
        save_gray(path, random_ids(RNG, [0, 1, 3]))
    assert "they hold 0, 1, 3" in only(check_dataset("cityscapes", tmp_path, split="test").errors)


def test_scenes_have_no_files() -> None:
    with pytest.raises(InputError, match="iccld data scenes"):
        check_dataset("street_scenes", ".")


def test_text_and_json_say_the_same(tmp_path: Path) -> None:
    make_camvid(tmp_path)
    (tmp_path / "train/labels/0001TP_000001.png").unlink()
    report = check_dataset("camvid", tmp_path)
    value = json.loads(json.dumps(report.to_json(), allow_nan=False))
    text = report.to_text()
    assert value["passed"] is False
    assert value["num_images"] == 3
    assert sum(c["share"] for c in value["classes"]) + value["ignored_share"] == pytest.approx(1)
    for c in value["classes"]:
        line = next(line for line in text.splitlines() if line.split()[:-2] == c["name"].split())
        assert float(line.split()[-2].rstrip("%")) == pytest.approx(100 * c["share"], abs=0.001)
        assert int(line.split()[-1]) == c["images"]
    assert "images  3, 16×12 (3)" in text
    assert text.splitlines()[-1] == "1 error: mend them before training"


def test_parts_add_up_to_the_whole(tmp_path: Path) -> None:
    make_gta5(tmp_path, count=7)
    save_gray(tmp_path / "labels" / "stray.png", random_ids(RNG, [1]))
    whole = check_dataset("gta5", tmp_path)
    parts = [check_dataset("gta5", tmp_path, shard=Shard(index, 3)) for index in range(3)]
    assert whole.num_images == sum(part.num_images for part in parts) == 7
    for index, found in enumerate(whole.classes):
        assert found.pixels == sum(part.classes[index].pixels for part in parts)
    assert sum("belong to no image" in line for part in parts for line in part.warnings) == 1
