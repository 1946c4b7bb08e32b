"""What self-training methods share: the teacher's labels, mixed images and masked images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from iccld.adaptation.losses import SupervisedLoss, maps_to_size
from iccld.adaptation.method import Batch
from iccld.adaptation.mixing import (
    class_mix_mask,
    color_jitter,
    cut_mix_mask,
    gaussian_blur,
    mask_patches,
)
from iccld.adaptation.published import hsv_jitter
from iccld.models.iccld import ICCLD
from iccld.models.networks import TrainingOutput

Mixing = Literal["classmix", "cutmix", "none"]

Code = Literal["iccld", "dacs", "daformer"]
"""Whose ClassMix and colors: ours (classes of each image, ``color_jitter``), those of the published code of DACS
(ignored pixels as one class more, ``hsv_jitter``), or of DAFormer's (the same, with the classes of the batch)."""


Weighting = Literal["class", "pixel", "image", "batch", "spread"]


@dataclass(frozen=True)
class PseudoLabels:
    """Turns the teacher's probabilities into labels and weights.

    Attributes:
        weighting: ``class``: of the pixels of each class in the batch the surest share counts, times the mean
            probability of that class to a power (class-balanced self-training, Zou et al. 2018, with trust in a
            class as a whole added). ``pixel``: pixels from the threshold on count. ``image``: all valid pixels
            of an image weigh the share of them from the threshold on. ``batch``: all pixels
            weigh the share of the batch's from the threshold on, as DACS (Tranheden et al. 2021) and DAFormer count
            it: over all images together and with the pixels that may not be labeled. ``spread``: the caller weighs
            pixels by the agreement of the teacher's draws; here all valid ones count.
        threshold: probability, for ``pixel``, ``image`` and ``batch``.
        keep: share of a class's pixels, for ``class``: a rare class is not silenced because the teacher is less
            sure of it than of the road.
        trust: the power, for ``class``: classes that the teacher is unsure of on the whole teach little.
    """

    weighting: Weighting = "class"
    threshold: float = 0.9
    keep: float = 0.5
    trust: float = 8.0

    def __call__(
        self, probabilities: Float[Tensor, "b k h w"], valid: Bool[Tensor, "b h w"]
    ) -> tuple[Int[Tensor, "b h w"], Float[Tensor, "b h w"]]:
        """Labels every pixel with its most probable class.

        Args:
            probabilities: the teacher's, at the resolution wanted.
            valid: pixels that may be labeled; the others (padding, the ego vehicle, borders) weigh nothing.

        Returns:
            Labels, and weights in [0, 1].
        """
        confidence, labels = probabilities.float().max(dim=1)
        if self.weighting == "class":
            return labels, self._by_class(confidence, labels, valid, probabilities.shape[1])
        if self.weighting == "spread":
            return labels, valid.float()
        sure = confidence >= self.threshold
        if self.weighting == "pixel":
            return labels, (sure & valid).float()
        if self.weighting == "batch":
            return labels, sure.float().mean() * valid
        share = (sure & valid).sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp_min(1)
        return labels, share.view(-1, 1, 1) * valid

    def _by_class(self, confidence: Tensor, labels: Tensor, valid: Tensor, num_classes: int) -> Tensor:
        # All classes at once and without a look at their sizes, for which a GPU would be waited for. What may not be
        # labeled counts as one class more.
        classes = torch.where(valid, labels, num_classes).flatten()
        sure = confidence.flatten()
        # By class, surest first, in a random order where all are equally sure: a saturated teacher's pixels would
        # otherwise count from the top of the image down.
        order = torch.randperm(len(sure), device=sure.device)
        order = order[sure[order].argsort(descending=True, stable=True)]
        order = order[classes[order].argsort(stable=True)]
        members = [classes == index for index in range(num_classes + 1)]
        sizes = torch.stack([of_class.sum() for of_class in members])
        first = sizes.cumsum(0) - sizes
        quotas = (self.keep * sizes).round()
        ranks = torch.arange(len(order), device=order.device) - first[classes[order]]
        kept = torch.empty_like(ranks, dtype=torch.bool)
        kept[order] = ranks < quotas[classes[order]]
        total = torch.stack([(sure * of_class).sum() for of_class in members])
        trust = (total / sizes.clamp_min(1)) ** self.trust
        return (kept.view(labels.shape) & valid) * trust[labels]


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

    @torch.no_grad()
    def teach(self, teacher: ICCLD, batch: Batch) -> LabeledImages:
        """Labels the target images by the teacher."""
        images, valid = batch.target_images, batch.target_valid
        assert images is not None
        assert valid is not None
        features = teacher.encode(images)
        if self.teacher_draws > 1:
            features = features.repeat(self.teacher_draws)
        noise = teacher.draw_noise(features, len(images) * self.teacher_draws)
        answers = teacher.segment(features, noise, self.teacher_steps)
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
        images = self._disguise(torch.where(mask[:, None], batch.images, taught.images))
        labels = torch.where(mask, batch.labels, taught.labels)
        return LabeledImages("mixed", images, labels, taught.weights.masked_fill(mask, 1.0))

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
