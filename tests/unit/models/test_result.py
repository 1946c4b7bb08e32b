"""``model.predict`` on everything that it takes, and the results that it gives."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import iccld
from iccld.errors import InputError
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD
from iccld.models.result import Result

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> ICCLD:
    torch.manual_seed(0)
    return ICCLD(CAMVID11, width=16, latent_channels=4).eval()


@pytest.fixture(scope="module")
def result(model: ICCLD) -> Any:
    return model.predict(PIXELS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "day").mkdir()
    for name, height in (("a.png", 48), ("day/b.png", 64), ("day/c.png", 33)):
        Image.fromarray(RNG.integers(0, 256, (height, 64, 3), dtype=np.uint8)).save(tmp_path / name)
    Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    return tmp_path


def _same(one: Any, other: Any) -> None:
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.image, other.image)


def test_single_images_of_every_kind_give_the_same_result(model: ICCLD, folder: Path, result: Any) -> None:
    tensor = torch.from_numpy(PIXELS.transpose(2, 0, 1).copy())
    path = folder / "photo.png"
    for source in (path, str(path), Image.fromarray(PIXELS), tensor, tensor.float() / 255):
        _same(model.predict(source), result)
    half = model.predict((tensor.float() / 255).bfloat16())
    np.testing.assert_allclose(half.probabilities, result.probabilities, atol=0.1)
    assert result == result
    assert model.predict(path).path == path
    assert result.path is None


def test_gray_images_are_gray_rgb_images(model: ICCLD) -> None:
    gray = PIXELS[..., 0]
    expected = model.predict(np.repeat(gray[..., None], 3, axis=-1))
    for source in (gray, gray[..., None], torch.from_numpy(gray.copy()), Image.fromarray(gray)):
        _same(model.predict(source), expected)


def test_lists_of_different_sizes_and_kinds(model: ICCLD, folder: Path, result: Any) -> None:
    several = [PIXELS, folder / "day", Image.fromarray(PIXELS[:40]), str(folder / "*.png")]
    results = model.predict(several)
    sizes = [r.labels.shape for r in results]
    assert sizes == [(48, 64), (64, 64), (33, 64), (40, 64), (48, 64), (48, 64)]
    names = [r.path and r.path.name for r in results]
    assert names == [None, "b.png", "c.png", None, "a.png", "photo.png"]
    _same(results[0], result)
    _same(results[5], result)


def test_folders_and_globs_are_lists_even_of_one_image(model: ICCLD, folder: Path) -> None:
    assert [r.path.name for r in model.predict(folder)] == ["a.png", "photo.png", "b.png", "c.png"]
    (single,) = model.predict(str(folder / "pho*.png"))
    assert isinstance(single, Result)


def test_batches_of_arrays_and_tensors(model: ICCLD, result: Any) -> None:
    batch = np.stack([PIXELS, PIXELS[::-1]])
    arrays = model.predict(batch)
    tensors = model.predict(torch.from_numpy(batch.transpose(0, 3, 1, 2).copy()))
    assert isinstance(arrays, list)
    for one, other in zip(arrays, tensors, strict=True):
        _same(one, other)
    np.testing.assert_array_equal(arrays[1].image, PIXELS[::-1])


def test_streams_read_one_image_at_a_time(model: ICCLD, folder: Path) -> None:
    taken = []

    def images() -> Iterator[np.ndarray]:
        for index in range(3):
            taken.append(index)
            yield PIXELS

    stream = model.predict(images(), stream=True)
    assert not taken
    next(stream)
    assert taken == [0]
    assert len(list(stream)) == 2
    assert [r.path.name for r in model.predict(folder / "a.png", stream=True)] == ["a.png"]
    (folder / "day" / "b.png").write_bytes(b"broken")
    files = model.predict(folder, stream=True)
    assert [next(files).path.name for _ in range(2)] == ["a.png", "photo.png"]
    with pytest.raises(InputError, match=r"b\.png"):
        next(files)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.png", "no such file"),
        ("", "the path of an image is empty"),
        ("nothing/*.png", "matches no image"),
        ("camera:0", "iccld predict"),
        ("rtsp://host/stream", "iccld predict"),
        (3, "shape"),
        ([None], "shape"),
    ],
)
def test_sources_that_are_refused(model: ICCLD, tmp_path: Path, source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.predict(source)


def test_classes_and_palette(model: ICCLD, result: Any) -> None:
    assert model.classes == result.classes == CAMVID11.names
    assert result.palette == CAMVID11.palette
    assert sum(result.shares.values()) == pytest.approx(1)
    for name, share in result.shares.items():
        assert share == pytest.approx((result.labels == CAMVID11.names.index(name)).mean())
    assert list(result.shares.values()) == sorted(result.shares.values(), reverse=True)


def test_saved_pictures(result: Any, tmp_path: Path) -> None:
    result.save(tmp_path / "labels.png", "labels")
    np.testing.assert_array_equal(
        cv2.imread(str(tmp_path / "labels.png"), cv2.IMREAD_UNCHANGED), result.labels
    )
    result.save(tmp_path / "color.png", "color")
    colors = np.array(Image.open(tmp_path / "color.png"))
    np.testing.assert_array_equal(colors, np.array(CAMVID11.palette, np.uint8)[result.labels])
    result.save(tmp_path / "overlay.png")
    blended = np.array(Image.open(tmp_path / "overlay.png"))
    np.testing.assert_allclose(blended, (colors.astype(float) + PIXELS) / 2, atol=1)
    for what in ("uncertainty", "plot"):
        assert result.save(tmp_path / f"{what}.png", what).is_file()
    with pytest.raises(InputError, match=r"ends in \.png"):
        result.save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="unknown picture"):
        result.save(tmp_path / "a.png", "heat")


def test_plot_and_notebook_picture(model: ICCLD, result: Any) -> None:
    shown = Image.open(io.BytesIO(result._repr_png_()))
    assert shown.size == result.plot().size
    assert shown.width > 2 * 64
    np.testing.assert_array_equal(np.asarray(shown)[:48, :64], result.overlay())
    large = model.predict(np.zeros((64, 1300, 3), np.uint8)).plot()
    assert large.width < 2 * 640 + 300


def test_annotations_are_json_and_cover_the_image(result: Any, tmp_path: Path) -> None:
    coco = json.loads(json.dumps(result.to_coco()))
    assert sum(a["area"] for a in coco["annotations"]) == 48 * 64
    assert all(a["area"] >= 20 for a in result.to_coco(min_area=20)["annotations"])
    shapes = json.loads(json.dumps(result.to_shapes(min_area=20)))
    assert len(shapes["shapes"]) == len(result.polygons(20))
    facts = json.loads(json.dumps(result.to_dict()))
    assert (facts["height"], facts["width"]) == (48, 64)
    assert facts["mean_uncertainty"] == pytest.approx(float(result.uncertainty.mean()))


def test_repr_names_size_and_classes(model: ICCLD, folder: Path, result: Any) -> None:
    first = next(iter(result.shares))
    assert repr(result).startswith(f"Result(64×48: {first} ")
    assert "nats" in repr(result)
    assert repr(model.predict(folder / "a.png")).startswith("Result(a.png, 64×48: ")


def test_public_names() -> None:
    assert iccld.Result is Result
