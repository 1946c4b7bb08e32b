from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from iccld.errors import InputError
from iccld.models.settings import check_memory, check_settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": float("nan")}, "steps is nan"),
        ({"steps": True}, "steps is True"),
        ({"draws": 2.0}, "draws is 2.0"),
        ({"draws": "2"}, "draws is '2'"),
        ({"window": (float("nan"), 64)}, "window is nan×64"),
        ({"window": 64}, "window is 64"),
        ({"window": (64, 64, 3)}, "window is 64×64×3"),
        ({"overlap": "x" * 10**6}, "overlap is 'xxx"),
        ({"seed": float("inf")}, "seed is inf"),
    ],
)
def test_other_types_are_refused_in_one_short_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        check_settings(**settings)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_integers_of_numpy_and_windows_larger_than_the_image_are_taken() -> None:
    check_settings(steps=np.int64(3), draws=1000, seed=-5, window=(10**9, 10**9), overlap=0)
    check_memory(1, (1024, 2048), 19)


def test_answers_beyond_the_memory_are_refused_with_the_estimate() -> None:
    with pytest.raises(InputError, match=r"of 1048576×1048576 pixels needs 61.6 TB of memory"):
        check_memory(1, (2**20, 2**20), 5)
