"""Self-training: pseudo-labels of the EMA teacher, mixed images and masked images."""

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
    hsv_jitter,
    mask_patches,
)
from iccld.config import TrainConfig
from iccld.models.iccld import ICCLD
from iccld.models.networks import TrainingOutput

Mixing = Literal["classmix", "cutmix", "none"]

Code = Literal["iccld", "dacs", "daformer"]
"""Published code (``dacs`` or ``daformer``) whose ClassMix and color augmentation are reproduced.

``iccld`` is this project's own variant. It draws the classes of ClassMix for each image, never pastes ignored pixels,
and changes colors with ``color_jitter``. ``dacs`` also draws the classes for each image, but treats ignored pixels as
an additional class and changes colors with ``hsv_jitter``. ``daformer`` differs from ``dacs`` in one point: it draws
the classes once per batch."""

Weighting = Literal["class", "batch"]


@dataclass(frozen=True)
class PseudoLabels:
    """Conversion of the teacher's probabilities to labels and pixel weights.

    Attributes:
        weighting: Rule for the weights. ``class`` is class-balanced self-training (Zou et al. 2018). The most confident
            pixels of each class in the batch (fraction ``keep``) are used. Their weight is the mean confidence of the
            class to the power ``trust``. All other pixels have weight 0. ``batch`` is the rule of DACS (Tranheden et
            al. 2021) and DAFormer. All valid pixels have the same weight, which is the fraction of all pixels of the
            batch (also invalid pixels) whose confidence is at least ``threshold``.
        threshold: Confidence threshold for ``batch``.
        keep: Fraction of each class's pixels that are used with ``class``. The fraction is the same for all classes. A
            common confidence threshold would select few pixels of rare classes, whose confidence is often lower.
        trust: Exponent of the mean confidence with ``class``. If it is 0, all used pixels have weight 1.
    """

    weighting: Weighting = "class"
    threshold: float = 0.9
    keep: float = 0.5
    trust: float = 0.0

    def __call__(
        self, probabilities: Float[Tensor, "b k h w"], valid: Bool[Tensor, "b h w"]
    ) -> tuple[Int[Tensor, "b h w"], Float[Tensor, "b h w"]]:
        """Labels every pixel with its most probable class.

        Args:
            probabilities: Class probabilities of the teacher at the resolution of the result.
            valid: Mask of the pixels that can get a pseudo-label. All other pixels (padding, ego vehicle, borders) have
                weight 0.

        Returns:
            Labels, and pixel weights in [0, 1].
        """
        confidence, labels = probabilities.float().max(dim=1)
        if self.weighting == "batch":
            return labels, (confidence >= self.threshold).float().mean() * valid
        return labels, self._by_class(confidence, labels, valid, probabilities.shape[1])

    def _by_class(self, confidence: Tensor, labels: Tensor, valid: Tensor, num_classes: int) -> Tensor:
        # The operations use masks of all pixels. Lists of the pixels of each class would cause GPU syncs, because the
        # length of a list depends on the data. Invalid pixels form an additional class.
        classes = torch.where(valid, labels, num_classes).flatten()
        sure = confidence.flatten()
        # Pixels are sorted by class, then by confidence. Ties are in random order. Otherwise, pixels at the top of the
        # image would be preferred if many confidences are exactly 1.
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
    """Images of one domain with labels and pixel weights.

    Images are RGB in [0, 1]. The label 255 means ignore. The names of the losses end with ``domain``. If ``weights`` is
    ``None``, all pixels have weight 1.
    """

    domain: str
    images: Float[Tensor, "b 3 h w"]
    labels: Int[Tensor, "b h w"]
    weights: Float[Tensor, "b h w"] | None = None


@dataclass(frozen=True)
class SelfTraining:
    """Self-training with pseudo-labels of the EMA teacher on mixed or masked target images with augmented colors.

    Attributes:
        start_step: Number of steps on source images alone before self-training starts. Pseudo-labels of the first steps
            would lack the rare classes.
        teacher_steps: Number of sampling steps of the teacher.
        teacher_draws: Number of noise draws of the teacher. The probabilities of all draws are averaged.
        pseudo_labels: Conversion of probabilities to labels and weights.
        mixing: Method by which parts of source images are pasted on target images. ``none`` is for methods without
            mixed images.
        code: Published code whose ClassMix and color augmentation are reproduced: ``dacs`` or ``daformer``. ``iccld``
            is this project's own variant. ``Code`` lists the differences.
        jitter: Strength of the color augmentation of mixed and masked images.
        mask_patch: Side of the hidden squares in masked images, in pixels.
        mask_ratio: Probability that a square is hidden.
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

    @classmethod
    def from_config(cls, config: TrainConfig, code: Code = "iccld") -> SelfTraining:
        """Builds self-training with the settings of a run. ``code`` is the attribute of the same name."""
        a = config.adaptation
        return cls(
            start_step=config.start_step,
            teacher_steps=a.teacher_steps,
            teacher_draws=a.teacher_draws,
            pseudo_labels=PseudoLabels(a.weighting, a.threshold, a.keep, a.trust),
            mixing=a.mixing,
            code=code,
            jitter=a.color_jitter,
            mask_patch=a.mask_patch or max(1, round(min(config.data.crop) / 16)),
            mask_ratio=a.mask_ratio,
        )

    @torch.no_grad()
    def label_target(self, teacher: ICCLD, batch: Batch) -> LabeledImages:
        """Returns the target images with pseudo-labels of the teacher."""
        images, valid = batch.target_images, batch.target_valid
        assert images is not None
        assert valid is not None
        features = teacher.encode(images)
        if self.teacher_draws > 1:
            features = features.repeat(self.teacher_draws)
        noise = teacher.draw_noise(features, len(images) * self.teacher_draws)
        draws = teacher.segment(features, noise, self.teacher_steps).unflatten(0, (len(images), -1))
        full = maps_to_size(draws.mean(dim=1), images.shape[-2:])
        return LabeledImages("target", images, *self.pseudo_labels(full, valid))

    def mix(self, batch: Batch, pseudo_labeled: LabeledImages) -> LabeledImages:
        """Pastes parts of the source images on the target images, and augments and blurs the mixed images."""
        assert pseudo_labeled.weights is not None
        assert self.mixing != "none"
        if self.mixing == "classmix":
            of_batch, ignored = self.code == "daformer", self.code != "iccld"
            mask = class_mix_mask(batch.labels, of_batch=of_batch, ignored=ignored)
        else:
            mask = cut_mix_mask(batch.labels)
        images = self._augment(torch.where(mask[:, None], batch.images, pseudo_labeled.images))
        labels = torch.where(mask, batch.labels, pseudo_labeled.labels)
        return LabeledImages("mixed", images, labels, pseudo_labeled.weights.masked_fill(mask, 1.0))

    def mask(self, pseudo_labeled: LabeledImages) -> LabeledImages:
        """Augments the target images and hides squares in them. The labels do not change (Hoyer et al. 2023, MIC)."""
        images = mask_patches(self._augment(pseudo_labeled.images), self.mask_patch, self.mask_ratio)
        return LabeledImages("masked", images, pseudo_labeled.labels, pseudo_labeled.weights)

    def _augment(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        recolor = color_jitter if self.code == "iccld" else hsv_jitter
        return gaussian_blur(recolor(images, self.jitter))


def supervised_terms(
    supervised: SupervisedLoss, output: TrainingOutput, branches: Sequence[LabeledImages]
) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Tensor]]:
    """Returns the losses (equation 8) by name, and the metrics by name, of all branches.

    In ``output``, the images of the branches follow each other in the order of ``branches``.
    """
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
