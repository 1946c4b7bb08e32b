"""Comparison of the calibration error with torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from iccld.metrics import Reliability


@given(
    num_classes=st.integers(2, 19),
    pixels=st.integers(1, 400),
    num_bins=st.integers(1, 30),
    sharpness=st.floats(0.1, 6.0),
    seed=st.integers(0, 2**31),
)
def test_calibration_error_of_classes(
    num_classes: int, pixels: int, num_bins: int, sharpness: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, sharpness, (pixels, num_classes)).astype(np.float32))
    truth = torch.from_numpy(rng.integers(0, num_classes, pixels))
    probabilities = logits.softmax(1)
    confidence, answer = probabilities.max(1)
    reliability = Reliability(num_bins)
    for part in (slice(0, pixels // 3), slice(pixels // 3, pixels)):
        reliability.update(confidence[part], answer[part] == truth[part])
    expected = multiclass_calibration_error(probabilities, truth, num_classes, num_bins, "l1")
    assert reliability.expected_calibration_error == pytest.approx(float(expected), abs=2e-6)


@pytest.mark.parametrize("ends", [False, True])
def test_calibration_error_over_the_whole_range(ends: bool) -> None:
    """Confidences of a single class range from 0 to 1. The values 0 and 1 belong to the outer bins."""
    rng = np.random.default_rng(0)
    confidence = torch.from_numpy(rng.random(3000).astype(np.float32))
    if ends:
        confidence[:40], confidence[40:70] = 0.0, 1.0
    truth = torch.from_numpy((rng.random(3000) < confidence.numpy() ** 2).astype(np.int64))
    reliability = Reliability()
    reliability.update(confidence, truth == 1)
    expected = float(binary_calibration_error(confidence, truth, n_bins=15, norm="l1"))
    assert expected > 0.1
    assert reliability.expected_calibration_error == pytest.approx(expected, abs=2e-6)
