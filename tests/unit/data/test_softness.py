"""Compressed, blurred and interpolated label maps are detected from their pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from iccld.data.autodetect.detect import guess_folder
from iccld.data.autodetect.guess import to_toml
from iccld.data.datasets import open_dataset
from iccld.data.image_files import read_label
from iccld.data.softness import judge
from iccld.errors import InputError

COLORS = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (128, 64, 128), (70, 130, 180)], np.uint8)
SIZE = (96, 128)


def draw(seed: int, values: list[int], size: tuple[int, int] = SIZE, num: int = 10) -> np.ndarray:
    """Draws circles, boxes and triangles on a background. Each value is used for at least one shape."""
    rng = np.random.default_rng(seed)
    canvas = np.full(size, values[0], np.uint8)
    for i in range(max(num, len(values))):
        value = values[i] if i < len(values) else int(rng.choice(values))
        x, y = int(rng.integers(8, size[1] - 8)), int(rng.integers(8, size[0] - 8))
        radius = int(rng.integers(6, size[0] // 4))
        if i % 3 == 0:
            cv2.circle(canvas, (x, y), radius, value, -1)
        elif i % 3 == 1:
            cv2.rectangle(canvas, (x, y), (x + radius, y + radius // 2 + 4), value, -1)
        else:
            cv2.fillPoly(canvas, [rng.integers(0, size[::-1], (3, 2)).astype(np.int32)], value)
    return canvas


def through_jpeg(quality: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(mask: np.ndarray) -> np.ndarray:
        stream = io.BytesIO()
        Image.fromarray(mask).save(stream, "JPEG", quality=quality)
        return np.asarray(Image.open(stream))

    return change


def scaled(factor: float, how: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda mask: cv2.resize(mask, None, fx=factor, fy=factor, interpolation=how)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **{f"JPEG {quality}": through_jpeg(quality) for quality in (98, 90, 75, 40)},
    **{f"blur {sigma}": lambda mask, s=sigma: cv2.GaussianBlur(mask, (0, 0), s) for sigma in (0.6, 1.5, 5)},
    "linear 2": scaled(2, cv2.INTER_LINEAR),
    "linear 0.6": scaled(0.6, cv2.INTER_LINEAR),
    "area 0.5": scaled(0.5, cv2.INTER_AREA),
    "cubic 2": scaled(2, cv2.INTER_CUBIC),
    "smeared": lambda mask: cv2.filter2D(mask, -1, np.ones((1, 9), np.float32) / 9),
    "rotated": lambda mask: cv2.warpAffine(
        mask, cv2.getRotationMatrix2D((64, 48), 13, 1), (128, 96), flags=cv2.INTER_LINEAR
    ),
}
HARD = st.sampled_from(
    [[0, 255], [0, 128, 255], [0, 1, 2, 3], list(range(19)), [7, 8, 11, 23, 26], [0, 40, 90, 200]]
)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), HARD, st.booleans())
def test_maps_as_they_were_drawn_pass(seed: int, values: list[int], smaller: bool) -> None:
    mask = draw(seed, values)
    mask = cv2.resize(mask, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_NEAREST) if smaller else mask
    assert judge(mask) is None
    assert judge(COLORS[mask % len(COLORS)]) is None
    assert judge(mask.astype(np.uint16) * 257) is None


@settings(max_examples=6, derandomize=True, deadline=None)
@given(st.integers(0, 10**6))
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_soft_maps_are_found(change: Callable[[np.ndarray], np.ndarray], seed: int) -> None:
    for mask in (draw(seed, [0, 255]), draw(seed, [0, 128, 255]), COLORS[draw(seed, [0, 1, 2, 3, 4])]):
        assert judge(change(mask)) is not None


def test_interpolated_ids_are_found_though_all_of_them_are_classes() -> None:
    found = [judge(scaled(4, cv2.INTER_LINEAR)(draw(seed, list(range(19))))) for seed in range(4)]
    assert all(softness is not None and softness.is_ramp for softness in found)


def test_what_looks_soft_and_is_not() -> None:
    lines = np.zeros(SIZE, np.uint8)
    for i in range(1, 9):  # thin lines, like lane markings
        cv2.line(lines, (i * 14, 0), (i * 9, 95), i, 1)
    bordered = draw(0, [0, 15, 20])
    edges = cv2.morphologyEx(bordered, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    bordered[edges] = 255  # a border of ignored pixels, as in Pascal VOC
    cells = np.zeros(SIZE, np.uint8)  # background, membrane, inside
    for y in range(12, 96, 24):
        for x in range(12, 128, 24):
            cv2.circle(cells, (x, y), 10, 1, -1)
            cv2.circle(cells, (x, y), 7, 2, -1)
    noise = np.random.default_rng(0).integers(0, 19, SIZE)
    for mask in (lines, bordered, cells, noise, np.zeros(SIZE, np.uint8), np.zeros((1, 1), np.uint8)):
        assert judge(mask) is None


def test_one_softened_map_of_a_large_picture_is_found_where_it_is() -> None:
    mask = np.zeros((1500, 1500), np.uint8)
    mask[1400:, 1400:] = cv2.GaussianBlur(draw(0, [0, 255], (100, 100)), (0, 0), 2)
    assert judge(mask) is not None


# ── in data sets ────────────────────────────────────────────────────────────


def write(root: Path, masks: list[np.ndarray], *, mode: str | None = None) -> Path:
    for i, mask in enumerate(masks):
        for folder, pixels in (("images", np.zeros((*mask.shape[:2], 3), np.uint8)), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels, mode if folder == "masks" else None).save(root / folder / f"{i}.png")
    return root


@pytest.mark.parametrize("name", ["JPEG 90", "JPEG 40", "blur 1.5", "linear 2"])
def test_two_gray_values_are_read_by_the_nearer_one(name: str, tmp_path: Path) -> None:
    masks = [draw(seed, [0, 255]) for seed in range(3)]
    soft = [CHANGES[name](mask) for mask in masks]
    guess = guess_folder(write(tmp_path, soft))
    assert any("are not as they were drawn" in check for check in guess.meaning.checks)  # type: ignore[union-attr]
    (tmp_path / "dataset.toml").write_text(to_toml(guess))
    data = open_dataset("folder", tmp_path)
    for i, mask in enumerate(masks):
        truth = cv2.resize(mask, soft[i].shape[::-1], interpolation=cv2.INTER_NEAREST) // 255
        sure = cv2.morphologyEx(truth, cv2.MORPH_GRADIENT, np.ones((11, 11), np.uint8)) == 0
        np.testing.assert_array_equal(data.label(i)[sure], truth[sure])


@pytest.mark.parametrize("values", [[0, 128, 255], [0, 1, 2, 3, 4]])
def test_others_are_refused_by_name(values: list[int], tmp_path: Path) -> None:
    masks = [draw(seed, values) for seed in range(3)]
    if max(values) < 5:
        masks = [COLORS[mask] for mask in masks]
    masks[1] = through_jpeg(90)(masks[1])
    with pytest.raises(InputError, match=r"masks/1\.png: only \d of its \d+ values fill areas .*JPEG"):
        guess_folder(write(tmp_path, masks))


def test_values_that_the_description_does_not_list_are_explained(tmp_path: Path) -> None:
    mask = draw(0, [0, 255])
    write(tmp_path, [mask, CHANGES["JPEG 90"](mask), np.where(mask == 255, 7, 0).astype(np.uint8)])
    (tmp_path / "dataset.toml").write_text(
        'images = "images/*.png"\nlabels = "masks/*.png"\nclasses = ["a", "b"]\nignore = []\n'
        'ids = { 0 = "a", 255 = "b" }\n'
    )
    data = open_dataset("folder", tmp_path)
    data.label(0)
    with pytest.raises(InputError, match=r"masks/1\.png: id 1 .* as JPEG compression or smoothing"):
        data.label(1)
    with pytest.raises(InputError, match=r"masks/2\.png: id 7 .* list it under \[ids\]"):
        data.label(2)


# ── channels ────────────────────────────────────────────────────────────────


def test_masks_in_alpha_are_refused(tmp_path: Path) -> None:
    mask = draw(0, [0, 255])
    black, ones = np.zeros_like(mask), np.full_like(mask, 255)
    for layers in (
        (black, mask),
        (black, 255 - mask),
        (black, black, black, mask),
        (ones, ones, ones, mask // 2),
    ):
        path = tmp_path / "mask.png"
        Image.fromarray(np.dstack(layers)).save(path)
        with pytest.raises(InputError, match=r"mask\.png: its mask is in the alpha channel"):
            read_label(path)
    cv2.imwrite(str(path), np.dstack([black, black, black, mask]).astype(np.uint16))
    with pytest.raises(InputError, match="its mask is in the alpha channel"):
        read_label(path)


def test_alpha_that_says_nothing_new_is_passed_over(tmp_path: Path) -> None:
    mask = draw(0, [0, 255])
    path = tmp_path / "mask.png"
    for alpha in (mask, np.full_like(mask, 255), np.full_like(mask, 7)):
        Image.fromarray(np.dstack([mask, mask, mask, alpha])).save(path)
        np.testing.assert_array_equal(read_label(path), mask)
        Image.fromarray(np.dstack([mask, alpha])).save(path)
        np.testing.assert_array_equal(read_label(path), mask)


def test_ids_in_the_red_channel(tmp_path: Path) -> None:
    ids = draw(0, [0, 3, 5, 9])
    black = np.zeros_like(ids)
    write(tmp_path, [np.dstack([ids, black, black])])
    np.testing.assert_array_equal(read_label(tmp_path / "masks/0.png"), ids)
    meaning = guess_folder(tmp_path).meaning
    assert meaning is not None
    assert "color_coded" not in meaning.keys
    assert meaning.keys["ids"].keys() == {"0", "3", "5", "9"}
    # If other maps contain other colors, red is a color and not an id.
    write(tmp_path, [COLORS[draw(0, [0, 1])], COLORS[draw(0, [0, 2])]])
    meaning = guess_folder(tmp_path).meaning
    assert meaning is not None
    assert sorted(meaning.keys["colors"]) == [[0, 0, 0], [0, 255, 0], [255, 0, 0]]
