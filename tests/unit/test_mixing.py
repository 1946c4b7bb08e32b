from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from iccld.mixing import _turn_hue, class_mix_mask, color_jitter, gaussian_blur, paste, transfer_color


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


def test_nothing_labeled_nothing_pasted() -> None:
    assert not bool(class_mix_mask(torch.full((2, 4, 4), 255)).any())


def test_every_class_gets_its_turn() -> None:
    labels = torch.arange(6).repeat(1, 4, 1)
    torch.manual_seed(0)
    counts = sum(class_mix_mask(labels)[0, 0].int() for _ in range(200))
    assert isinstance(counts, torch.Tensor)
    assert bool(((counts - 100).abs() < 30).all()), counts


@given(seed=st.integers(0, 1000))
def test_images_and_labels_are_pasted_alike(seed: int) -> None:
    torch.manual_seed(seed)
    source_labels, target_labels = torch.randint(0, 5, (2, 2, 6, 8))
    # Images whose color tells their label and domain: so the labels can be read back from the mix.
    source = (source_labels.float() / 20)[:, None].repeat(1, 3, 1, 1)
    target = (target_labels.float() / 20 + 0.5)[:, None].repeat(1, 3, 1, 1)
    mask = class_mix_mask(source_labels)
    image, label = paste(mask, source, target), paste(mask, source_labels, target_labels)
    from_target = image[:, 0] >= 0.5
    assert torch.equal(from_target, ~mask)
    assert torch.equal(torch.where(from_target, image[:, 0] - 0.5, image[:, 0]).mul(20).round().long(), label)


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


def test_blur_is_scipys() -> None:
    image = torch.rand(2, 3, 12, 15, dtype=torch.float64)
    for seed in range(6):
        torch.manual_seed(seed)
        blurred = gaussian_blur(image, max_sigma=2.0, probability=1.0)
        torch.manual_seed(seed)
        torch.rand(())
        sigma = 0.15 + 1.85 * float(torch.rand(()))
        radius = max(1, round(3 * sigma))
        expected = image.numpy()
        for axis in (2, 3):
            expected = gaussian_filter1d(expected, sigma, axis=axis, mode="nearest", radius=radius)
        np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-6)


def test_blur_may_leave_the_batch_alone() -> None:
    image = torch.rand(1, 3, 4, 4)
    assert torch.equal(gaussian_blur(image, probability=0.0), image)


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
    mixing, style_mixing = 0.06 * np.eye(3) + rng.normal(0, 0.01, (2, 3, 3))  # no flat directions
    images = torch.from_numpy(0.5 + np.einsum("ij,jhw->ihw", mixing, rng.normal(size=(3, 20, 20)))[None])
    styles = torch.from_numpy(
        0.4 + np.einsum("ij,jhw->ihw", style_mixing, rng.normal(size=(3, 20, 20)))[None]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iccld.mixing.torch.rand", lambda *shape: torch.full(shape, 0.99999))
        changed = transfer_color(images.float(), styles.float(), probability=1.0)[0].flatten(1).numpy()
    expected = styles[0].flatten(1).numpy()
    np.testing.assert_allclose(changed.mean(axis=1), expected.mean(axis=1), atol=2e-3)
    # Up to the floor that keeps flat images from being blown up, 2e-5, and what clamping to [0, 1] cuts.
    np.testing.assert_allclose(np.cov(changed), np.cov(expected), atol=2e-4)


def test_hues_turn_about_gray() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 6, 6)
    turned = _turn_hue(image.expand(4, 3, 6, 6), torch.tensor([0.0, 2 * np.pi / 3, np.pi, 4 * np.pi / 3]))
    torch.testing.assert_close(turned[0], image[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(turned[1], image[0].roll(1, dims=0), atol=1e-5, rtol=0)  # red becomes green
    torch.testing.assert_close(turned.mean(dim=1), image.mean(dim=1).expand(4, 6, 6), atol=1e-5, rtol=0)


@given(seed=st.integers(0, 1000))
def test_color_transfer_stays_in_range(seed: int) -> None:
    torch.manual_seed(seed)
    images, styles = torch.rand(2, 3, 3, 6, 7)
    images[0] = 0.5  # an image of one color has no contrast to stretch
    changed = transfer_color(images, styles, probability=1.0)
    assert bool(torch.isfinite(changed).all())
    assert bool(((changed >= 0) & (changed <= 1)).all())
    assert torch.equal(transfer_color(images, styles, probability=0.0), images)
