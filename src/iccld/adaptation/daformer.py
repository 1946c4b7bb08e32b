"""The training recipes of DAFormer and MIC.

DAFormer is DACS with rare-class sampling and a distance to pretrained features. MIC adds masked target images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iccld.adaptation.dacs import DACS, published_self_training
from iccld.adaptation.method import Batch, supervised_losses
from iccld.adaptation.self_training import LabeledImages, SelfTraining
from iccld.config import TrainConfig
from iccld.labels import CITYSCAPES19, IGNORE, LabelSpace
from iccld.models.iccld import to_device
from iccld.models.image_coder import build_image_coder, pretrained_weights
from iccld.models.networks import TrainingOutput

# Names of the classes of countable objects, to which the feature distance applies. "sign" and "bicyclist" are names of
# CamVid, "living thing" and "vehicle" of IDD (level 1).
_THINGS = frozenset(
    (
        *CITYSCAPES19.names[6:8],
        *CITYSCAPES19.names[11:],
        *("sign", "bicyclist"),
        *("living thing", "living things", "vehicle", "vehicles"),
    )
)


@dataclass(frozen=True)
class FeatureDistance:
    """Loss that keeps features of countable objects ("things") close to ImageNet features (Hoyer et al. 2022).

    Attributes:
        pretrained: Frozen image coder with its published weights.
        things: Class indices of countable objects.
        weight: Factor of the loss.
        share: Minimum fraction of a feature cell (32×32 pixels) that one thing class must cover. Cells below this
            minimum have no loss.
    """

    pretrained: nn.Module
    things: tuple[int, ...]
    weight: float = 0.005
    share: float = 0.75

    @classmethod
    def from_config(cls, config: TrainConfig, label_space: LabelSpace) -> FeatureDistance | None:
        """Builds the loss for a run's backbone.

        Returns ``None`` without pretrained weights, if the weight is 0, or if no class is known to be a thing class.
        """
        backbone, weight = config.model.backbone, config.adaptation.feature_distance
        pretrained = pretrained_weights(backbone, config.model.pretrained)
        things = tuple(i for i, name in enumerate(label_space.names) if name in _THINGS)
        if not pretrained or weight <= 0 or not things:
            return None
        coder = build_image_coder(backbone, pretrained=pretrained).requires_grad_(False).eval()
        return cls(coder, things, weight)

    def __call__(self, output: TrainingOutput, batch: Batch) -> Tensor:
        """Returns ``weight`` times the mean feature distance over the source image cells selected by ``share``."""
        rows, columns = (side * 32 for side in output.coarse.shape[-2:])  # same padding as in the model
        margin = (0, columns - batch.images.shape[-1], 0, rows - batch.images.shape[-2])
        images = F.pad(batch.images, margin, mode="replicate")
        labels = F.pad(batch.labels, margin, value=IGNORE)
        with torch.no_grad():
            expected = self.pretrained.to(images.device)(images)[32].float()
        things = to_device(torch.tensor(self.things).view(1, -1, 1, 1), labels.device)
        shares = F.avg_pool2d((labels[:, None] == things).float(), 32)
        cells = shares.amax(dim=1) >= self.share
        difference = output.coarse[: len(images)].float() - expected
        # At the first step, the distance is zero. Without 1e-6, the square root would have an infinite gradient there.
        distances = (difference.square().sum(dim=1) + 1e-6).sqrt()
        mean: Tensor = self.weight * (distances * cells).sum() / cells.sum().clamp_min(1)
        return mean


@dataclass(frozen=True)
class DAFormer(DACS):
    """Training recipe of DAFormer (Hoyer et al. 2022) with this project's network.

    The loaders implement rare-class sampling (``data.rare_class_sampling``) and the maximum fraction of one class in a
    crop (``data.cat_max_ratio``). docs/method.md compares the rest with the published code.

    Attributes:
        self_training: Settings for the teacher's pseudo-labels and the mixing of images.
        feature_distance: Loss on the image features. ``None`` if the image coder starts from random weights, or if the
            weight of this loss is 0.
    """

    self_training: SelfTraining = field(default_factory=lambda: published_self_training("daformer"))
    feature_distance: FeatureDistance | None = field(default=None)

    @classmethod
    def from_config(cls, config: TrainConfig, label_space: LabelSpace) -> DAFormer:
        """Builds the method with the settings of a run. Reads pretrained weights for the feature distance."""
        return cls(
            *supervised_losses(config),
            self_training=SelfTraining.from_config(config, "daformer"),
            feature_distance=FeatureDistance.from_config(config, label_space),
        )

    def extra_terms(self, output: TrainingOutput, batch: Batch) -> dict[str, Any]:
        """Returns the feature distance as a loss term, or no term if there is no feature distance."""
        if self.feature_distance is None:
            return {}
        return {"feature_distance": self.feature_distance(output, batch)}


@dataclass(frozen=True)
class MIC(DAFormer):
    """Masked image consistency (Hoyer et al. 2023, "MIC") on DAFormer's recipe.

    In the paper, the side of a hidden square is a sixteenth of the crop's side: 64 of 1024 pixels with HRDA, 32 of 512
    pixels with DAFormer.
    """

    def target_branches(self, batch: Batch, pseudo_labeled: LabeledImages) -> list[LabeledImages]:
        """Returns the mixed images and the masked target images, both with pseudo-labels of the teacher."""
        return [*super().target_branches(batch, pseudo_labeled), self.self_training.mask(pseudo_labeled)]
