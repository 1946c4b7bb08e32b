"""Tests of images as input: a Pillow image is predicted like the file of the image, in all interfaces."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from iccld.data.image_files import read_image
from iccld.errors import InputError
from iccld.inference.exported import ExportedSegmenter, Facts
from iccld.inference.segmenter import PredictSettings, predict_and_embed, predict_image
from iccld.models.iccld import ICCLD
from iccld.models.images import to_array, to_batch

RNG = np.random.default_rng(0)


def _photo(path: Path, orientation: int, mode: str = "RGB") -> Path:
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(RNG.integers(0, 256, (40, 56, 3), dtype=np.uint8)).convert(mode).save(path, exif=exif)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_a_pillow_image_is_seen_as_its_file(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = _photo(tmp_path / f"a{suffix}", orientation)
    with Image.open(path) as image:
        np.testing.assert_array_equal(to_array(image), read_image(path))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_modes(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        Image.fromarray(RNG.integers(0, 65536, (40, 56), dtype=np.uint16)).save(path)
    else:
        _photo(path, 6 if mode != "CMYK" else 1, mode)
    with Image.open(path) as image:
        seen = to_array(image)
    assert seen.dtype == np.uint8
    assert seen.shape == read_image(path).shape
    if mode != "CMYK":
        assert int(np.abs(seen.astype(int) - read_image(path)).max()) <= 1


def _exported() -> ExportedSegmenter:
    from iccld.labels import CITYSCAPES19

    def engine(images: np.ndarray) -> dict[str, np.ndarray]:
        bright = images.mean(axis=-1, dtype=np.float32) / 255
        probabilities = np.stack([1 - bright, bright, *[np.zeros_like(bright)] * 17], axis=1)
        return {"labels": probabilities.argmax(axis=1).astype(np.uint8), "probabilities": probabilities}

    return ExportedSegmenter(Path("m.onnx"), engine, Facts(CITYSCAPES19, 1, 1, 0, "fp32"))


@pytest.mark.parametrize("kind", ["eager", "exported"])
def test_every_entry_turns_a_photo_upright(model: ICCLD, tmp_path: Path, kind: str) -> None:
    path = _photo(tmp_path / "a.jpg", 6)
    upright = read_image(path)
    assert upright.shape == (56, 40, 3)
    segmenter: Any = model if kind == "eager" else _exported()
    settings = PredictSettings(resize=(64, 48))
    with Image.open(path) as photo:
        for ask in (
            lambda image: segmenter.predict(image),
            lambda image: predict_image(segmenter, image),
            lambda image: predict_image(segmenter, image, settings),
            lambda image: predict_and_embed(segmenter, image)[0],
        ):
            seen, wanted = ask(photo), ask(upright)
            assert seen.labels.shape == (56, 40)
            # Two decoders of JPEG differ by a level or two.
            np.testing.assert_allclose(seen.probabilities, wanted.probabilities, atol=0.05)
        several = segmenter.predict([photo, photo])
        assert several.labels.shape == (2, 56, 40)


def test_floats_survive_resizing(model: ICCLD) -> None:
    image = RNG.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    settings = PredictSettings(resize=(64, 64))
    floats, whole = (predict_image(model, i, settings) for i in (image.astype(np.float32) / 255, image))
    np.testing.assert_array_equal(floats.labels, whole.labels)


def test_pillow_images_that_are_refused() -> None:
    with pytest.raises(InputError, match=r"mode F"):
        to_array(Image.new("F", (8, 8)))
    with pytest.raises(InputError, match=r"differ in size"):
        to_batch([Image.new("RGB", (8, 8)), Image.new("RGB", (9, 8))])
    data = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(data, "PNG")
    with Image.open(io.BytesIO(data.getvalue()[:2000])) as broken, pytest.raises(InputError, match="decoded"):
        to_array(broken)
    with pytest.raises(InputError, match="no array"):
        to_batch([[[1, 2, 3]], [[1, 2]]])
