"""Tests of the teacher's pseudo-labels, and of the augmentations of the student's images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from iccld.adaptation.method import Batch
from iccld.adaptation.self_training import LabeledImages, PseudoLabels, SelfTraining
from iccld.models.iccld import ICCLD

NUM_CLASSES = 11


def _taught(batch: Batch) -> LabeledImages:
    assert batch.target_images is not None
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(0, NUM_CLASSES, (2, 64, 64), generator=generator)
    return LabeledImages("target", batch.target_images, labels, torch.rand(2, 64, 64, generator=generator))


# -- the teacher ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("undisguised")
def test_mixed_images_labels_and_weights_belong_together(teacher: ICCLD, batch: Batch, opinion: Any) -> None:
    assert batch.target_images is not None
    assert batch.target_valid is not None
    labels = torch.randint(0, NUM_CLASSES, (2, 64, 64), generator=torch.Generator().manual_seed(5))
    confidence = torch.full((2, 64, 64), 0.6)
    confidence[0, :32] = 0.95  # half of the first image, none of the second
    asked = opinion(teacher, labels, confidence)
    training = SelfTraining(teacher_steps=3, pseudo_labels=PseudoLabels("batch", 0.9))
    torch.manual_seed(3)
    mixed = training.mix(batch, training.label_target(teacher, batch))
    assert mixed.domain == "mixed"
    assert mixed.weights is not None
    assert asked == [3]
    pasted = (mixed.images == batch.images).all(dim=1)
    assert 0.2 < float(pasted.float().mean()) < 0.8
    kept = ~pasted
    assert bool((mixed.images == batch.target_images).all(dim=1)[kept].all())
    assert torch.equal(mixed.labels[pasted], batch.labels[pasted])
    assert torch.equal(mixed.labels[kept], labels[kept])
    assert 255 not in mixed.labels
    assert bool((mixed.weights[pasted] == 1).all())
    assert bool((mixed.weights[kept & ~batch.target_valid] == 0).all())
    first, second = (kept & batch.target_valid).unbind()
    expected = torch.full((2, 64, 64), 0.25)
    torch.testing.assert_close(mixed.weights[0][first], expected[0][first])
    torch.testing.assert_close(mixed.weights[1][second], expected[1][second])


def _draws(teacher: ICCLD, num_draws: int) -> tuple[np.ndarray, list[Tensor], list[Tensor]]:
    """Replaces the teacher's prediction of each noise draw by fixed probabilities.

    Returns the probabilities (image, draw, class, row, column), and lists of the features and noises of the calls.
    """
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(NUM_CLASSES, 0.3), size=(2, num_draws, 64, 64)).astype(np.float32)
    probabilities = np.moveaxis(probabilities, -1, 2) * 0.98 + 0.02 / NUM_CLASSES
    logits = torch.from_numpy(np.log(probabilities)).flatten(0, 1)
    features, noises = [], []

    def segment(state: Any, noise: Tensor, num_steps: int) -> Tensor:
        features.append(state.coarse)
        noises.append(noise)
        return logits.softmax(dim=1)

    teacher.segment = segment  # type: ignore[method-assign]
    return probabilities, features, noises


@pytest.mark.parametrize("num_draws", [1, 3, 4])
def test_the_teachers_draws_are_averaged(num_draws: int, teacher: ICCLD, batch: Batch) -> None:
    probabilities, features, noises = _draws(teacher, num_draws)
    mean = probabilities.mean(axis=1)
    threshold = float(np.median(mean.max(axis=1)))
    labels = PseudoLabels("batch", threshold)
    taught = SelfTraining(teacher_draws=num_draws, pseudo_labels=labels).label_target(teacher, batch)
    np.testing.assert_array_equal(taught.labels.numpy(), mean.argmax(axis=1))
    assert batch.target_valid is not None
    assert taught.weights is not None
    expected = (mean.max(axis=1) >= threshold).mean() * batch.target_valid.numpy()
    np.testing.assert_allclose(taught.weights.numpy(), expected, atol=0.01)
    # The draws of an image are consecutive, and each draw has different noise.
    ((coarse,), (noise,)) = features, noises
    for image in range(2):
        rows = coarse[image * num_draws : (image + 1) * num_draws]
        assert torch.equal(rows, rows[:1].expand_as(rows))
    assert not torch.equal(coarse[0], coarse[-1])
    assert len(noise) == 2 * num_draws
    assert len(noise.flatten(1).unique(dim=0)) == 2 * num_draws


# -- augmentations --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("undisguised")
def test_cutmix_pastes_a_rectangle(batch: Batch) -> None:
    torch.manual_seed(3)
    mixed = SelfTraining(mixing="cutmix").mix(batch, _taught(batch))
    pasted = (mixed.images == batch.images).all(dim=1)
    for mask in pasted:
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        assert torch.equal(mask, rows[:, None] & columns[None]), "one rectangle, whatever the classes"
        assert float(mask.float().mean()) == pytest.approx(0.5, abs=0.02)
    assert torch.equal(mixed.labels[pasted], batch.labels[pasted])
    assert torch.equal(mixed.labels[~pasted], _taught(batch).labels[~pasted])


@pytest.mark.usefixtures("undisguised")
def test_masked_images_keep_the_teachers_labels(batch: Batch) -> None:
    """Hidden pixels keep their labels, because the student must label them from context."""
    assert batch.target_images is not None
    taught = _taught(batch)
    torch.manual_seed(3)
    masked = SelfTraining(mask_patch=16, mask_ratio=0.5).mask(taught)
    assert masked.domain == "masked"
    assert masked.labels is taught.labels
    assert masked.weights is taught.weights
    hidden = (masked.images == torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)).all(dim=1)
    squares = hidden.unflatten(2, (4, 16)).unflatten(1, (4, 16)).float().mean(dim=(2, 4))
    assert set(squares.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(masked.images[:, 0][~hidden], batch.target_images[:, 0][~hidden])


@pytest.mark.parametrize("kind", ["mix", "mask"])
@pytest.mark.parametrize(
    ("code", "jitters"), [("iccld", "color_jitter"), ("dacs", "hsv_jitter"), ("daformer", "hsv_jitter")]
)
def test_colors_change_by_the_strength_asked_for(
    code: Any, jitters: str, kind: str, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def jitter(images: Tensor, strength: float) -> Tensor:
        asked.append(strength)
        return images

    monkeypatch.setattr(f"iccld.adaptation.self_training.{jitters}", jitter)
    training = SelfTraining(jitter=0.17, code=code)
    if kind == "mix":
        training.mix(batch, _taught(batch))
    else:
        training.mask(_taught(batch))
    assert asked == [0.17]


def test_teaching_touches_neither_images_nor_random_weights(teacher: ICCLD, batch: Batch) -> None:
    assert batch.target_images is not None
    taught = SelfTraining().label_target(teacher, batch)
    assert taught.images is batch.target_images
    assert taught.weights is not None
    assert not taught.weights.requires_grad
    other = replace(batch, images=torch.zeros_like(batch.images), labels=torch.zeros_like(batch.labels))
    torch.manual_seed(0)
    one = SelfTraining().label_target(teacher, batch)
    torch.manual_seed(0)
    again = SelfTraining().label_target(teacher, other)
    assert torch.equal(one.labels, again.labels), "the source has no part in it"
