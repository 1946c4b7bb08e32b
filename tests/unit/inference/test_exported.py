"""Exported models without a runtime: the traced module against prediction, and the segmenter on a made-up engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from iccld.data.inputs import InputImage
from iccld.errors import InputError
from iccld.inference.export import ExportGraph, export_model
from iccld.inference.exported import ExportedSegmenter, Facts
from iccld.inference.media import predict_files
from iccld.inference.segmenter import PredictSettings, load_segmenter
from iccld.labels import CITYSCAPES19
from iccld.models.iccld import ICCLD
from iccld.models.prediction import Prediction


def _model(**settings: Any) -> ICCLD:
    torch.manual_seed(0)
    model = ICCLD(CITYSCAPES19, width=16, latent_channels=4, **settings).eval()
    for weight in model.parameters():
        if not weight.any():  # blocks start as their shortcuts
            torch.nn.init.normal_(weight, std=0.05)
    return model


def _images(*size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


# -- the module that is traced ----------------------------------------------------------------------


def _stacked(results: list[Any]) -> Prediction:
    """The maps of several results with a batch axis."""
    names = ("labels", "probabilities", "mutual_information")
    return Prediction(*(np.stack([getattr(result, name) for result in results]) for name in names))


@pytest.fixture(scope="module")
def plain() -> ICCLD:
    return _model(diffusion=False)


@settings(max_examples=12, deadline=None)
@given(height=st.integers(33, 90), width=st.integers(33, 90), scaled=st.sampled_from((0, 33, 48)))
def test_graph_is_prediction_at_any_size(plain: ICCLD, height: int, width: int, scaled: int) -> None:
    """Without diffusion there is no noise to differ."""
    assume(not scaled or width * scaled / height >= 33)
    images = _images(2, height, width)
    graph = ExportGraph(plain, steps=1, draws=1, input_height=scaled)
    with torch.no_grad():
        labels, probabilities, uncertainty = graph(torch.from_numpy(images))
    wanted = _stacked(plain.predict(images, precision="fp32", input_height=scaled))
    np.testing.assert_allclose(probabilities.numpy(), wanted.probabilities, atol=2e-5)
    np.testing.assert_allclose(uncertainty.numpy(), wanted.uncertainty, atol=2e-5)
    assert (labels.numpy() == wanted.labels).mean() > 0.999


@pytest.mark.parametrize("light", [False, True])
def test_graph_samples_as_prediction_does(light: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = _model(light_steps=light), _images(2, 50, 70)
    graph = ExportGraph(model, steps=3, draws=2, input_height=0)
    with torch.no_grad():
        labels, probabilities, _, information = graph(torch.from_numpy(images))
    tile = graph.noise[:, :, :8, :12]
    monkeypatch.setattr(ICCLD, "draw_noise", lambda self, state, num: tile)
    wanted = _stacked(model.predict(images, steps=3, draws=2, precision="fp32"))
    np.testing.assert_allclose(probabilities.numpy(), wanted.probabilities, atol=2e-5)
    np.testing.assert_allclose(information.numpy(), wanted.mutual_information, atol=2e-5)
    assert information.max() > 1e-4, "the draws differ"
    assert (labels.numpy() == wanted.labels).mean() > 0.999


def test_an_image_gets_the_same_answer_in_any_batch() -> None:
    graph, images = ExportGraph(_model(), steps=2, draws=1, input_height=0), _images(3, 40, 64)
    with torch.no_grad():
        together = graph(torch.from_numpy(images))[1]
        alone = graph(torch.from_numpy(images[1:2]))[1]
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("model.pt", {}, "onnx files end with .onnx"),
        ("model.onnx", {"steps": 0}, "steps = 0"),
        ("model.onnx", {"input_height": 20}, "input height is 20"),
        ("model.onnx", {"draws": 10**9}, "draws = 1000000000"),
        ("model.onnx", {"precision": "bf16"}, "bf16 is slow or inexact in ONNX Runtime"),
    ],
)
def test_export_refuses(tmp_path: Path, name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        export_model(_model(), tmp_path / name, "onnx", **settings)
    assert not list(tmp_path.iterdir())


def test_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"pip install '\.\[onnx\]'"):
        export_model(_model(), tmp_path / "model.onnx", "onnx")


# -- the segmenter ----------------------------------------------------------------------------------


class _Engine:
    """Says of every pixel how bright it is: class 0 where dark, class 1 where bright."""

    def __init__(self, *, draws: int = 1) -> None:
        self.draws, self.sizes = draws, []

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        assert images.dtype == np.uint8
        self.sizes.append(images.shape[1:3])
        bright = images.mean(axis=-1, dtype=np.float32) / 255
        probabilities = np.stack([1 - bright, bright, *[np.zeros_like(bright)] * 17], axis=1)
        answers = {"labels": probabilities.argmax(axis=1).astype(np.uint8), "probabilities": probabilities}
        return answers | ({"mutual_information": bright / 4} if self.draws > 1 else {})


def _segmenter(**wanted: Any) -> tuple[ExportedSegmenter, _Engine]:
    facts = {"steps": 1, "draws": 1, "input_height": 0, "precision": "fp32"} | wanted
    engine = _Engine(draws=facts["draws"])
    return ExportedSegmenter(Path("model.onnx"), engine, Facts(CITYSCAPES19, **facts)), engine


def test_images_with_and_without_batch_axis() -> None:
    segmenter, _ = _segmenter(draws=2)
    images = _images(2, 40, 50)
    batch, single = _stacked(segmenter.predict(images)), segmenter.predict(images[1])
    assert batch.labels.shape == (2, 40, 50)
    assert single.probabilities.shape == (19, 40, 50)
    np.testing.assert_array_equal(single.labels, batch.labels[1])
    np.testing.assert_array_equal(single.mutual_information, batch.mutual_information[1])
    assert single.mutual_information.max() > 0
    floats = segmenter.predict(images[1].astype(np.float32) / 255)
    np.testing.assert_array_equal(floats.probabilities, single.probabilities)


def test_one_draw_has_no_mutual_information() -> None:
    prediction = _segmenter()[0].predict(_images(40, 50))
    assert prediction.mutual_information.shape == (40, 50)
    assert not prediction.mutual_information.any()


def test_windows_give_what_the_whole_gives() -> None:
    """The made-up engine looks at single pixels, so windows change nothing."""
    segmenter, engine = _segmenter(draws=2)
    image = _images(90, 120)
    whole = segmenter.predict(image)
    parts = segmenter.predict(image, window=(40, 64), overlap=0.5)
    assert set(engine.sizes[1:]) == {(40, 64)}
    for name in ("labels", "probabilities", "uncertainty", "mutual_information"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-6)


@pytest.mark.parametrize(
    ("facts", "asked", "said"),
    [
        ({"steps": 4}, {"steps": 2}, "exported with steps 4, not 2; .*--steps 2"),
        ({}, {"draws": 8}, "exported with draws 1, not 8"),
        (
            {"input_height": 96},
            {"input_height": 0},
            "exported with input height 96, not 0; .*--input-height 0",
        ),
        ({"input_height": 96}, {"window": (64, 64)}, "export again with --input-height 0"),
        ({}, {"window": (32, 64)}, "window is 32×64"),
        ({"precision": "fp32"}, {"precision": "bf16"}, "precision fp32, not bf16; .*--precision bf16"),
    ],
)
def test_settings_that_the_graph_does_not_have(
    facts: dict[str, Any], asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        _segmenter(**facts)[0].predict(_images(96, 96), **asked)


def test_settings_are_refused_before_the_first_image(tmp_path: Path) -> None:
    segmenter, engine = _segmenter(steps=4)
    image = InputImage(str(tmp_path / "gone.png"), "gone")
    for asked in (PredictSettings(steps=2), PredictSettings(draws=3)):
        with pytest.raises(InputError, match=r"model.onnx: was exported with"):
            predict_files(segmenter, [image], tmp_path / "out", settings=asked)
    assert predict_files(segmenter, [image], tmp_path / "out", settings=PredictSettings(steps=4))
    assert not engine.sizes


def test_settings_that_it_has() -> None:
    segmenter, _ = _segmenter(steps=4, draws=2, input_height=96)
    assert segmenter.predict(_images(40, 50), steps=4, draws=2, input_height=96).labels.shape == (40, 50)


def test_images_too_small() -> None:
    with pytest.raises(InputError, match="an image has 50×32 pixels"):
        _segmenter()[0].predict(_images(32, 50))


def test_images_too_narrow_once_scaled() -> None:
    segmenter, _ = _segmenter(input_height=48)
    assert segmenter.predict(_images(96, 66)).labels.shape == (96, 66)
    with pytest.raises(InputError, match=r"an image has 64×96 pixels \(32×48 as the model sees it\)"):
        segmenter.predict(_images(96, 64))


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_files_that_are_no_exported_models(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    with pytest.raises(InputError, match="no such file"):
        load_segmenter(str(path))
    path.write_bytes(b"not a graph")
    if suffix == ".xml":
        with pytest.raises(InputError, match=r"its weights model.bin are missing"):
            load_segmenter(str(path))
        path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"damaged|ICCLD model"):
        load_segmenter(str(path))
    with pytest.raises(InputError, match="device 'tpu'"):
        load_segmenter(str(path), device="tpu")
