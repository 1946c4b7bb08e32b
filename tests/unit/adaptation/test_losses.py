from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import log_softmax
from torch import Tensor

from iccld.adaptation.adaptsegnet import self_information
from iccld.adaptation.fda import entropy_loss
from iccld.adaptation.losses import (
    denoising_loss,
    domain_loss,
    segmentation_loss,
)

NUM_CLASSES = 5


def _logits(*size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(2, NUM_CLASSES, *size, generator=generator)


def _labels(height: int, width: int, *, ignored: float = 0.2, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, NUM_CLASSES, (2, height, width))
    return torch.from_numpy(np.where(rng.random(labels.shape) < ignored, 255, labels))


def _cross_entropy(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Returns the weighted sum of −log p over the labeled pixels, divided by the number of these pixels."""
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    total, count = 0.0, 0
    for image, row, column in np.argwhere(labels != 255):
        total -= log_p[image, labels[image, row, column], row, column] * weights[image, row, column]
        count += 1
    return total / max(1, count)


def _values(logits: Tensor, labels: Tensor, weights: Tensor | None) -> set[float]:
    """Returns the loss values over many random draws of the phase."""
    torch.manual_seed(0)
    return {round(float(segmentation_loss(logits, labels, weights)), 5) for _ in range(40)}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [(8, 12), (9, 11), (7, 6)])
def test_stride_2_compares_with_each_of_the_four_phases(size: tuple[int, int], weighted: bool) -> None:
    height, width = size
    labels = _labels(height, width)
    weights = torch.rand(2, height, width, generator=torch.Generator().manual_seed(1)) if weighted else None
    logits = _logits(-(-height // 2), -(-width // 2))
    expected = set()
    plain = np.ones((2, height, width)) if weights is None else weights.numpy()
    for top in range(2):
        for left in range(2):
            part, share = labels.numpy()[:, top::2, left::2], plain[:, top::2, left::2]
            rows, columns = part.shape[1:]
            expected.add(round(_cross_entropy(logits.numpy()[..., :rows, :columns], part, share), 5))
    assert _values(logits, labels, weights) == expected
    assert len(expected) == 4


@pytest.mark.parametrize("size", [(8, 12), (9, 11)])
def test_coarser_logits_are_interpolated_to_stride_2(size: tuple[int, int]) -> None:
    height, width = size
    half = (-(-height // 2), -(-width // 2))
    labels = _labels(*half).repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)[:, :height, :width]
    logits = _logits(-(-height // 4), -(-width // 4))
    # Cells of four pixels that extend beyond the image are cropped, not resized.
    fine = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
    fine = fine[..., : half[0], : half[1]]
    if height % 2 == 0:  # then all phases have equal labels, and the loss at full resolution is the same
        full = fine.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        expected = F.cross_entropy(full, labels, ignore_index=255)
        assert _values(logits, labels, None) == {round(float(expected), 5)}
    assert _values(logits, labels, None) == _values(fine, labels, None)


def test_full_resolution_logits() -> None:
    logits, labels = _logits(6, 8), _labels(6, 8)
    expected = F.cross_entropy(logits, labels, ignore_index=255)
    torch.testing.assert_close(segmentation_loss(logits, labels), expected)


def test_phases_average_to_full_resolution() -> None:
    logits, labels = _logits(16, 16), _labels(32, 32, ignored=0)
    full = logits.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    mean = np.mean(sorted(_values(logits, labels, None)))
    assert mean == pytest.approx(float(F.cross_entropy(full, labels)), abs=1e-4)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_nothing_labeled_is_zero_and_sends_no_gradient(stride: int) -> None:
    logits = _logits(8 // stride, 8 // stride).requires_grad_()
    loss = segmentation_loss(logits, torch.full((2, 8, 8), 255), torch.ones(2, 8, 8))
    assert float(loss.detach()) == 0
    loss.backward()
    assert logits.grad is not None
    assert bool((logits.grad == 0).all())


@given(factor=st.floats(0, 1))
def test_weights_scale_the_loss(factor: float) -> None:
    logits, labels = _logits(4, 4), _labels(4, 4)
    plain = segmentation_loss(logits, labels)
    scaled = segmentation_loss(logits, labels, torch.full((2, 4, 4), factor))
    torch.testing.assert_close(scaled, plain * factor)


def test_what_ignored_pixels_predict_does_not_matter() -> None:
    logits, labels = _logits(4, 4), _labels(4, 4, ignored=0.5)
    changed = torch.where((labels == 255)[:, None], 100 * torch.rand_like(logits), logits)
    assert torch.equal(segmentation_loss(changed, labels), segmentation_loss(logits, labels))


def test_bf16_logits_lose_no_precision_in_the_sum() -> None:
    logits, labels = _logits(64, 64).bfloat16(), _labels(64, 64)
    loss = segmentation_loss(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), labels, ignore_index=255))


def test_denoising_loss_is_the_mean_squared_error() -> None:
    ours, truth = torch.randn(2, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(denoising_loss(ours, truth), F.mse_loss(ours, truth))


def test_denoising_weights_are_averaged_over_latent_cells() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, truth = torch.randn(2, 2, 3, 2, 2, generator=generator)
    weights = torch.rand(2, 16, 16, generator=generator)
    expected = 0.0
    for image in range(2):
        for row in range(2):
            for column in range(2):
                cell = weights[image, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].mean()
                error = (ours[image, :, row, column] - truth[image, :, row, column]).square().mean()
                expected += float(cell * error) / 8
    assert float(denoising_loss(ours, truth, weights)) == pytest.approx(expected, rel=1e-5)


@given(
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    padded=st.integers(0, 2),
    seed=st.integers(0, 1000),
)
def test_denoising_weights_of_padded_images_stay_in_place(
    size: tuple[int, int], padded: int, seed: int
) -> None:
    """Each pixel contributes its weight times the error of the pixel's cell."""
    generator = torch.Generator().manual_seed(seed)
    cells = [-(-side // 8) + padded for side in size]
    ours, truth = torch.randn(2, 2, 3, *cells, generator=generator)
    weights = torch.rand(2, *size, generator=generator)
    errors = (ours - truth).square().mean(dim=1).numpy().astype(np.float64)
    rows, columns = np.indices(size) // 8
    expected = (errors[:, rows, columns] * weights.numpy()).mean()
    assert float(denoising_loss(ours, truth, weights)) == pytest.approx(expected, rel=1e-4)


def test_denoising_is_measured_in_fp32() -> None:
    truth = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    ours = (truth.float() + 0.01).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = denoising_loss(ours, truth, torch.ones(2, 64, 64))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, (ours.float() - truth.float()).square().mean())


def test_denoising_gradient_reaches_the_prediction_alone() -> None:
    ours, truth = (torch.randn(1, 2, 3, 3, requires_grad=True) for _ in range(2))
    denoising_loss(ours, truth).backward()
    assert ours.grad is not None
    assert truth.grad is None


def test_domain_loss_asks_every_patch_for_the_images_domain() -> None:
    logits = torch.randn(4, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    log_p = log_softmax(logits.numpy().astype(np.float64), axis=1)
    for counts, domains in (((1, 2, 1), [0, 1, 1, 2]), ((3, 0, 1), [0, 0, 0, 2])):
        expected = -np.mean([log_p[image, domain].mean() for image, domain in enumerate(domains)])
        assert float(domain_loss(logits, counts)) == pytest.approx(expected, rel=1e-5)


# -- entropy ----------------------------------------------------------------------------------------


def _probabilities(seed: int, classes: int, concentration: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    drawn = rng.dirichlet(np.full(classes, concentration), size=(2, 4, 5))
    return np.moveaxis(drawn, -1, 1).astype(np.float32)


@given(seed=st.integers(0, 1000), classes=st.integers(2, 19))
def test_entropy_is_scipys(seed: int, classes: int) -> None:
    p = _probabilities(seed, classes)
    expected = stats.entropy(p.astype(np.float64), axis=1, base=classes)
    maps = self_information(torch.from_numpy(p))
    assert maps.shape == p.shape
    assert bool((maps >= 0).all())
    np.testing.assert_allclose(maps.sum(dim=1).numpy(), expected, atol=1e-5)
    assert float(entropy_loss(torch.from_numpy(p))) == pytest.approx(expected.mean(), abs=1e-5)
    for power in (0.5, 2.0):
        penalty = ((expected**2 + 1e-8) ** power).mean()
        assert float(entropy_loss(torch.from_numpy(p), power)) == pytest.approx(penalty, abs=1e-5)


def test_self_information_is_of_each_class_by_itself() -> None:
    p = torch.tensor([0.5, 0.25, 0.25, 0.0]).view(1, 4, 1, 1)
    torch.testing.assert_close(self_information(p).flatten(), torch.tensor([0.25, 0.25, 0.25, 0.0]))


def test_the_slope_of_entropy_survives_an_underflow() -> None:
    logits = torch.tensor([0.0, -120.0, -3.0]).view(1, 3, 1, 1).requires_grad_()
    entropy_loss(logits.softmax(dim=1)).backward()
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())


@pytest.mark.parametrize("classes", [2, 11])
def test_entropy_is_0_when_sure_and_1_when_all_classes_are_alike(classes: int) -> None:
    even = torch.full((1, classes, 3, 3), 1 / classes)
    sure = torch.zeros(1, classes, 3, 3)
    sure[:, 0] = 1
    assert float(entropy_loss(even)) == pytest.approx(1, abs=1e-5)
    assert float(entropy_loss(sure)) == pytest.approx(0, abs=1e-9)
    assert float(entropy_loss(sure, 2.0)) == pytest.approx(0, abs=1e-9)


def test_a_charbonnier_penalty_spares_what_is_nearly_sure() -> None:
    """The gradient of a confident pixel, relative to that of an uncertain pixel, shrinks with the power."""

    def pulls(power: float) -> float:
        logits = torch.tensor([[4.0, 0.0], [0.5, 0.0]]).T.reshape(1, 2, 1, 2).requires_grad_()
        entropy_loss(logits.softmax(dim=1), power).backward()
        assert logits.grad is not None
        sure, unsure = logits.grad[0, 0, 0].abs().tolist()
        return sure / unsure

    assert pulls(2.0) < 0.2 * pulls(0.0)


def test_descending_the_entropy_settles_on_a_class() -> None:
    logits = _logits(3, 3).requires_grad_()
    chosen = logits.argmax(dim=1)
    optimizer = torch.optim.SGD([logits], lr=20)
    for _ in range(200):
        optimizer.zero_grad()
        entropy_loss(logits.softmax(dim=1)).backward()
        optimizer.step()
    assert float(entropy_loss(logits.softmax(dim=1)).detach()) < 0.1
    assert float((logits.argmax(dim=1) == chosen).float().mean()) > 0.9
