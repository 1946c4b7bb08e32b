from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
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
from hypothesis import given
from hypothesis import strategies as st

from iccld.data.datasets import FileDataset, open_dataset
from iccld.data.interface import UNMAPPED, SegmentationDataset, remap_table
from iccld.data.layouts import DATASET_NAMES
from iccld.errors import InputError
from iccld.labels import (
    CAMVID11,
    CITYSCAPES19,
    CITYSCAPES_ID_TO_TRAIN_ID,
    IGNORE,
    LABEL_SPACES,
    SYNTHIA16,
    SYNTHIA_ID_TO_TRAIN_ID,
    LabelSpace,
)

spaces = st.sampled_from(list(LABEL_SPACES.values()))


def by_loop(raw: np.ndarray, ids: dict[int, int], space: LabelSpace) -> np.ndarray:
    """Converts ids to labels pixel by pixel, by class names and covered trainIds, without the tested tables."""
    result = np.empty(raw.shape, dtype=np.uint8)
    for place, value in np.ndenumerate(raw):
        label = ids[int(value)]
        if label != IGNORE:
            name = CITYSCAPES19.names[label]
            covering = [i for i, c in enumerate(space.classes) if c.name == name or label in c.train_ids]
            label = covering[0] if covering else IGNORE
        result[place] = label
    return result


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(InputError) as error:
        action()
    text = str(error.value)
    assert "\n" not in text
    return text


# ── what each data set holds ────────────────────────────────────────────────


@pytest.mark.parametrize("space", [None, CITYSCAPES19, SYNTHIA16, CAMVID11])
def test_gta5(tmp_path: Path, space: LabelSpace | None) -> None:
    raw = make_gta5(tmp_path)
    data = open_dataset("gta5", tmp_path, label_space=space)
    assert isinstance(data, SegmentationDataset)
    assert (len(data), data.name, data.has_labels) == (3, "gta5", True)
    assert data.label_space == (space or CITYSCAPES19)
    assert [data.file_name(i) for i in range(3)] == ["00001.png", "00002.png", "00003.png"]
    for i in range(3):
        expected = by_loop(raw[i], dict(CITYSCAPES_ID_TO_TRAIN_ID), data.label_space)
        np.testing.assert_array_equal(data.label(i), expected)
        assert data.image(i).shape == (*SIZE, 3)


def test_gta5_split_file(tmp_path: Path) -> None:
    raw = make_gta5(tmp_path)
    (tmp_path / "some.txt").write_text("00003.png\n\n00001\n")
    for split in ("some.txt", str(tmp_path / "some.txt")):
        data = open_dataset("gta5", tmp_path, split=split)
        assert [data.file_name(i) for i in range(len(data))] == ["00003.png", "00001.png"]
        assert (
            data.label(1).tolist() == by_loop(raw[0], dict(CITYSCAPES_ID_TO_TRAIN_ID), CITYSCAPES19).tolist()
        )
    (tmp_path / "bad.txt").write_text("00003.png\n00009.png\n")
    assert "'00009.png' is no image" in refusal(lambda: open_dataset("gta5", tmp_path, split="bad.txt"))
    (tmp_path / "empty.txt").write_text("\n")
    assert "the list is empty" in refusal(lambda: open_dataset("gta5", tmp_path, split="empty.txt"))
    (tmp_path / "odd.txt").write_bytes(b"\xff\n")
    assert "is no UTF-8 text" in refusal(lambda: open_dataset("gta5", tmp_path, split="odd.txt"))
    assert "no such file" in refusal(lambda: open_dataset("gta5", tmp_path, split="none.txt"))
    assert "no split 'val'" in refusal(lambda: open_dataset("gta5", tmp_path, split="val"))


def test_gta5_label_of_another_size_is_resized_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_gta5(tmp_path)
    small = np.array([[7, 26], [23, 11]], dtype=np.uint8)
    save_palette(tmp_path / "labels" / "00002.png", small)
    data = open_dataset("gta5", tmp_path)
    with caplog.at_level(logging.WARNING):
        label = data.label(1)
        data.label(1)
    expected = np.array([[0, 13], [10, 2]]).repeat(SIZE[0] // 2, 0).repeat(SIZE[1] // 2, 1)
    np.testing.assert_array_equal(label, expected)
    assert len(caplog.records) == 1
    assert "00002.png: label map is 2×2 pixels, image 16×12" in caplog.text


def test_synthia(tmp_path: Path) -> None:
    raw = make_synthia(tmp_path)
    data = open_dataset("synthia", tmp_path)
    assert len(data) == 3
    for i in range(3):
        expected = by_loop(raw[i], dict(SYNTHIA_ID_TO_TRAIN_ID), CITYSCAPES19)
        np.testing.assert_array_equal(data.label(i), expected)


@pytest.mark.parametrize("foreign", [23, 256 + 3, 40_000])
def test_foreign_id_of_a_16_bit_map_is_named_as_it_stands_in_the_file(tmp_path: Path, foreign: int) -> None:
    make_synthia(tmp_path)
    channels = np.zeros((*SIZE, 3), np.uint16)
    channels[..., 2] = 3
    channels[1, :2, 2] = foreign
    assert cv2.imwrite(str(tmp_path / "GT" / "LABELS" / "0000001.png"), channels)
    data = open_dataset("synthia", tmp_path)
    assert f"id {foreign} (2 pixels) has no class" in refusal(lambda: data.label(1))


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_cityscapes(tmp_path: Path, kind: str) -> None:
    raw = make_cityscapes(tmp_path, "val", kind)
    data = open_dataset("cityscapes", tmp_path, split="val")
    assert {data.file_name(i) for i in range(len(data))} == set(raw)
    ids = dict(CITYSCAPES_ID_TO_TRAIN_ID) if kind == "labelIds" else {i: i for i in (*range(19), 255)}
    for i in range(len(data)):
        np.testing.assert_array_equal(data.label(i), by_loop(raw[data.file_name(i)], ids, CITYSCAPES19))


def test_cityscapes_prefers_label_ids(tmp_path: Path) -> None:
    make_cityscapes(tmp_path, kind="labelTrainIds")
    raw = make_cityscapes(tmp_path, kind="labelIds")
    data = open_dataset("cityscapes", tmp_path)
    expected = by_loop(raw[data.file_name(0)], dict(CITYSCAPES_ID_TO_TRAIN_ID), CITYSCAPES19)
    np.testing.assert_array_equal(data.label(0), expected)


def test_camvid_speaks_its_own_classes_and_others(tmp_path: Path) -> None:
    raw = make_camvid(tmp_path, "val")
    ids = {i: i for i in (*range(19), 255)}
    for space, asked in ((CAMVID11, None), (CITYSCAPES19, CITYSCAPES19)):
        data = open_dataset("camvid", tmp_path, split="val", label_space=asked)
        assert data.label_space == space
        for i in range(3):
            np.testing.assert_array_equal(data.label(i), by_loop(raw[i], ids, space))


def test_street_scenes_come_through_the_same_door() -> None:
    data = open_dataset("street_scenes", look="camera", count=1, height=64, width=128, seed=5)
    assert isinstance(data, SegmentationDataset)
    assert (len(data), data.name) == (1, "street_scenes")
    assert data.image(0).shape == (64, 128, 3)
    assert data.label(0).shape == (64, 128)


def test_street_scenes_keep_what_they_rendered_where_they_are_told(tmp_path: Path) -> None:
    options = {"look": "camera", "count": 2, "height": 48, "width": 64, "seed": 5, "label_space": CAMVID11}
    plain = open_dataset("street_scenes", **options)
    for _ in range(2):
        data = open_dataset("street_scenes", **options, scene_cache=str(tmp_path / "scenes"))
        data.prepare()
        assert data.label_space is CAMVID11
        for index in range(2):
            np.testing.assert_array_equal(data.image(index), plain.image(index))
            np.testing.assert_array_equal(data.label(index), plain.label(index))
        assert len(list((tmp_path / "scenes").glob("*.npy"))) == 1


@pytest.mark.parametrize("name", ["gta5", "synthia", "cityscapes", "camvid"])
def test_unlabeled_use_never_asks_for_labels(tmp_path: Path, name: str) -> None:
    images = {
        "gta5": "images/a.png",
        "synthia": "RGB/a.png",
        "cityscapes": "leftImg8bit/train/ulm/a_leftImg8bit.png",
        "camvid": "train/images/a.png",
    }[name]
    save_rgb(tmp_path / images, random_image(np.random.default_rng(0)))
    data = open_dataset(name, tmp_path, needs_labels=False)
    assert not data.has_labels
    assert data.image(0).shape == (*SIZE, 3)
    with pytest.raises(AssertionError):
        data.label(0)
    text = refusal(lambda: open_dataset(name, tmp_path))
    assert str(tmp_path) in text


# ── remapping ───────────────────────────────────────────────────────────────


@given(st.dictionaries(st.integers(0, 65535), st.sampled_from([*range(19), 255])), spaces, st.data())
def test_remap_table_equals_the_loop(ids: dict[int, int], space: LabelSpace, data: st.DataObject) -> None:
    table = remap_table(ids, CITYSCAPES19, space)
    assert (table == UNMAPPED).sum() == 65536 - len(ids)
    if ids:
        raw = np.array(data.draw(st.lists(st.sampled_from(sorted(ids)), min_size=1, max_size=20)))
        np.testing.assert_array_equal(table[raw], by_loop(raw, ids, space))


# ── what is refused ─────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [n for n in DATASET_NAMES if n != "street_scenes"])
@pytest.mark.parametrize("needs_labels", [True, False])
def test_missing_and_empty_folders(tmp_path: Path, name: str, needs_labels: bool) -> None:
    missing = tmp_path / "missing"
    assert f"{missing}: no such folder" in refusal(
        lambda: open_dataset(name, missing, needs_labels=needs_labels)
    )
    assert str(tmp_path) in refusal(lambda: open_dataset(name, tmp_path, needs_labels=needs_labels))
    assert "needs its root folder" in refusal(lambda: open_dataset(name, needs_labels=needs_labels))


def test_empty_inner_folders(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    assert "'images/**/*.*' matches no image" in refusal(lambda: open_dataset("gta5", tmp_path))
    save_rgb(tmp_path / "images" / "a.png", random_image(np.random.default_rng(0)))
    assert "'labels/**/*.*' matches no file" in refusal(lambda: open_dataset("gta5", tmp_path))
    (tmp_path / "leftImg8bit" / "train").mkdir(parents=True)
    assert "_leftImg8bit.*' matches no image" in refusal(lambda: open_dataset("cityscapes", tmp_path))


def test_wrong_folder_says_what_is_there_instead(tmp_path: Path) -> None:
    make_cityscapes(tmp_path)
    assert "there is, for example, gtFine/train/" in refusal(lambda: open_dataset("gta5", tmp_path))
    assert "there is only gtFine/, leftImg8bit/" in refusal(lambda: open_dataset("camvid", tmp_path))
    text = refusal(lambda: open_dataset("cityscapes", tmp_path, split="trian"))
    assert "did you mean 'train'?" in text


def test_unknown_name() -> None:
    assert "did you mean 'gta5'?" in refusal(lambda: open_dataset("gta-5", "."))


def test_image_without_label(tmp_path: Path) -> None:
    make_gta5(tmp_path)
    (tmp_path / "labels" / "00002.png").unlink()
    text = refusal(lambda: open_dataset("gta5", tmp_path))
    assert f"{tmp_path / 'images' / '00002.png'}: has no label (1 of 3 images have none)" in text
    assert len(open_dataset("gta5", tmp_path, needs_labels=False)) == 3


def test_labels_under_other_names(tmp_path: Path) -> None:
    make_camvid(tmp_path)
    for path in (tmp_path / "train" / "labels").iterdir():
        path.rename(path.with_name(path.stem + "_L.png"))
    text = refusal(lambda: open_dataset("camvid", tmp_path))
    assert "0001TP_000000_L.png" in text
    assert "same names" in text


def test_two_images_of_one_name(tmp_path: Path) -> None:
    make_camvid(tmp_path)
    save_rgb(tmp_path / "train" / "images" / "0001TP_000001.png", random_image(np.random.default_rng(0)))
    assert "same name as" in refusal(lambda: open_dataset("camvid", tmp_path))


def test_unmapped_id(tmp_path: Path) -> None:
    make_camvid(tmp_path)
    ids = np.zeros(SIZE, dtype=np.uint8)
    ids[0, :5] = 77
    path = save_gray(tmp_path / "train" / "labels" / "0001TP_000001.png", ids)
    data = open_dataset("camvid", tmp_path)
    assert data.label(0).shape == SIZE
    text = refusal(lambda: data.label(1))
    assert text.startswith(f"{path}: id 77 (5 pixels) has no class in camvid; ")
    ids[1, :2] = 30
    save_gray(path, ids)
    assert "id 30 (2 pixels) and 1 other ids" in refusal(lambda: data.label(1))


@pytest.mark.parametrize("size", [(6, 8), (16, 12)])
def test_sizes_that_disagree(tmp_path: Path, size: tuple[int, int]) -> None:
    make_camvid(tmp_path)
    path = tmp_path / "train" / "labels" / "0001TP_000001.png"
    save_gray(path, random_ids(np.random.default_rng(0), [0, 1], size))
    text = refusal(lambda: open_dataset("camvid", tmp_path).label(1))
    assert f"{path}: label map is {size[1]}×{size[0]} pixels, image 16×12" in text


def test_truncated_files_are_named(tmp_path: Path) -> None:
    make_camvid(tmp_path)
    image = truncate(tmp_path / "train" / "images" / "0001TP_000001.jpg")
    label = truncate(tmp_path / "train" / "labels" / "0001TP_000002.png")
    data = open_dataset("camvid", tmp_path)
    assert str(image) in refusal(lambda: data.image(1))
    assert str(label) in refusal(lambda: data.label(2))


# ── fingerprint, pickling ───────────────────────────────────────────────────


def test_fingerprint_follows_files_and_classes(tmp_path: Path) -> None:
    make_camvid(tmp_path)

    def fingerprint(space: LabelSpace = CAMVID11) -> str:
        data = open_dataset("camvid", tmp_path, label_space=space)
        assert isinstance(data, FileDataset)
        return data.fingerprint()

    first = fingerprint()
    assert fingerprint() == first
    assert fingerprint(CITYSCAPES19) != first
    path = tmp_path / "train" / "labels" / "0001TP_000001.png"
    content = path.read_bytes()
    save_gray(path, np.zeros(SIZE, dtype=np.uint8))
    assert fingerprint() != first
    path.write_bytes(content)
    path.touch()
    assert fingerprint() != first


def test_fingerprint_follows_the_colors_of_the_classes(tmp_path: Path) -> None:
    save_rgb(tmp_path / "images" / "a.png", random_image(np.random.default_rng(0)))
    save_rgb(tmp_path / "labels" / "a.png", random_image(np.random.default_rng(0)))

    def fingerprint(colors: str) -> str:
        (tmp_path / "dataset.toml").write_text(
            'images = "images/*.png"\nlabels = "labels/*.png"\nclasses = ["road", "car"]\n'
            f"color_coded = true\ncolors = {colors}\n"
        )
        data = open_dataset("folder", tmp_path)
        assert isinstance(data, FileDataset)
        return data.fingerprint()

    first = fingerprint("[[1, 2, 3], [4, 5, 6]]")
    assert fingerprint("[[1, 2, 3], [4, 5, 6]]") == first
    assert fingerprint("[[4, 5, 6], [1, 2, 3]]") != first


def test_travels_to_spawned_workers(tmp_path: Path) -> None:
    make_gta5(tmp_path)
    data = open_dataset("gta5", tmp_path)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(data)).label(1), data.label(1))
