from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from iccld.errors import InputError
from iccld.inference.rendering import colorize
from iccld.inference.segmenter import PredictSettings, choose_device, predict_image
from iccld.labels import CITYSCAPES19


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"draws": -1}, "draws is -1"),
        ({"overlap": 1.0}, "overlap is 1.0"),
        ({"overlap": -0.1}, "overlap is -0.1"),
        ({"overlap": float("nan")}, "overlap is nan"),
        ({"steps": 10**9}, "steps is 1000000000; give a whole number from 1 to 1000"),
        ({"draws": 10**9}, "draws is 1000000000"),
        ({"seed": 10**30}, "seed is 1000000000000000000000000000000"),
        ({"resize": (10**9, 64)}, "resize is 1000000000×64"),
        ({"precision": "fp16"}, "precision is 'fp16'"),
        ({"window": (0, 64)}, "window is 0×64"),
        ({"resize": (64, -1)}, "resize is 64×-1"),
    ],
)
def test_bad_settings_are_refused_by_name(wrong: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        PredictSettings(**wrong)


def test_settings_reach_the_model(model: Any):
    image = np.zeros((8, 12, 3), np.uint8)
    predict_image(model, image, PredictSettings(3, 4, 5, (40, 48), 0.5))
    assert model.calls == [
        {
            "steps": 3,
            "draws": 4,
            "seed": 5,
            "window": (40, 48),
            "overlap": 0.5,
            "input_height": None,
            "precision": "auto",
        }
    ]


def test_resizing_brings_every_map_back_to_the_image(model: Any):
    labels = np.kron(np.array([[0, 13], [10, 8]], np.uint8), np.ones((16, 20), np.uint8))
    image = colorize(labels, CITYSCAPES19)
    prediction = predict_image(model, image, PredictSettings(resize=(16, 20)))
    assert model.sizes == [(16, 20)]
    assert model.calls[0]["input_height"] == 0, "a size that was asked for is not scaled again"
    assert (
        prediction.labels.shape
        == prediction.uncertainty.shape
        == prediction.mutual_information.shape
        == (32, 40)
    )
    assert prediction.labels.dtype == np.uint8
    assert prediction.probabilities.shape == (19, 32, 40)
    assert np.array_equal(prediction.labels, prediction.probabilities.argmax(0))
    assert np.array_equal(prediction.labels, labels)  # blocks of even size survive halving
    np.testing.assert_allclose(prediction.probabilities.sum(0), 1, atol=1e-5)


def test_resizing_to_the_same_size_changes_nothing(model: Any):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    plain, resized = (predict_image(model, image, PredictSettings(resize=r)) for r in (None, (9, 7)))
    assert np.array_equal(plain.probabilities, resized.probabilities)


def test_shrinking_averages_so_that_thin_things_leave_a_trace(model: Any):
    seen: list[np.ndarray] = []
    predict = model.predict
    model.predict = lambda images, **settings: seen.append(images) or predict(images, **settings)
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 5] = 200
    predict_image(model, image, PredictSettings(resize=(4, 4)))
    # A triangle of eight pixels' width about pixel 6, with weights of 4 in sum, and 3.5 about pixel 2 at the border.
    np.testing.assert_allclose(seen[0][0, :, 0], [200 * 0.125 / 3.5, 200 * 0.875 / 4, 0, 0], atol=1)


def test_out_of_memory_says_what_to_do(model: Any):
    def predict(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    model.predict = predict
    with pytest.raises(InputError, match=r"40×20 pixels.*--window"):
        predict_image(model, np.zeros((20, 40, 3), np.uint8))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_too_little_memory_of_the_machine_is_the_same_mistake(
    model: Any, error: Exception, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(model, "predict", fail)
    with pytest.raises(InputError, match="out of memory on an image of 8×4 pixels"):
        predict_image(model, np.zeros((4, 8, 3), np.uint8))


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("gpu", "cuda:99", ""):
        with pytest.raises(InputError, match="cannot be used here"):
            choose_device(name)
