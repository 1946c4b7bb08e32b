from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iccld.errors import InputError
from iccld.models.iccld import ICCLD
from iccld.models.images import to_batch
from iccld.models.prediction import Prediction, entropy, window_positions

FIELDS = ("labels", "probabilities", "uncertainty", "mutual_information")


def _image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colored noise."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, 3, 6, 6), dtype=np.float32))
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return (255 * fine[0].permute(1, 2, 0)).round().to(torch.uint8).numpy()


def _assert_same(one: Prediction, other: Prediction) -> None:
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def _stacked(results: list[Any]) -> Prediction:
    """The maps of several results with a batch axis."""
    names = ("labels", "probabilities", "mutual_information")
    return Prediction(*(np.stack([getattr(result, name) for result in results]) for name in names))


@pytest.mark.parametrize("size", [(64, 96), (70, 101), (32, 32), (33, 31), (1, 1)])
def test_shapes_types_and_ranges(model: ICCLD, size: tuple[int, int]) -> None:
    prediction = model.predict(_image(*size))
    k = len(model.label_space)
    assert prediction.labels.dtype == np.uint8
    assert prediction.labels.shape == size
    for field in FIELDS[1:]:
        assert getattr(prediction, field).dtype == np.float32
    assert prediction.probabilities.shape == (k, *size)
    assert prediction.uncertainty.shape == prediction.mutual_information.shape == size
    np.testing.assert_allclose(prediction.probabilities.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(prediction.labels, prediction.probabilities.argmax(axis=0))
    assert prediction.uncertainty.min() >= 0
    assert prediction.relative_uncertainty.max() <= 1
    assert not prediction.mutual_information.any(), "one draw cannot disagree with itself"


@pytest.mark.parametrize("size", [(8, 8), (33, 31), (100, 20)])
def test_narrow_images_in_bf16(model: ICCLD, size: tuple[int, int]) -> None:
    """On AMX processors, a stride-2 convolution with an output of one column reads memory out of bounds."""
    images = np.stack([_image(*size)] * 2)
    for _ in range(3):
        rubbish = [
            torch.full((count,), torch.nan) for count in (512, 1024, 2048, 4096, 16384) for _ in range(6)
        ]
        del rubbish
        half, full = (_stacked(model.predict(images, precision=p)) for p in ("bf16", "fp32"))
        np.testing.assert_allclose(half.probabilities, full.probabilities, atol=0.05)


@pytest.mark.parametrize("size", [(70, 101), (65, 64), (95, 35)])
def test_odd_sizes_are_cut_out_of_the_padded_image(model: ICCLD, size: tuple[int, int]) -> None:
    image = _image(*size)
    padding = [(0, -side % 32) for side in size]  # to multiples of 32, here at least 64
    padded = np.pad(image, [*padding, (0, 0)], mode="edge")
    whole = model.predict(padded, precision="fp32")
    part = model.predict(image, precision="fp32")
    # Without padding, the last row and column have no next cell to interpolate with.
    height, width = (side - 1 for side in size)
    for field in FIELDS[1:]:
        ours, expected = getattr(part, field), getattr(whole, field)
        np.testing.assert_allclose(ours[..., :height, :width], expected[..., :height, :width], atol=1e-5)


def test_arrays_that_cannot_be_written_are_taken(model: ICCLD) -> None:
    image = np.zeros((40, 64, 3), np.uint8)
    image.flags.writeable = False  # warnings are errors here
    assert model.predict(image).labels.shape == (40, 64)


def test_bytes_and_floats_agree(model: ICCLD) -> None:
    image = _image(40, 56)
    as_bytes = model.predict(image)
    _assert_same(as_bytes, model.predict(image.astype(np.float32) / np.float32(255)))
    np.testing.assert_allclose(
        as_bytes.probabilities, model.predict(image.astype(np.float64) / 255).probabilities, atol=1e-2
    )


@pytest.mark.parametrize("window", [None, (32, 48)])
def test_a_batch_is_its_images(model: ICCLD, window: tuple[int, int] | None) -> None:
    images = np.stack([_image(40, 56, seed) for seed in range(3)])
    batch = _stacked(model.predict(images, window=window, precision="fp32"))
    assert batch.labels.shape == (3, 40, 56)
    assert batch.probabilities.shape == (3, len(model.label_space), 40, 56)
    single = _stacked(model.predict(images[:1], window=window, precision="fp32"))
    first = model.predict(images[0], window=window, precision="fp32")
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(single, field)[0], getattr(first, field))
    np.testing.assert_allclose(batch.probabilities[0], first.probabilities, atol=1e-4)


def test_the_seed_decides(model: ICCLD) -> None:
    image = _image(40, 56)
    first = model.predict(image, seed=1)
    torch.manual_seed(99)
    _assert_same(first, model.predict(image, seed=1))
    assert not np.array_equal(first.probabilities, model.predict(image, seed=2).probabilities)


def test_nothing_of_the_callers_is_disturbed(model: ICCLD) -> None:
    state = torch.get_rng_state()
    model.train()
    try:
        model.predict(_image(32, 32), draws=2, steps=2)
        assert model.training
        assert all(module.training for module in model.modules())
    finally:
        model.eval()
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.is_inference_mode_enabled()
    assert not torch.is_autocast_enabled("cpu")


def test_training_mode_comes_back_after_an_error(model: ICCLD, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model, "encode", fail)
    model.train()
    try:
        with pytest.raises(RuntimeError, match="out of memory"):
            model.predict(_image(32, 32))
        assert model.training
    finally:
        model.eval()


def test_other_devices_random_state_is_left_alone(model: ICCLD, monkeypatch: pytest.MonkeyPatch) -> None:
    """``torch.manual_seed`` would seed all GPUs, and ``fork_rng(devices=[])`` would not restore their states."""

    def refuse(seed: int) -> None:
        raise AssertionError("seeds the GPUs")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    model.predict(_image(32, 32))


def test_the_first_and_the_last_layer_predict_in_fp32(model: ICCLD) -> None:
    found: dict[str, torch.dtype] = {}
    stem, head = model.image_coder.stem, model.label_decoder.head
    handles = [
        part.register_forward_hook(lambda _, inputs, output, name=name: found.update({name: output.dtype}))
        for name, part in (("stem", stem), ("between", model.denoiser.out), ("head", head))
    ]
    try:
        prediction = model.predict(_image(64, 64), precision="bf16")
    finally:
        for handle in handles:
            handle.remove()
    assert found == {"stem": torch.float32, "between": torch.bfloat16, "head": torch.float32}
    np.testing.assert_allclose(prediction.probabilities.sum(axis=0), 1, atol=1e-5)


@settings(max_examples=12, deadline=None)
@given(
    size=st.tuples(st.integers(33, 70), st.integers(33, 70)),
    draws=st.integers(1, 3),
    window=st.sampled_from((None, (32, 48))),
    height=st.sampled_from((0, 40)),
    batch=st.booleans(),
    precision=st.sampled_from(("fp32", "bf16")),
)
def test_uncertainty_is_the_entropy_of_the_probabilities_in_nats(
    model: ICCLD,
    size: tuple[int, int],
    draws: int,
    window: tuple[int, int] | None,
    height: int,
    batch: bool,
    precision: str,
) -> None:
    images = _image(*size) if not batch else np.stack([_image(*size, seed) for seed in range(2)])
    prediction = model.predict(images, draws=draws, window=window, input_height=height, precision=precision)
    prediction = _stacked(prediction) if batch else prediction
    wanted = scipy.stats.entropy(prediction.probabilities.astype(np.float64), axis=-3)
    np.testing.assert_allclose(prediction.uncertainty, wanted, atol=1e-5)
    np.testing.assert_allclose(prediction.relative_uncertainty, wanted / math.log(5), atol=1e-5)
    assert (prediction.mutual_information <= prediction.uncertainty + 1e-5).all()


@pytest.mark.parametrize("window", [None, (32, 32)])
def test_draws_average_and_disagree(model: ICCLD, window: tuple[int, int] | None) -> None:
    prediction = model.predict(_image(48, 64), draws=4, window=window)
    np.testing.assert_allclose(prediction.probabilities.sum(axis=0), 1, atol=1e-5)
    assert prediction.mutual_information.min() >= 0
    assert prediction.mutual_information.max() > 0
    assert bool((prediction.mutual_information <= prediction.uncertainty + 1e-5).all())


def test_draws_are_the_mean_of_single_noise_draws(model: ICCLD) -> None:
    image = _image(32, 64)
    images = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() / 255
    with torch.no_grad():
        state = model.encode(images)
        torch.manual_seed(5)
        noise = model.draw_noise(state, 3)
        each = [model.segment(state, n[None], 2) for n in noise]
    total, mean_entropy = torch.stack(each).mean(dim=0), torch.stack([entropy(p) for p in each]).mean(dim=0)
    expected = torch.nn.functional.interpolate(total, size=(32, 64), mode="bilinear", align_corners=False)
    shared = (entropy(total) - mean_entropy)[:, None]
    information = torch.nn.functional.interpolate(shared, size=(32, 64), mode="bilinear", align_corners=False)
    prediction = model.predict(image, steps=2, draws=3, seed=5, precision="fp32")
    np.testing.assert_allclose(prediction.probabilities, expected[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(prediction.mutual_information, information[0, 0].numpy(), atol=1e-4)


def test_images_of_a_batch_get_the_same_noise(model: ICCLD) -> None:
    images = np.stack([_image(32, 64), _image(32, 64)[:, ::-1]])
    results = model.predict(images, draws=3, seed=5, precision="fp32")
    for image, result in zip(images, results, strict=True):
        alone = model.predict(image, draws=3, seed=5, precision="fp32")
        np.testing.assert_allclose(result.probabilities, alone.probabilities, atol=1e-6)
        np.testing.assert_allclose(result.mutual_information, alone.mutual_information, atol=1e-6)


def test_the_image_coder_runs_once_however_many_steps_and_draws(model: ICCLD) -> None:
    calls: list[int] = []
    handle = model.image_coder.register_forward_hook(lambda *_: calls.append(1))
    try:
        model.predict(_image(32, 32), steps=4, draws=3)
    finally:
        handle.remove()
    assert len(calls) == 1


def test_entropy_of_certainty_and_of_cluelessness() -> None:
    sure, clueless = torch.zeros(1, 4, 1, 1), torch.full((1, 4, 1, 1), 0.25)
    sure[0, 2] = 1
    assert float(entropy(sure)) == 0
    assert float(entropy(clueless)) == pytest.approx(math.log(4))
    assert float(entropy(torch.ones(1, 1, 1, 1))) == 0


# -- sliding windows ---------------------------------------------------------------------------------

SIDES = st.integers(1, 300)


@settings(max_examples=200)
@given(
    size=st.tuples(SIDES, SIDES),
    window=st.tuples(st.integers(32, 200), st.integers(32, 200)),
    overlap=st.floats(0, 0.95),
)
def test_windows_cover_the_image(size: tuple[int, int], window: tuple[int, int], overlap: float) -> None:
    positions = window_positions(size, window, overlap)
    assert len(set(positions)) == len(positions)
    for axis in range(2):
        side, extent = size[axis], window[axis]
        starts = sorted({position[axis] for position in positions})
        assert starts[0] == 0
        assert starts[-1] + min(side, extent) == side, "the last window ends at the border"
        for one, other in itertools.pairwise(starts):
            assert one + extent - other >= min(overlap * extent, extent - 1) - 1e-9, "neighbors share enough"
    tops, lefts = ({position[axis] for position in positions} for axis in range(2))
    assert len(positions) == len(tops) * len(lefts)


@pytest.mark.parametrize("window", [(64, 96), (200, 300), (64, 1000)])
def test_a_window_as_large_as_the_image_is_the_whole_image(model: ICCLD, window: tuple[int, int]) -> None:
    image = _image(64, 96)
    whole = model.predict(image, precision="fp32")
    windowed = model.predict(image, window=window, precision="fp32")
    np.testing.assert_array_equal(windowed.labels, whole.labels)
    np.testing.assert_allclose(windowed.probabilities, whole.probabilities, atol=1e-6)


@pytest.mark.parametrize("size", [(100, 130), (33, 200)])
def test_windows_of_any_image(model: ICCLD, size: tuple[int, int]) -> None:
    prediction = model.predict(_image(*size), window=(48, 64), overlap=0.4)
    assert prediction.labels.shape == size
    np.testing.assert_allclose(prediction.probabilities.sum(axis=0), 1, atol=1e-5)
    assert not prediction.mutual_information.any(), "windows that differ are no draws that differ"
    assert prediction.uncertainty.min() >= 0
    assert prediction.relative_uncertainty.max() <= 1


def test_where_one_window_lies_its_answer_stands(model: ICCLD) -> None:
    image = _image(64, 128)
    windowed = model.predict(image, window=(64, 80), overlap=0, precision="fp32")  # columns 0–79 and 48–127
    left = model.predict(image[:, :80], precision="fp32")
    np.testing.assert_allclose(windowed.probabilities[..., :48], left.probabilities[..., :48], atol=1e-5)


# -- models with a stored training height ----------------------------------------------------------


def test_images_are_scaled_to_the_height_trained_at(model: ICCLD) -> None:
    image = _image(100, 150)
    prediction = model.predict(image, input_height=48)
    assert prediction.labels.shape == (100, 150)
    np.testing.assert_allclose(prediction.probabilities.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(prediction.labels, prediction.probabilities.argmax(axis=0))
    _assert_same(model.predict(image, input_height=100), model.predict(image, input_height=0))
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() / 255, size=(48, 72), antialias=True,
        mode="bilinear",
    ).clamp(0, 1)  # fmt: skip
    small = model.predict(scaled[0].permute(1, 2, 0).numpy(), precision="fp32", input_height=0)
    large = model.predict(image, precision="fp32", input_height=48)
    middle = torch.nn.functional.interpolate(
        torch.from_numpy(large.probabilities)[None], size=(48, 72), mode="bilinear"
    )
    assert float((middle[0] - torch.from_numpy(small.probabilities)).abs().mean()) < 0.01


@pytest.mark.parametrize("size", [(1, 20_000), (3, 40_000)])
def test_thin_images_are_not_scaled_to_gigabytes(model: ICCLD, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=rf"of {size[1]}×{size[0]} pixels would be scaled to .*--resize H W"):
        model.predict(np.zeros((*size, 3), np.uint8), input_height=5120)


# -- mistakes ----------------------------------------------------------------------------------------

GOOD = np.zeros((32, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 32, 32), np.uint8), r"shape \(3, 32, 32\)"),
        (np.zeros((32, 32, 4), np.uint8), r"shape \(32, 32, 4\)"),
        (np.zeros((1, 1, 32, 32, 3), np.uint8), "shape"),
        (np.zeros((0, 32, 3), np.uint8), "shape"),
        (np.zeros((0, 32, 32, 3), np.uint8), "shape"),
        (np.zeros((32, 32, 3), np.int64), "int64"),
        (np.zeros((32, 32, 3), bool), "bool"),
        (np.full((32, 32, 3), 255.0), "range from 255 to 255"),
        (np.full((32, 32, 3), -0.1), r"range from -0\.1"),
        (np.full((32, 32, 3), np.nan), "nan"),
        (None, "shape"),
    ],
)
def test_bad_images(images: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        to_batch(images)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"steps": 0}, "steps = 0"),
        ({"overlap": 1.0}, "overlap = 1.0"),
        ({"input_height": -1}, "input height = -1"),
        ({"window": (16, 64)}, r"window\[0\] = 16"),
    ],
)
def test_bad_settings(model: ICCLD, settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        model.predict(GOOD, **settings_)
    assert "\n" not in str(caught.value)
