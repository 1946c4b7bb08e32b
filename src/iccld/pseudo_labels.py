"""Labels for the target domain from the teacher, and how much to trust them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from iccld.compute import to_device

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
        order = to_device(torch.randperm(len(sure)), sure.device)
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
