"""ICCLD models in transformers, by the classes that transformers' users call."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, pipeline

import iccld.hf
from iccld.errors import InputError
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("hf")
    ICCLD(CAMVID11, width=16, latent_channels=4, input_height=64).save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def image() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)
    return Image.fromarray(pixels)


def test_model_and_processor_give_the_labels_of_predict(folder: Path, image: Image.Image) -> None:
    model = AutoModelForSemanticSegmentation.from_pretrained(folder, trust_remote_code=False)
    processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
    assert isinstance(model, iccld.hf.ICCLDForSemanticSegmentation)
    assert model.config.id2label == dict(enumerate(CAMVID11.names))
    outputs = model(**processor(images=image, return_tensors="pt"))
    (labels,) = processor.post_process_semantic_segmentation(outputs, [(70, 90)])
    expected = ICCLD.from_pretrained(folder).predict(image)
    np.testing.assert_array_equal(labels.numpy(), expected.labels)
    np.testing.assert_allclose(outputs.logits.exp()[0].numpy(), expected.probabilities, atol=1e-6)
    (small,) = processor.post_process_semantic_segmentation(outputs, [(35, 45)])
    assert small.shape == (35, 45)


def test_pipeline_names_the_classes(
    folder: Path, image: Image.Image, caplog: pytest.LogCaptureFixture
) -> None:
    segments = pipeline("image-segmentation", str(folder), device="cpu")(image)
    assert not caplog.records
    labels = ICCLD.from_pretrained(folder).predict(image).labels
    assert {s["label"] for s in segments} == {CAMVID11.names[index] for index in np.unique(labels)}
    for segment in segments:
        mask = np.asarray(segment["mask"]) > 0
        np.testing.assert_array_equal(mask, labels == CAMVID11.names.index(segment["label"]))


def test_saved_again_it_is_the_same_model(folder: Path, tmp_path: Path, image: Image.Image) -> None:
    model = AutoModelForSemanticSegmentation.from_pretrained(folder)
    model.save_pretrained(tmp_path / "again")
    labels = [ICCLD.from_pretrained(where).predict(image).labels for where in (folder, tmp_path / "again")]
    np.testing.assert_array_equal(*labels)


@pytest.mark.parametrize("broken", ["config", "weights"])
def test_broken_files_are_refused_before_anything_is_built(folder: Path, tmp_path: Path, broken: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    weights = (folder / "model.safetensors").read_bytes()
    if broken == "config":
        config["model"]["width"] = 8192
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // (2 if broken == "weights" else 1)])
    with pytest.raises(InputError, match=str(tmp_path)):
        AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
