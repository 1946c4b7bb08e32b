from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import map_coordinates

from iccld.adaptation.losses import maps_to_size
from iccld.data.transforms import TrainTransform
from iccld.inference.export import _scale_axis
from iccld.models.prediction import _to_input_height
from iccld.resizing import base_size, resize_image, resize_images, resize_label, scaled_width

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
seeds = st.integers(0, 2**32)


def _image(size: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def _pillows(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resized = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized).astype(int)


@given(sizes, sizes, seeds)
def test_images_are_scaled_as_pillow_does(size: tuple[int, int], target: tuple[int, int], seed: int) -> None:
    image = _image(size, seed)
    expected = _pillows(image, target)
    resized = resize_image(image, target)
    assert resized.dtype == np.uint8
    assert np.abs(resized.astype(int) - expected).max() <= 1
    exact = resize_images(torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float(), target)
    assert np.abs(exact[0].permute(1, 2, 0).numpy() - expected).max() <= 1.01  # Pillow rounds twice


@given(sizes, st.integers(1, 3), st.integers(1, 3), seeds)
def test_enlarged_images_are_interpolated_at_the_centers_of_pixels(
    size: tuple[int, int], down: int, across: int, seed: int
) -> None:
    image = _image(size, seed)[..., 0]
    target = (size[0] * down, size[1] * across)
    centers = [(np.arange(new) + 0.5) * old / new - 0.5 for old, new in zip(size, target, strict=True)]
    grid = np.meshgrid(*centers, indexing="ij")
    expected = map_coordinates(image.astype(float), grid, order=1, mode="nearest")
    resized = resize_image(np.stack([image] * 3, axis=2), target)[..., 0]
    np.testing.assert_allclose(resized, expected, atol=1)


@given(sizes, sizes, st.data())
def test_a_label_is_where_the_image_shows_it(
    size: tuple[int, int], target: tuple[int, int], data: st.DataObject
) -> None:
    """Of a half-plane, a pixel shows the half that holds its center, but where the filter meets the border."""
    axis = data.draw(st.sampled_from([0, 1]))
    edge = data.draw(st.integers(0, size[axis]))
    label = (np.indices(size)[axis] >= edge).astype(np.uint8)
    shown = resize_image(np.stack([label * 255] * 3, axis=2), target)[..., 0].astype(int)
    scaled = resize_label(label, target)
    scale = size[axis] / target[axis]
    centers = (np.arange(target[axis]) + 0.5) * scale
    reach = max(1.0, scale)
    whole = (centers >= reach) & (centers <= size[axis] - reach)
    clear = (np.abs(shown - 127.5) > 2) & (whole[:, None] if axis == 0 else whole[None])
    np.testing.assert_array_equal(scaled[clear], (shown > 127.5)[clear].astype(np.uint8))


@given(sizes, sizes)
def test_a_label_is_the_one_under_the_center(size: tuple[int, int], target: tuple[int, int]) -> None:
    label = np.random.default_rng(0).integers(0, 255, size, dtype=np.uint8)
    centers = [(np.arange(new) + 0.5) * old / new for old, new in zip(size, target, strict=True)]
    # A center on the line between two pixels may take either.
    assume(all(np.abs(c - np.round(c)).min() > 1e-3 for c in centers))
    rows, columns = (np.floor(c).astype(int) for c in centers)
    np.testing.assert_array_equal(resize_label(label, target), label[np.ix_(rows, columns)])


@given(sizes, sizes, seeds)
def test_mirrored_images_give_mirrored_images(
    size: tuple[int, int], target: tuple[int, int], seed: int
) -> None:
    image = _image(size, seed)
    mirrored = resize_image(np.ascontiguousarray(image[::-1, ::-1]), target)[::-1, ::-1]
    assert np.abs(mirrored.astype(int) - resize_image(image, target)).max() <= 1


@pytest.mark.parametrize(
    ("size", "target"), [((37, 90), (12, 31)), ((20, 33), (45, 80)), ((64, 64), (64, 21))]
)
def test_exported_graphs_scale_by_the_same_filter(size: tuple[int, int], target: tuple[int, int]) -> None:
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    scaled = images
    for axis in (2, 3):
        extent, new = size[axis - 2], target[axis - 2]
        scaled = _scale_axis(scaled, axis, extent, new, new)
    torch.testing.assert_close(scaled, resize_images(images, target), atol=1e-5, rtol=0)


@given(sizes, st.sampled_from([1, 2, 4]), seeds)
def test_maps_stay_over_their_pixels(size: tuple[int, int], stride: int, seed: int) -> None:
    """A cell of a network's map lies over the same pixels whether or not the image's sides are multiples of it."""
    cells = [-(-side // stride) for side in size]
    assume(all(side > stride for side in size))
    maps = torch.rand(2, 3, *cells, generator=torch.Generator().manual_seed(seed))
    places = [
        np.clip((np.arange(side) + 0.5) / stride - 0.5, 0, n - 1) for side, n in zip(size, cells, strict=True)
    ]
    grid = np.meshgrid(*places, indexing="ij")
    resized = maps_to_size(maps, size)
    assert resized.shape[2:] == size
    for image in range(2):
        for channel in range(3):
            expected = map_coordinates(maps[image, channel].double().numpy(), grid, order=1, mode="nearest")
            np.testing.assert_allclose(resized[image, channel].numpy(), expected, atol=1e-5)


def test_read_only_images_are_taken_and_the_same_size_is_no_work() -> None:
    image = _image((9, 7), 0)
    expected = resize_image(image, (5, 4))
    image.flags.writeable = False
    np.testing.assert_array_equal(resize_image(image, (5, 4)), expected)
    assert resize_image(image, (9, 7)) is image


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 2000))
def test_widths_follow_the_shape(height: int, width: int, target: int) -> None:
    exact = width * target / height
    assert abs(scaled_width(height, width, target) - exact) <= 0.5 + 1e-9
    assert base_size((height, width), (target, 5)) == (target, max(1, scaled_width(height, width, target)))
    assert base_size((height, width), (target, 5), stretch=True) == (target, 5)
    assert base_size((height, width), None) == (height, width)
    assert scaled_width(2, 5, 1) == 3, "halves go up in graphs too"


@pytest.mark.parametrize("size", [(1080, 1920), (720, 960), (360, 480), (640, 480), (375, 1242)])
def test_training_shows_an_image_as_prediction_does(size: tuple[int, int]) -> None:
    """Scenes → 16:9 frames: trained at 256 pixels of width, and evaluated at 341."""
    image = _image((size[0] // 8, size[1] // 8), 0)
    image = resize_image(image, size)  # something smooth
    seen = _to_input_height(torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() / 255, 192)
    width = seen.shape[-1]
    assert width == round(size[1] * 192 / size[0])
    transform = TrainTransform((192, width), flip=False, resize=(192, 256))
    sample = transform(image, None, np.random.default_rng(0))
    assert sample["valid"].all()
    shown = torch.from_numpy(sample["image"].transpose(2, 0, 1).copy())[None].float()
    assert float((shown - 255 * seen).abs().max()) <= 1
