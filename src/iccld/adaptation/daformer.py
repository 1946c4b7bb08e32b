"""The recipes of DAFormer (DACS, rare-class sampling, a distance to the pretrained features) and MIC (and masks)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iccld.adaptation.dacs import DACS, published_self_training
from iccld.adaptation.method import Batch
from iccld.adaptation.self_training import LabeledImages, SelfTraining
from iccld.labels import IGNORE
from iccld.models.iccld import to_device
from iccld.models.networks import TrainingOutput


@dataclass(frozen=True)
class FeatureDistance:
    """Keeps features of things near those that ImageNet taught (Hoyer et al. 2022, section 3.3).

    Attributes:
        pretrained: a frozen image coder with its published weights.
        things: class indices of countable objects.
        weight: of the distance.
        share: of a cell's pixels that one such class has to hold for the cell to count.
    """

    pretrained: nn.Module
    things: tuple[int, ...]
    weight: float = 0.005
    share: float = 0.75

    def __call__(self, output: TrainingOutput, batch: Batch) -> Tensor:
        """The weighted mean distance over the cells of things in the source images."""
        rows, columns = (side * 32 for side in output.coarse.shape[-2:])  # padded as the model pads
        margin = (0, columns - batch.images.shape[-1], 0, rows - batch.images.shape[-2])
        images = F.pad(batch.images, margin, mode="replicate")
        labels = F.pad(batch.labels, margin, value=IGNORE)
        with torch.no_grad():
            expected = self.pretrained.to(images.device)(images)[32].float()
        things = to_device(torch.tensor(self.things).view(1, -1, 1, 1), labels.device)
        shares = F.avg_pool2d((labels[:, None] == things).float(), 32)
        cells = shares.amax(dim=1) >= self.share
        difference = output.coarse[: len(images)].float() - expected
        # A square root at zero has no slope to follow: the features coincide at the first step.
        distances = (difference.square().sum(dim=1) + 1e-6).sqrt()
        mean: Tensor = self.weight * (distances * cells).sum() / cells.sum().clamp_min(1)
        return mean


@dataclass(frozen=True)
class DAFormer(DACS):
    """The training recipe of DAFormer (Hoyer et al. 2022), with this project's network.

    Rare-class sampling and the search for varied crops belong to the loaders (``data.rare_class_sampling``,
    ``data.cat_max_ratio``). docs/method.md compares the rest with the published code.

    Attributes:
        self_training: teacher and mixing.
        feature_distance: None where the image coder starts from scratch.
    """

    self_training: SelfTraining = field(default_factory=lambda: published_self_training("daformer"))
    feature_distance: FeatureDistance | None = field(default=None)

    def extra_terms(self, output: TrainingOutput, batch: Batch) -> dict[str, Any]:
        """The feature distance."""
        if self.feature_distance is None:
            return {}
        return {"feature_distance": self.feature_distance(output, batch)}


@dataclass(frozen=True)
class MIC(DAFormer):
    """Masked image consistency (Hoyer et al. 2023, "MIC") on DAFormer's recipe.

    Hidden squares have a sixteenth of the crop's side: 64 pixels of 1024 with HRDA, 32 of 512 with DAFormer.
    """

    def target_branches(self, batch: Batch, pseudo_labeled: LabeledImages) -> list[LabeledImages]:
        """Mixed and masked images, each with the labels of the teacher."""
        return [*super().target_branches(batch, pseudo_labeled), self.self_training.mask(pseudo_labeled)]
