from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from iccld.metrics import ErrorDetection, Reliability


def calibration_error(confidence: list[float], right: list[bool], num_bins: int = 15) -> float:
    reliability = Reliability(num_bins)
    reliability.update(torch.tensor(confidence), torch.tensor(right, dtype=torch.bool))
    return reliability.expected_calibration_error


def auroc(score: list[float] | np.ndarray, right: list[bool] | np.ndarray) -> float:
    detection = ErrorDetection()
    detection.update(torch.tensor(score, dtype=torch.float32), torch.tensor(right, dtype=torch.bool))
    return detection.auroc


def by_ranks(score: np.ndarray, right: np.ndarray) -> float:
    wrong = score[~right]
    return float(mannwhitneyu(wrong, score[right]).statistic / (len(wrong) * right.sum()))


# -- calibration error -------------------------------------------------------------------------------


def test_calibration_error_by_hand() -> None:
    # Two bins. Below: confidence 0.2, 0.4; one of two right: |0.6 − 1| = 0.4. Above: 0.9, 0.7, 1.0; all right: 0.4.
    found = calibration_error([0.2, 0.9, 0.7, 0.4, 1.0], [True, True, True, False, True], num_bins=2)
    assert found == pytest.approx((0.4 + 0.4) / 5)


def test_too_sure_and_too_shy_do_not_cancel() -> None:
    assert calibration_error([1.0, 1.0, 0.3, 0.3], [True, False, True, False]) == pytest.approx(0.35)


@pytest.mark.parametrize(
    ("confidence", "right", "expected"),
    [
        ([1.0, 1.0], [True, True], 0.0),
        ([1.0, 1.0], [False, False], 1.0),
        ([0.0, 0.0], [True, True], 1.0),
        ([0.0], [False], 0.0),
        ([1.0 + 1e-6], [True], 0.0),  # sums of probabilities may round to a little more than 1
        ([-1e-6], [False], 0.0),
    ],
)
def test_extreme_confidence(confidence: list[float], right: list[bool], expected: float) -> None:
    assert calibration_error(confidence, right) == pytest.approx(expected, abs=1e-5)


def test_a_bin_holds_its_upper_end() -> None:
    reliability = Reliability(4)
    reliability.update(torch.tensor([0.0, 0.25, 0.26, 0.5, 0.75, 1.0]), torch.ones(6, dtype=torch.bool))
    assert reliability.pixels.tolist() == [2, 2, 1, 1]


def test_batches_add_up_and_nothing_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    confidence, right = torch.from_numpy(rng.random(500)), torch.from_numpy(rng.random(500) < 0.5)
    whole, parts = Reliability(), Reliability()
    whole.update(confidence, right)
    for part in (slice(0, 0), slice(0, 7), slice(7, 7), slice(7, 500)):
        parts.update(confidence[part], right[part])
    assert parts.expected_calibration_error == pytest.approx(whole.expected_calibration_error, rel=1e-12)
    assert int(parts.pixels.sum()) == 500


def test_no_pixels_give_no_number() -> None:
    assert math.isnan(Reliability().expected_calibration_error)
    assert math.isnan(calibration_error([], []))


def test_many_pixels_are_counted_exactly() -> None:
    reliability = Reliability()
    confidence = torch.full((1 << 20,), 0.9)
    right = torch.arange(1 << 20) % 4 > 0
    for _ in range(17):  # more than single precision can count one by one
        reliability.update(confidence, right)
    assert reliability.pixels.sum() == 17 << 20
    assert reliability.expected_calibration_error == pytest.approx(0.15, abs=1e-6)


# -- finding errors ----------------------------------------------------------------------------------


@given(
    num_levels=st.integers(1, 64),
    pixels=st.integers(2, 300),
    rate=st.floats(0.1, 0.9),
    seed=st.integers(0, 2**31),
)
def test_auroc_equals_the_rank_statistic(num_levels: int, pixels: int, rate: float, seed: int) -> None:
    """With few levels most pixels tie; the levels lie further apart than a bin is wide."""
    rng = np.random.default_rng(seed)
    score = rng.integers(0, num_levels + 1, pixels) / num_levels
    right = rng.random(pixels) < rate
    right[:2] = True, False
    assert auroc(score, right) == pytest.approx(by_ranks(score, right), abs=1e-12)


def test_auroc_of_continuous_scores_is_close() -> None:
    rng = np.random.default_rng(1)
    right = rng.random(4000) < 0.8
    # As entropies are: nearly all of them tiny.
    score = np.clip(rng.random(4000) ** np.where(right, 12, 6), 0, 1)
    assert 0.6 < by_ranks(score, right) < 0.9
    assert auroc(score, right) == pytest.approx(by_ranks(score, right), abs=1e-3)


@pytest.mark.parametrize(
    ("score", "right", "expected"),
    [
        ([0.1, 0.2, 0.9], [True, True, False], 1.0),
        ([0.9, 0.2], [True, False], 0.0),
        ([0.5, 0.5, 0.5], [True, False, True], 0.5),
        ([0.0, 1.0], [True, False], 1.0),
        ([1.0, 1.0], [True, False], 0.5),
        ([0.0, 0.0], [True, False], 0.5),
        ([-1e-7, 0.0], [False, True], 0.5),  # 1 − confidence may round below 0
        ([1.0 + 1e-6, 1.0], [False, True], 0.5),
        ([1e-12, 1e-9], [True, False], 1.0),  # sure pixels are still told apart
    ],
)
def test_auroc_by_hand(score: list[float], right: list[bool], expected: float) -> None:
    assert auroc(score, right) == expected


def test_pixels_of_one_kind_give_no_number() -> None:
    assert math.isnan(ErrorDetection().auroc)
    assert math.isnan(auroc([0.1, 0.9], [True, True]))
    assert math.isnan(auroc([0.1, 0.9], [False, False]))


def test_scores_of_many_images_add_up() -> None:
    rng = np.random.default_rng(2)
    score, right = rng.integers(0, 9, 400) / 8, rng.random(400) < 0.7
    detection = ErrorDetection()
    for part in (slice(0, 0), slice(0, 1), slice(1, 250), slice(250, 400)):
        detection.update(torch.from_numpy(score[part]), torch.from_numpy(right[part]))
    assert detection.auroc == pytest.approx(by_ranks(score, right), abs=1e-12)


# -- risk and coverage -------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=60))
def test_risk_and_false_positives_by_brute_force(pixels: list[tuple[int, bool]]) -> None:
    score = np.array([value / 12 for value, _ in pixels], np.float32)
    right = np.array([hit for _, hit in pixels])
    detection = ErrorDetection()
    for part in (slice(0, len(score) // 2), slice(len(score) // 2, None)):
        detection.update(torch.from_numpy(score[part]), torch.from_numpy(right[part]))
    risks = [float((~right[score <= value]).mean()) for value in score]
    assert detection.aurc == pytest.approx(np.mean(risks))
    if right.all() or not right.any():
        assert math.isnan(detection.fpr95)
        return
    rates = [
        (score[right] >= threshold).mean()
        for threshold in score
        if (score[~right] >= threshold).mean() >= 0.95
    ]
    assert detection.fpr95 == pytest.approx(min(rates))
