"""MIC: masked target images have to be labeled from their context, on top of DAFormer's recipe."""

from __future__ import annotations

from dataclasses import dataclass

from iccld.adaptation.daformer import DAFormer
from iccld.adaptation.method import Batch
from iccld.adaptation.self_training import LabeledImages


@dataclass(frozen=True)
class MIC(DAFormer):
    """Masked image consistency (Hoyer et al. 2023, "MIC") on DAFormer's recipe.

    Deviations: those of ``DAFormer``; the paper builds on HRDA's two resolutions for its best figures. Hidden
    squares have 64 of 512 pixels in the paper; ``--adaptation.mask-patch`` is to be set in proportion to the crop, as
    the presets of GTA5 and SYNTHIA (64 of 512) and the bench (16 of 128) do.
    """

    def target_branches(self, batch: Batch, taught: LabeledImages) -> list[LabeledImages]:
        """Mixed and masked images, each with the teacher's labels."""
        return [*super().target_branches(batch, taught), self.self_training.mask(taught)]
