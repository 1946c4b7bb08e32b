from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iccld.data.photometric import change_appearance
from iccld.data.transforms import PADDING_COLOR, TrainTransform
from iccld.labels import IGNORE

seeds = st.integers(0, 2**32)
lengths = st.integers(1, 40)
strengths = st.floats(0, 1)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(seed: int, *size: int) -> np.ndarray:
    return rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@given(lengths, lengths, seeds, strengths)
def test_every_size_keeps_its_shape_and_repeats_with_the_seed(
    height: int, width: int, seed: int, strength: float
) -> None:
    image = noise(seed, height, width)
    before = image.copy()
    changed = change_appearance(image, rng(seed), strength)
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(changed, change_appearance(image, rng(seed), strength))


@given(seeds)
def test_strength_zero_changes_nothing_and_draws_nothing(seed: int) -> None:
    image, drawn = noise(seed, 9, 11), rng(seed)
    np.testing.assert_array_equal(change_appearance(image, drawn, 0.0), image)
    assert drawn.random() == rng(seed).random()


def differences(strength: float) -> np.ndarray:
    image = np.dstack([np.linspace(40, 200, 48 * 64).reshape(48, 64)] * 3).astype(np.uint8)
    changed = [change_appearance(image, rng(s), strength).astype(float) for s in range(60)]
    return np.array([np.abs(c - image).mean() for c in changed])


def test_changes_grow_with_the_strength() -> None:
    weak, medium, strong = (np.median(differences(s)) for s in (0.1, 0.5, 1.0))
    assert 0 < weak < medium < strong


def test_an_edge_stays_at_its_place() -> None:
    image = np.full((64, 64, 3), 60, np.uint8)
    image[:, 24:] = 190
    for seed in range(30):
        columns = change_appearance(image, rng(seed), 1.0).astype(float).mean(axis=(0, 2))
        smooth = np.convolve(columns, np.ones(5) / 5, mode="valid")
        assert abs(int(np.abs(np.diff(smooth)).argmax()) + 2 - 23) <= 3, seed


def test_colors_lose_saturation_and_change_hue() -> None:
    image = np.full((16, 16, 3), (180, 90, 60), np.uint8)
    colors = np.array([change_appearance(image, rng(s), 1.0).reshape(-1, 3).mean(0) for s in range(80)])
    spread = colors.max(1) - colors.min(1)
    assert (spread < 25).any()
    assert (spread > 100).any()
    assert {0, 1} <= set(colors.argmax(1))


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_the_transform_changes_the_image_alone(strength: float) -> None:
    image, label = noise(3, 20, 30), rng(4).integers(0, 5, (20, 30), dtype=np.uint8)
    crop = (26, 24)
    plain = TrainTransform(crop)(image, label, rng(5))
    sample = TrainTransform(crop, photometric=strength)(image, label, rng(5))
    np.testing.assert_array_equal(sample["label"], plain["label"])
    np.testing.assert_array_equal(sample["valid"], plain["valid"])
    assert (sample["image"][~sample["valid"]] == PADDING_COLOR).all()
    assert (sample["label"][~sample["valid"]] == IGNORE).all()
    assert np.array_equal(sample["image"], plain["image"]) == (strength == 0)
