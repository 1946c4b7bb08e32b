from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from iccld.adaptation.fda import transfer_low_frequencies
from iccld.adaptation.mixing import (
    _turn_hue,
    class_mix_mask,
    color_jitter,
    cut_mix_mask,
    gaussian_blur,
    hsv_jitter,
    mask_patches,
)

MEAN_COLOR = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)  # of ImageNet


@given(
    seed=st.integers(0, 1000),
    classes=st.lists(st.integers(0, 18), min_size=1, max_size=9, unique=True),
    ignored=st.booleans(),
)
def test_half_of_the_classes_whole_and_never_ignore(seed: int, classes: list[int], ignored: bool) -> None:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    choices = [*classes, 255] if ignored else classes
    labels = torch.from_numpy(rng.choice(choices, size=(2, 9, 11)))
    mask = class_mix_mask(labels)
    for label, chosen in zip(labels, mask, strict=True):
        present = set(label.unique().tolist()) - {255}
        pasted = set(label[chosen].tolist())
        assert 255 not in pasted
        assert len(pasted) == (len(present) + 1) // 2
        assert not pasted & set(label[~chosen].tolist()), "a class is pasted whole or not at all"


def _published_choice(labels: np.ndarray, pool: np.ndarray) -> tuple[set[int], int]:
    """Returns the n classes to choose from, and how many DACS and DAFormer choose: (n + n mod 2) / 2."""
    classes = set(np.unique(pool).tolist())
    return classes, (len(classes) + len(classes) % 2) // 2


@given(seed=st.integers(0, 1000), num=st.integers(1, 9), of_batch=st.booleans())
def test_published_codes_take_ignored_pixels_for_a_class(seed: int, num: int, of_batch: bool) -> None:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    labels = rng.choice([*range(num), 255], size=(3, 5, 6))
    masks = class_mix_mask(torch.from_numpy(labels), of_batch=of_batch, ignored=True).numpy()
    for image, mask in zip(labels, masks, strict=True):
        classes, count = _published_choice(image, labels if of_batch else image)
        pasted = {*image[mask].tolist()}
        assert not pasted & {*image[~mask].tolist()}
        absent = len(classes - {*image.reshape(-1).tolist()})  # of DAFormer's classes of the batch
        assert count - absent <= len(pasted) <= count
        if not absent:
            assert len(pasted) == count


def test_every_class_of_the_batch_is_drawn_for_every_image() -> None:
    """DAFormer draws from all classes of the batch: an image with one class is pasted as a whole or not at all."""
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 2, 3]).view(4, 1, 1).expand(4, 2, 2)
    shares = torch.stack([class_mix_mask(labels, of_batch=True).float().mean(dim=(1, 2)) for _ in range(300)])
    assert set(shares.unique().tolist()) == {0.0, 1.0}
    assert bool(((shares.mean(dim=0) - 0.5).abs() < 0.12).all())


def test_nothing_labeled_nothing_pasted() -> None:
    assert not bool(class_mix_mask(torch.full((2, 4, 4), 255)).any())


def test_every_class_gets_its_turn() -> None:
    labels = torch.arange(6).repeat(1, 4, 1)
    torch.manual_seed(0)
    counts = sum(class_mix_mask(labels)[0, 0].int() for _ in range(200))
    assert isinstance(counts, torch.Tensor)
    assert bool(((counts - 100).abs() < 30).all()), counts


@given(seed=st.integers(0, 1000), strength=st.floats(0, 1))
def test_jitter_stays_in_range(seed: int, strength: float) -> None:
    torch.manual_seed(seed)
    images = torch.rand(3, 3, 5, 6)
    changed = color_jitter(images, strength, 1.0)
    assert changed.shape == images.shape
    assert bool(((changed >= 0) & (changed <= 1)).all())
    assert bool(torch.isfinite(changed).all())


def test_no_jitter_leaves_images_alone() -> None:
    images = torch.rand(3, 3, 5, 6)
    assert torch.equal(color_jitter(images, 0.4, probability=0.0), images)
    torch.testing.assert_close(color_jitter(images, 0.0, probability=1.0), images)


def test_images_are_jittered_apart_and_some_not_at_all() -> None:
    torch.manual_seed(0)
    images = (0.3 + 0.4 * torch.rand(1, 3, 8, 8)).repeat(200, 1, 1, 1)
    changed = color_jitter(images, 0.4, probability=0.8)
    untouched = (changed == images).flatten(1).all(dim=1)
    assert float(untouched.float().mean()) == pytest.approx(0.2, abs=0.1)
    assert len({round(float(image.mean()), 6) for image in changed[~untouched]}) > 100


def test_jitter_changes_brightness_contrast_and_saturation() -> None:
    torch.manual_seed(0)
    image = 0.35 + 0.3 * torch.rand(1, 3, 8, 8)
    changed = color_jitter(image.repeat(300, 1, 1, 1), 0.3, probability=1.0)

    def saturation(x: torch.Tensor) -> float:
        return float(np.mean([colorsys.rgb_to_hsv(*rgb)[1] for rgb in x.flatten(1).T.tolist()]))

    assert float(changed.mean(dim=(1, 2, 3)).std()) > 0.05
    assert float(changed.std(dim=(1, 2, 3)).std()) > 0.01
    assert np.std([saturation(x) for x in changed[:50]]) > 0.02


def test_blur_is_that_of_dacs() -> None:
    """The reference is scipy's Gaussian with the kernel of kornia in DACS, a tenth of the image's side."""
    image = torch.rand(2, 3, 200, 150, dtype=torch.float64)
    for seed in range(4):
        torch.manual_seed(seed)
        blurred = gaussian_blur(image, probability=1.0)
        torch.manual_seed(seed)
        torch.rand(())
        sigmas = 0.15 + torch.rand(2).numpy()
        for index, sigma in enumerate(sigmas):
            expected = image[index].numpy()
            for axis, side in ((1, 21), (2, 15)):
                expected = gaussian_filter1d(expected, sigma, axis=axis, mode="mirror", radius=side // 2)
            np.testing.assert_allclose(blurred[index].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (5, 40)])
def test_small_images_are_blurred_as_far_as_they_reach(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    images = torch.full((2, 3, *size), 0.3)
    torch.testing.assert_close(gaussian_blur(images, probability=1.0), images)


@pytest.mark.parametrize("change", [gaussian_blur, color_jitter, hsv_jitter])
def test_images_are_changed_in_fp32_under_autocast(change: Any) -> None:
    """A blur in bf16 would leave about a hundred gray levels, with errors of up to 2 of 255."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    plain = change(images, probability=1.0)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        changed = change(images, probability=1.0)
    assert changed.dtype == torch.float32
    assert torch.equal(changed, plain)
    assert len(changed.unique()) > 10_000


# -- the colors of DACS -----------------------------------------------------------------------------


def _kornias(image: np.ndarray, order: list[int], draws: dict[int, float]) -> np.ndarray:
    """Adds brightness, multiplies contrast and saturation, and rotates the hue, in Python for each pixel."""
    out = image.astype(np.float64)
    for kind in order:
        drawn = draws[kind]
        if kind == 0:
            out = np.clip(out + drawn, 0, 1)
        elif kind == 1:
            out = np.clip(out * (1 + drawn), 0, 1)
        else:
            for place in np.ndindex(out.shape[1:]):
                h, s, v = colorsys.rgb_to_hsv(*out[(slice(None), *place)])
                if kind == 2:
                    s = min(1.0, s * (1 + drawn))
                else:
                    h = (h + drawn) % 1
                out[(slice(None), *place)] = colorsys.hsv_to_rgb(h, s, v)
    return out


@given(seed=st.integers(0, 1000), strength=st.sampled_from([0.2, 0.25, 0.5]))
@settings(max_examples=15)
def test_colors_change_as_in_dacs(seed: int, strength: float) -> None:
    images = torch.rand(2, 3, 3, 4, generator=torch.Generator().manual_seed(seed))
    images[0, :, 0] = 0.4  # gray has no hue
    torch.manual_seed(seed)
    changed = hsv_jitter(images, strength, probability=1.0)
    torch.manual_seed(seed)
    torch.rand(())
    for index in range(2):
        order = torch.randperm(4).tolist()
        draws = {kind: strength * (2 * float(torch.rand(())) - 1) for kind in order}
        expected = _kornias(images[index].numpy(), order, draws)
        np.testing.assert_allclose(changed[index].numpy(), expected, atol=1e-5)


def test_dacs_changes_the_colors_of_four_batches_in_five() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 4, 4)
    changed = [(hsv_jitter(images) != images).flatten(1).any(dim=1) for _ in range(300)]
    together = torch.stack(changed)
    assert bool((together[:, 0] == together[:, 1]).all()), "one coin for the batch"
    assert float(together[:, 0].float().mean()) == pytest.approx(0.8, abs=0.08)


def test_blur_may_leave_the_batch_alone() -> None:
    image = torch.rand(1, 3, 4, 4)
    assert torch.equal(gaussian_blur(image, probability=0.0), image)


def test_hues_turn_about_gray() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 6, 6)
    turned = _turn_hue(image.expand(4, 3, 6, 6), torch.tensor([0.0, 2 * np.pi / 3, np.pi, 4 * np.pi / 3]))
    torch.testing.assert_close(turned[0], image[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(turned[1], image[0].roll(1, dims=0), atol=1e-5, rtol=0)  # red becomes green
    torch.testing.assert_close(turned.mean(dim=1), image.mean(dim=1).expand(4, 6, 6), atol=1e-5, rtol=0)


# -- CutMix -----------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), height=st.integers(16, 96), width=st.integers(16, 96))
def test_cutmix_selects_a_rectangle_of_half_the_area(seed: int, height: int, width: int) -> None:
    torch.manual_seed(seed)
    masks = cut_mix_mask(torch.zeros(3, height, width, dtype=torch.int64))
    assert masks.shape == (3, height, width)
    for mask in masks:
        rows, columns = (np.flatnonzero(mask.numpy().any(axis=axis)) for axis in (1, 0))
        tall, wide = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert int(mask.sum()) == tall * wide, "full, within its bounds"
        # Height and width are rounded to whole pixels.
        assert abs(tall * wide - 0.5 * height * width) <= 0.5 * (height + width) + 0.25
        assert tall >= height // 2
        assert wide >= width // 2


def test_cutmix_draws_shape_and_place_of_each_image() -> None:
    torch.manual_seed(0)
    masks = cut_mix_mask(torch.zeros(300, 32, 48, dtype=torch.int64))
    talls = masks.any(dim=2).sum(dim=1)
    assert (int(talls.min()), int(talls.max())) == (16, 32)
    assert len(masks.flatten(1).unique(dim=0)) > 200
    covered = masks.float().mean(dim=0)
    assert bool((covered > 0).all()), "no part of the image is left out"
    assert float((covered - covered.flip(0)).abs().max()) < 0.15
    assert float((covered - covered.flip(1)).abs().max()) < 0.15


def test_cutmix_does_not_look_at_the_classes() -> None:
    one, other = torch.zeros(2, 32, 32, dtype=torch.int64), torch.randint(0, 19, (2, 32, 32))
    masks = []
    for labels in (one, other):
        torch.manual_seed(0)
        masks.append(cut_mix_mask(labels))
    assert torch.equal(*masks)


# -- masks ------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 1000),
    patch=st.sampled_from([4, 7, 16, 50]),
    ratio=st.floats(0, 1),
    size=st.tuples(st.integers(8, 40), st.integers(8, 40)),
)
def test_masks_hide_whole_squares_of_a_grid(
    seed: int, patch: int, ratio: float, size: tuple[int, int]
) -> None:
    torch.manual_seed(seed)
    images = 0.1 + 0.9 * torch.rand(2, 3, *size)
    masked = mask_patches(images, patch, ratio)
    hidden = (masked == MEAN_COLOR).all(dim=1)
    assert torch.equal(masked, torch.where(hidden[:, None], MEAN_COLOR, images)), "the rest is left alone"
    # MIC draws a grid of round(side / patch) squares, and resizes the grid with nearest-neighbor interpolation.
    rows, columns = (max(1, round(side / patch)) for side in size)
    grid = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    of_pixel = F.interpolate(torch.from_numpy(grid)[None, None], size=size)[0, 0]
    for square in range(rows * columns):
        inside = hidden[:, of_pixel == square]
        assert torch.equal(inside.any(dim=1), inside.all(dim=1))


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.7, 1.0])
def test_masks_hide_their_share(ratio: float) -> None:
    torch.manual_seed(0)
    images = torch.ones(20, 3, 64, 64)
    hidden = (mask_patches(images, 8, ratio) == MEAN_COLOR).all(dim=1)
    assert float(hidden.float().mean()) == pytest.approx(ratio, abs=0.0 if ratio in (0, 1) else 0.04)
    if 0 < ratio < 1:
        assert len(hidden.flatten(1).unique(dim=0)) == 20, "each image has a mask of its own"


# -- low frequencies --------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 1000),
    band=st.sampled_from([0.0, 0.05, 0.3, 0.5]),
    size=st.tuples(st.integers(6, 20), st.integers(6, 20)),
)
def test_identical_images_exchange_nothing(seed: int, band: float, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(transfer_low_frequencies(images, images, band), images, atol=1e-5, rtol=0)


@given(seed=st.integers(0, 1000), size=st.tuples(st.integers(6, 20), st.integers(6, 20)))
def test_the_narrowest_band_swaps_the_mean_alone(seed: int, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    images, styles = 0.4 + 0.2 * torch.rand(2, 2, 3, *size, generator=generator)
    changed = transfer_low_frequencies(images, styles, 0.0)
    expected = images - images.mean(dim=(2, 3), keepdim=True) + styles.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(changed, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(changed, images, atol=1e-5)


@given(seed=st.integers(0, 1000), band=st.sampled_from([0.0, 0.1, 0.25]))
def test_phases_stay_and_amplitudes_are_the_styles_in_the_band(seed: int, band: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    images, styles = (0.45 + 0.1 * torch.rand(2, 2, 3, 16, 24, generator=generator)).double()
    changed = transfer_low_frequencies(images.float(), styles.float(), band).double().numpy()
    before, style, after = (np.fft.fft2(x) for x in (images.numpy(), styles.numpy(), changed))
    reach = int(16 * band)
    low = (abs(np.fft.fftfreq(16) * 16)[:, None] <= reach + 0.1) & (
        abs(np.fft.fftfreq(24) * 24) <= reach + 0.1
    )
    assert low.sum() == (2 * reach + 1) ** 2
    np.testing.assert_allclose(abs(after)[..., low], abs(style)[..., low], atol=1e-3)
    np.testing.assert_allclose(abs(after)[..., ~low], abs(before)[..., ~low], atol=1e-3)
    np.testing.assert_allclose(np.exp(1j * np.angle(after)) * abs(before), before, atol=0.02)


def test_low_frequencies_are_not_cut_to_the_range_of_images() -> None:
    """The published code does not clip the result of the inverse transform."""
    images, styles = torch.rand(2, 2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    style = (styles > 0.5).float()
    changed = transfer_low_frequencies(images, style, 0.4)
    spectrum, wanted = (
        np.fft.fftshift(np.fft.fft2(x.double().numpy()), axes=(2, 3)) for x in (images, style)
    )
    square = np.s_[..., 6 - 4 : 6 + 5, 8 - 4 : 8 + 5]  # of reach ⌊0.4 · 12⌋ about the zero frequency
    amplitude = np.abs(spectrum)
    amplitude[square] = np.abs(wanted)[square]
    mixed = np.fft.ifftshift(amplitude * np.exp(1j * np.angle(spectrum)), axes=(2, 3))
    np.testing.assert_allclose(changed.numpy(), np.fft.ifft2(mixed).real, atol=1e-5)
    assert float(changed.min()) < 0
    assert float(changed.max()) > 1
    assert changed.dtype == images.dtype
    half = transfer_low_frequencies(images.bfloat16(), styles.bfloat16(), 0.1)
    assert half.dtype == torch.bfloat16
