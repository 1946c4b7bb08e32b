"""MIC: masked target images have to be labeled from their context, on top of DAFormer's recipe."""

from __future__ import annotations

from dataclasses import dataclass

from iccld.adaptation.daformer import DAFormer
from iccld.adaptation.method import Batch
from iccld.adaptation.self_training import LabeledImages


@dataclass(frozen=True)
class MIC(DAFormer):
    """Masked image consistency (Hoyer et al. 2023, "MIC") on DAFormer's recipe.

    Hidden squares have a sixteenth of the crop's side: 64 pixels of 1024 with HRDA, 32 of 512 with DAFormer.
    """

    def target_branches(self, batch: Batch, pseudo_labeled: LabeledImages) -> list[LabeledImages]:
        """Mixed and masked images, each with the teacher's labels."""
        return [*super().target_branches(batch, pseudo_labeled), self.self_training.mask(pseudo_labeled)]
