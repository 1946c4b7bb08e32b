"""DAFormer's recipe: DACS, rare-class sampling and a distance to the pretrained features."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iccld.adaptation.dacs import DACS
from iccld.adaptation.method import Batch
from iccld.models.iccld import TrainingOutput


@dataclass(frozen=True)
class FeatureDistance:
    """Keeps features of things near those that ImageNet taught (Hoyer et al. 2022, section 3.3).

    Attributes:
        pretrained: a frozen image coder with its published weights.
        things: class indices of countable objects.
        weight: of the distance.
        share: of a cell's pixels that has to be things for the cell to count.
    """

    pretrained: nn.Module
    things: tuple[int, ...]
    weight: float = 0.005
    share: float = 0.75

    def __call__(self, output: TrainingOutput, batch: Batch) -> Tensor:
        """The weighted mean distance over the cells of things in the source images."""
        images, labels = batch.images, batch.labels
        with torch.no_grad():
            expected = self.pretrained.to(images.device)(images)[32].float()
        things = torch.isin(labels, torch.tensor(self.things, device=labels.device)).float()[:, None]
        cells = F.adaptive_avg_pool2d(things, (expected.shape[-2], expected.shape[-1]))[:, 0] >= self.share
        difference = output.coarse[: len(images)].float() - expected
        # A square root at zero has no slope to follow: the features coincide at the first step.
        distances = (difference.square().sum(dim=1) + 1e-6).sqrt()
        mean: Tensor = self.weight * (distances * cells).sum() / cells.sum().clamp_min(1)
        return mean


@dataclass(frozen=True)
class DAFormer(DACS):
    """The training recipe of DAFormer (Hoyer et al. 2022), with this project's network.

    Rare-class sampling belongs to the loaders (``data.rare_class_sampling``).

    Deviations: those of :class:`DACS`; our network instead of MiT-B5 with the DAFormer head; warm-up and decay of
    the learning rate as for all methods here.

    Attributes:
        feature_distance: None where the image coder starts from scratch.
    """

    feature_distance: FeatureDistance | None = field(default=None)

    def extra_terms(self, output: TrainingOutput, batch: Batch) -> dict[str, Any]:
        """The feature distance."""
        if self.feature_distance is None:
            return {}
        return {"feature_distance": self.feature_distance(output, batch)}
