from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from iccld.errors import InputError
from iccld.models.settings import PredictSettings, check_memory


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "steps = 0 must be a whole number from 1 to 1000"),
        ({"steps": 10**9}, "steps = 1000000000 must be a whole number from 1 to 1000"),
        ({"steps": float("nan")}, "steps = nan"),
        ({"steps": True}, "steps = True"),
        ({"draws": 2.0}, "draws = 2.0"),
        ({"draws": "2"}, "draws = '2'"),
        ({"draws": -1}, "draws = -1"),
        ({"window": (float("nan"), 64)}, r"window\[0\] = nan must be a whole number from 32"),
        ({"window": (0, 64)}, r"window\[0\] = 0"),
        ({"window": 64}, "window = 64"),
        ({"window": (64, 64, 3)}, "window = .* must be a list of 2"),
        ({"resize": (10**9, 64)}, r"resize\[0\] = 1000000000"),
        ({"resize": (64, -1)}, r"resize\[1\] = -1"),
        ({"overlap": "x" * 10**6}, "overlap = 'xxx"),
        ({"overlap": 1.0}, "overlap = 1.0 must be a number from 0 to 0.99"),
        ({"overlap": -0.1}, "overlap = -0.1"),
        ({"overlap": float("nan")}, "overlap = nan"),
        ({"overlap": None}, "overlap = None"),
        ({"input_height": -1}, "input height = -1"),
        ({"precision": "fp16"}, "precision = 'fp16' must be one of auto, fp32, bf16"),
        ({"seed": float("inf")}, "seed = inf"),
        ({"seed": 10**30}, "seed = 1000000000000000000000000000000"),
    ],
)
def test_other_values_are_refused_by_name_in_one_short_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        PredictSettings(**settings)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_and_lists_are_taken() -> None:
    settings = PredictSettings(
        steps=np.int64(3), draws=1000, window=[np.int32(64), 65_535], overlap=np.float32(0.5)
    )
    assert settings == PredictSettings(3, 1000, 0, (64, 65_535), 0.5)


def test_a_size_that_was_asked_for_is_not_scaled_again() -> None:
    assert PredictSettings(resize=(64, 64)).input_height == 0
    assert PredictSettings(resize=(64, 64), input_height=128).input_height == 128
    assert PredictSettings().input_height is None


def test_answers_beyond_the_memory_are_refused_with_the_estimate() -> None:
    check_memory(1, (1024, 2048), 19)
    with pytest.raises(InputError, match=r"of 1048576×1048576 pixels needs 61.6 TB of memory"):
        check_memory(1, (2**20, 2**20), 5)
