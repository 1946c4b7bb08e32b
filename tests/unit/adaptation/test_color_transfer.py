"""Comparison of color transfer with statistics of numpy and matrix square roots of scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from iccld.adaptation.mixing import transfer_class_color, transfer_color

MEAN_COLOR = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)  # of ImageNet


def test_color_transfer_goes_at_least_half_way_to_the_style() -> None:
    torch.manual_seed(0)
    images = 0.5 + 0.05 * torch.randn(1, 3, 16, 16).repeat(300, 1, 1, 1)
    styles = 0.3 + 0.08 * torch.randn(1, 3, 16, 16).repeat(300, 1, 1, 1)
    changed = transfer_color(images, styles, probability=0.5)
    untouched = (changed == images).flatten(1).all(dim=1)
    assert float(untouched.float().mean()) == pytest.approx(0.5, abs=0.1)
    mean, style_mean = images[:1].mean(dim=(2, 3)), styles[:1].mean(dim=(2, 3))
    shares = (changed[~untouched].mean(dim=(2, 3)) - mean) / (style_mean - mean)
    assert 0.5 - 1e-3 <= float(shares.min()) < 0.55
    assert 0.95 < float(shares.max()) <= 1 + 1e-3
    torch.testing.assert_close(shares[:, :1].expand(-1, 3), shares, atol=1e-3, rtol=0)


@given(seed=st.integers(0, 1000))
def test_full_color_transfer_gives_the_styles_mean_and_covariance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mixing, style_mixing = 0.06 * np.eye(3) + rng.normal(0, 0.01, (2, 3, 3))  # well-conditioned covariances
    images = torch.from_numpy(0.5 + np.einsum("ij,jhw->ihw", mixing, rng.normal(size=(3, 20, 20)))[None])
    styles = torch.from_numpy(
        0.4 + np.einsum("ij,jhw->ihw", style_mixing, rng.normal(size=(3, 20, 20)))[None]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iccld.adaptation.mixing.torch.rand", lambda *shape, **_: torch.full(shape, 0.99999))
        changed = transfer_color(images.float(), styles.float(), probability=1.0)[0].flatten(1).numpy()
    expected = styles[0].flatten(1).numpy()
    np.testing.assert_allclose(changed.mean(axis=1), expected.mean(axis=1), atol=2e-3)
    # The tolerance covers the floor of 2e-5 that prevents amplification of flat images, and clamping to [0, 1].
    np.testing.assert_allclose(np.cov(changed), np.cov(expected), atol=2e-4)


@given(
    seed=st.integers(0, 1000),
    rows=st.integers(0, 9),
    columns=st.integers(0, 9),
    dtype=st.sampled_from(["fp32", "bf16"]),
)
def test_padding_is_no_color_of_an_image(seed: int, rows: int, columns: int, dtype: str) -> None:
    """Padding of images and styles does not change the result."""
    generator = torch.Generator().manual_seed(seed)
    image, style = (0.2 + 0.6 * torch.rand(1, 3, 12, 14, generator=generator) for _ in range(2))
    h, w = 12 - rows, 14 - columns
    valid = torch.zeros(1, 12, 14, dtype=torch.bool)
    valid[:, :h, :w] = True
    padded = image.where(valid[:, None], MEAN_COLOR)
    torch.manual_seed(seed)
    plain = transfer_color(image[..., :h, :w], style[..., :h, :w])
    torch.manual_seed(seed)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
        styles = style.where(valid[:, None], torch.tensor(1.0))
        changed = transfer_color(padded, styles, valid=valid, styles_valid=valid)
    torch.testing.assert_close(changed[..., :h, :w], plain, atol=1e-5, rtol=1e-4)
    assert torch.equal(changed.where(~valid[:, None], MEAN_COLOR), padded.where(~valid[:, None], MEAN_COLOR))


def test_a_style_without_a_valid_pixel_changes_nothing() -> None:
    images, styles = torch.rand(2, 2, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 6, 7, dtype=torch.bool)
    none = valid.clone()
    none[0] = False
    changed = transfer_color(images, styles, styles_valid=none)
    assert torch.equal(changed[0], images[0])
    assert not torch.equal(changed[1], images[1])
    assert torch.equal(transfer_color(images, styles, valid=~valid), images)


@given(seed=st.integers(0, 1000))
def test_color_transfer_stays_in_range(seed: int) -> None:
    torch.manual_seed(seed)
    images, styles = torch.rand(2, 3, 3, 6, 7)
    images[0] = 0.5  # an image of one color has no contrast to stretch
    changed = transfer_color(images, styles, probability=1.0)
    assert bool(torch.isfinite(changed).all())
    assert bool(((changed >= 0) & (changed <= 1)).all())
    assert torch.equal(transfer_color(images, styles, probability=0.0), images)


def _expected(image: np.ndarray, style: np.ndarray, share: float) -> np.ndarray:
    """Maps pixels (n, 3) to the colors of a style by a Monge-Kantorovich map with the strength ``share``."""
    covariance, style_covariance = (np.cov(x.T, bias=True) + 1e-3 * np.eye(3) for x in (image, style))
    root = scipy.linalg.sqrtm(covariance).real
    inverse = np.linalg.inv(root)
    linear = inverse @ scipy.linalg.sqrtm(root @ style_covariance @ root).real @ inverse
    linear = (1 - share) * np.eye(3) + share * linear
    goal = (1 - share) * image.mean(axis=0) + share * style.mean(axis=0)
    moved: np.ndarray = (image - image.mean(axis=0)) @ linear.T + goal
    return moved.clip(0, 1)


@given(seed=st.integers(0, 1000))
def test_each_class_takes_the_colors_of_its_own(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, style_labels = rng.choice([0, 1, 2, 255], size=(2, 1, 24, 20))
    style_labels[0][style_labels[0] == 1] = 2  # the style has no pixels of class 1
    images, styles = rng.uniform(0, 1, (2, 1, 3, 24, 20)) * rng.uniform(0.2, 1, (2, 1, 3, 1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iccld.adaptation.mixing.torch.rand", lambda *shape, **_: torch.full(shape, 0.4))
        changed = transfer_class_color(
            torch.from_numpy(images).float(),
            torch.from_numpy(labels),
            torch.from_numpy(styles).float(),
            torch.from_numpy(style_labels),
            3,
        )[0].numpy()
    for index in (0, 2):
        here, there = labels[0] == index, style_labels[0] == index
        expected = _expected(images[0][:, here].T, styles[0][:, there].T, share=0.7)
        np.testing.assert_allclose(changed[:, here].T, expected, atol=2e-3)
    for index in (1, 255):
        here = labels[0] == index
        np.testing.assert_array_equal(changed[:, here], images[0][:, here].astype(np.float32))


def test_few_pixels_say_nothing_of_a_class() -> None:
    torch.manual_seed(0)
    images, styles = torch.rand(2, 1, 3, 16, 16)
    labels = torch.zeros(1, 16, 16, dtype=torch.int64)
    few, enough = labels.clone(), labels.clone()
    few.view(-1)[63:] = 255
    enough.view(-1)[64:] = 255
    assert torch.equal(transfer_class_color(images, labels, styles, few, 1), images)
    assert torch.equal(transfer_class_color(images, few, styles, labels, 1), images)
    assert not torch.equal(transfer_class_color(images, labels, styles, enough, 1), images)


@given(seed=st.integers(0, 1000), dtype=st.sampled_from(["fp32", "bf16"]))
def test_class_color_transfer_stays_in_range(seed: int, dtype: str) -> None:
    torch.manual_seed(seed)
    images, styles = torch.rand(2, 3, 3, 12, 14)
    images[0] = 0.5
    labels, style_labels = torch.randint(0, 3, (2, 3, 12, 14))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
        changed = transfer_class_color(images, labels, styles, style_labels, 2)
    assert bool(torch.isfinite(changed).all())
    assert bool(((changed >= 0) & (changed <= 1)).all())
    assert torch.equal(transfer_class_color(images, labels, styles, style_labels, 2, 0.0), images)
