from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from iccld.drawing import colorize
from iccld.errors import InputError
from iccld.inference.segmenter import PredictSettings, choose_device, predict_image
from iccld.labels import CITYSCAPES19


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
