from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iccld.data import transforms
from iccld.data.transforms import PADDING_COLOR, TrainTransform
from iccld.labels import IGNORE
from iccld.resizing import resize_image, resize_label

lengths = st.integers(1, 40)
sizes = st.tuples(lengths, lengths)
seeds = st.integers(0, 2**32)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(sizes, sizes, seeds, st.booleans())
def test_crop_flip_and_padding_move_image_and_label_alike(
    size: tuple[int, int], crop: tuple[int, int], seed: int, flip: bool
) -> None:
    label = rng(seed).integers(0, 80, size, dtype=np.uint8)
    image = np.stack([label, label + 80, 255 - label], axis=2)  # an image whose colors encode the label
    sample = TrainTransform(crop, flip=flip)(image, label, rng(seed))
    valid, cut, shown = sample["valid"], sample["label"], sample["image"]
    assert shown.shape == (*crop, 3)
    assert valid.shape == cut.shape == crop
    assert (shown.dtype, cut.dtype, valid.dtype) == (np.uint8, np.uint8, np.bool_)
    np.testing.assert_array_equal(shown[valid], np.stack([cut, cut + 80, 255 - cut], axis=2)[valid])
    assert (cut[~valid] == IGNORE).all()
    assert (shown[~valid] == PADDING_COLOR).all()
    assert valid.sum() == min(size[0], crop[0]) * min(size[1], crop[1])


@given(st.integers(8, 40), st.floats(0.5, 2.0), seeds)
def test_random_scale_moves_image_and_label_alike(length: int, factor: float, seed: int) -> None:
    edge = length // 2
    label = np.zeros((length, length), dtype=np.uint8)
    label[:, edge:] = 1
    image = np.stack([label * 255] * 3, axis=2)
    transform = TrainTransform((12, 20), scale=(factor, 2 * factor), resize=(length, length + 3))
    sample = transform(image, label, rng(seed))
    shown = sample["image"][..., 0].astype(int)
    clear = (np.abs(shown - 127.5) > 2) & sample["valid"]
    np.testing.assert_array_equal(sample["label"][clear], (shown > 127.5)[clear].astype(np.uint8))


@given(sizes, sizes, seeds)
def test_resize_without_chance_is_a_plain_resize(
    size: tuple[int, int], target: tuple[int, int], seed: int
) -> None:
    image = rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    label = rng(seed).integers(0, 19, size, dtype=np.uint8)
    sample = TrainTransform(target, flip=False, resize=target, stretch=True)(image, label, rng(0))
    np.testing.assert_array_equal(sample["image"], resize_image(image, target))
    np.testing.assert_array_equal(sample["label"], resize_label(label, target))
    assert sample["valid"].all()


@given(st.integers(10, 40), st.floats(0, 0.45), st.floats(0, 0.45), sizes, seeds)
def test_ignored_rows_are_those_of_the_full_image(
    height: int, top: float, bottom: float, crop: tuple[int, int], seed: int
) -> None:
    rows = np.broadcast_to(np.arange(height, dtype=np.uint8)[:, None], (height, 15))
    image = np.stack([rows] * 3, axis=2)
    transform = TrainTransform(crop, ignore_top=top, ignore_bottom=bottom)
    sample = transform(image, np.zeros((height, 15), np.uint8), rng(seed))
    whole = TrainTransform(crop)(image, np.zeros((height, 15), np.uint8), rng(seed))["valid"]
    row_of = sample["image"][..., 0].astype(int)
    counted = (row_of >= round(top * height)) & (row_of < height - round(bottom * height))
    np.testing.assert_array_equal(sample["valid"], whole & counted)
    np.testing.assert_array_equal(sample["label"], np.where(sample["valid"], 0, IGNORE))


def test_same_seed_same_sample_with_or_without_label() -> None:
    image = rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    label = rng(1).integers(0, 19, (40, 60), dtype=np.uint8)
    transform = TrainTransform((16, 24), scale=(0.5, 2.0))
    first, again = transform(image, label, rng(7)), transform(image, label, rng(7))
    unlabeled = transform(image, None, rng(7))
    assert "label" not in unlabeled
    for key in ("image", "valid"):
        np.testing.assert_array_equal(first[key], again[key])
        np.testing.assert_array_equal(first[key], unlabeled[key])
    samples = {transform(image, label, rng(seed))["image"].tobytes() for seed in range(20)}
    assert len(samples) > 15


def test_half_of_the_samples_are_flipped_and_scale_spans_its_range() -> None:
    transform = TrainTransform((10, 10), scale=(0.5, 1.5))
    drawn = [transform.draw((100, 200), rng(seed)) for seed in range(400)]
    assert 160 < sum(g.flip for g in drawn) < 240
    heights = [g.size[0] for g in drawn]
    assert min(heights) < 56
    assert max(heights) > 144
    assert {
        g.flip for g in (TrainTransform((10, 10), flip=False).draw((20, 20), rng(s)) for s in range(9))
    } == {False}
    tops = [g.top / (g.size[0] - 10) for g in drawn]
    assert min(tops) < 0.03
    assert max(tops) > 0.97


def test_every_place_of_the_crop_is_drawn() -> None:
    transform = TrainTransform((4, 7))
    drawn = [transform.draw((6, 8), rng(seed)) for seed in range(100)]
    assert {(g.top, g.left) for g in drawn} == {(top, left) for top in range(3) for left in range(2)}


def test_wanted_class_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "_CLASS_SHARE", 0.1)
    label = np.zeros((100, 100), dtype=np.uint8)
    label[40:60, 40:60] = 5
    image = np.zeros((100, 100, 3), dtype=np.uint8)
    transform = TrainTransform((30, 30))

    def share_showing(want: int | None) -> float:
        shown = [(transform(image, label, rng(s), want)["label"] == 5).mean() >= 0.1 for s in range(60)]
        return float(np.mean(shown))

    assert share_showing(None) < 0.45
    assert share_showing(5) > 0.9


def test_wanted_class_takes_the_best_crop_when_none_has_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "_CLASS_SHARE", 1.0)
    label = np.zeros((60, 60), dtype=np.uint8)
    label[10:30, 10:30] = 3
    image = np.zeros((60, 60, 3), dtype=np.uint8)
    greedy = TrainTransform((20, 20), flip=False)
    plain = [(TrainTransform((20, 20))(image, label, rng(s))["label"] == 3).mean() for s in range(40)]
    wanted = [(greedy(image, label, rng(s), 3)["label"] == 3).mean() for s in range(40)]
    assert np.mean(wanted) > 2 * np.mean(plain)


@given(seeds, st.sampled_from([0.5, 0.75, 0.9]))
def test_crops_of_one_class_are_drawn_again(seed: int, most: float) -> None:
    """The expected crop follows MMSegmentation's rule, with crops from the same random draws without the rule."""
    label = np.zeros((30, 40), dtype=np.uint8)
    label[:, 14:20] = 1
    label[8:11, 30:] = IGNORE
    image = np.repeat(label[..., None], 3, axis=2)
    plain = TrainTransform((10, 12))
    draws = rng(seed)
    for tries in range(11):
        shown = plain(image, label, draws)["label"]
        counts = np.unique(shown[shown != IGNORE], return_counts=True)[1]
        if tries == 10 or (len(counts) > 1 and counts.max() / counts.sum() < most):
            break
    sample = TrainTransform((10, 12), most_of_one_class=most)(image, label, rng(seed))
    np.testing.assert_array_equal(sample["label"], shown)


def test_varied_crops_are_looked_for_with_a_wanted_class_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "_CLASS_SHARE", 0.1)
    label = np.zeros((60, 60), dtype=np.uint8)
    label[20:40, 20:40] = 5
    image = np.zeros((60, 60, 3), dtype=np.uint8)
    transform = TrainTransform((20, 20), most_of_one_class=0.75)
    shares = [(transform(image, label, rng(s), 5)["label"] == 5).mean() for s in range(60)]
    assert np.mean([0.25 < share < 0.75 for share in shares]) > 0.9


def test_wanted_class_that_is_absent_still_gives_a_sample() -> None:
    sample = TrainTransform((8, 8))(np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), np.uint8), rng(0), 4)
    assert sample["valid"].all()


@pytest.mark.parametrize(
    "settings",
    [
        {"crop": (0, 4)},
        {"scale": (0.0, 1.0)},
        {"scale": (2.0, 1.0)},
        {"most_of_one_class": 0.0},
        {"ignore_top": 0.5, "ignore_bottom": 0.5},
    ],
)
def test_senseless_settings_are_bugs(settings: dict) -> None:
    with pytest.raises(AssertionError):
        TrainTransform(**{"crop": (4, 4), **settings})
