"""What self-training methods share: the teacher's labels, mixed images and masked images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from iccld.adaptation.method import Batch, SupervisedLoss
from iccld.mixing import (
    class_mix_mask,
    color_jitter,
    cut_mix_mask,
    gaussian_blur,
    hsv_jitter,
    mask_patches,
    paste,
)
from iccld.models.iccld import ICCLD
from iccld.models.networks import TrainingOutput
from iccld.pseudo_labels import PseudoLabels
from iccld.resizing import maps_to_size

Mixing = Literal["classmix", "cutmix", "none"]

Code = Literal["iccld", "dacs", "daformer"]
"""Whose ClassMix and colors: ours (classes of each image, ``color_jitter``), those of the published code of DACS
(ignored pixels as one class more, ``hsv_jitter``), or of DAFormer's (the same, with the classes of the batch)."""


@dataclass
class LabeledImages:
    """Images with labels that count by weight.

    Attributes:
        domain: for the names of losses.
        images: RGB in [0, 1].
        labels: 255 = ignore.
        weights: of the pixels, in [0, 1]; None means 1.
    """

    domain: str
    images: Float[Tensor, "b 3 h w"]
    labels: Int[Tensor, "b h w"]
    weights: Float[Tensor, "b h w"] | None = None


@dataclass(frozen=True)
class SelfTraining:
    """The teacher labels target images, and the student learns them in disguise.

    Attributes:
        start_step: steps on source alone: a teacher that does not know the rare classes yet silences them.
        teacher_steps: sampling steps of the teacher.
        teacher_draws: its noise draws, averaged.
        pseudo_labels: how its answers become labels and weights.
        mixing: how source is pasted on target.
        code: whose ClassMix and color augmentation.
        jitter: strength of the color augmentation of mixed and masked images.
        mask_patch: side of the squares hidden from masked images, in pixels.
        mask_ratio: share of them that is hidden.
    """

    start_step: int = 300
    teacher_steps: int = 1
    teacher_draws: int = 1
    pseudo_labels: PseudoLabels = field(default_factory=PseudoLabels)
    mixing: Mixing = "classmix"
    code: Code = "iccld"
    jitter: float = 0.4
    mask_patch: int = 32
    mask_ratio: float = 0.7

    def begun(self, step: int) -> bool:
        """Whether the teacher is to be listened to."""
        return step >= self.start_step

    @torch.no_grad()
    def teach(self, teacher: ICCLD, batch: Batch) -> LabeledImages:
        """Labels the target images by the teacher."""
        images, valid = batch.target_images, batch.target_valid
        assert images is not None
        assert valid is not None
        state = teacher.encode(images).repeat(self.teacher_draws)
        noise = teacher.draw_noise(state, len(images) * self.teacher_draws)
        answers = teacher.segment(state, noise, self.teacher_steps)
        draws = answers.unflatten(0, (len(images), self.teacher_draws))
        full = maps_to_size(draws.mean(dim=1), (images.shape[-2], images.shape[-1]))
        labels, weights = self.pseudo_labels(full, valid)
        if self.pseudo_labels.weighting == "spread":
            # Pixels count by the share of draws that agree on them.
            votes = (draws.argmax(dim=2) == draws.mean(dim=1).argmax(dim=1, keepdim=True)).float().mean(dim=1)
            weights = maps_to_size(votes[:, None], (images.shape[-2], images.shape[-1]))[:, 0] * valid
        return LabeledImages("target", images, labels, weights)

    def mix(self, batch: Batch, taught: LabeledImages) -> LabeledImages:
        """Pastes parts of the source images on the target images, then changes colors and blurs."""
        assert taught.weights is not None
        assert self.mixing != "none"
        if self.mixing == "classmix":
            published = self.code != "iccld"
            mask = class_mix_mask(batch.labels, of_batch=self.code == "daformer", ignored=published)
        else:
            mask = cut_mix_mask(batch.labels)
        images = self._disguise(paste(mask, batch.images, taught.images))
        weights = paste(mask, torch.ones_like(taught.weights), taught.weights)
        return LabeledImages("mixed", images, paste(mask, batch.labels, taught.labels), weights)

    def mask(self, taught: LabeledImages) -> LabeledImages:
        """Hides squares of the target images: the student has to label them from context (Hoyer et al. 2023)."""
        images = mask_patches(self._disguise(taught.images), self.mask_patch, self.mask_ratio)
        return LabeledImages("masked", images, taught.labels, taught.weights)

    def _disguise(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        recolor = color_jitter if self.code == "iccld" else hsv_jitter
        return gaussian_blur(recolor(images, self.jitter))


def supervised_terms(
    supervised: SupervisedLoss, output: TrainingOutput, branches: Sequence[LabeledImages]
) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Tensor]]:
    """The supervised losses of branches that went through one pass in this order."""
    terms: dict[str, Tensor] = {}
    logs: dict[str, Tensor] = {}
    first = 0
    for branch in branches:
        rows = slice(first, first + len(branch.images))
        first = rows.stop
        branch_terms, branch_logs = supervised(output, branch.labels, rows, branch.domain, branch.weights)
        terms |= branch_terms
        logs |= branch_logs
        if branch.weights is not None:
            logs[f"train/pseudo_label_weight_{branch.domain}"] = branch.weights.mean()
    return terms, logs
