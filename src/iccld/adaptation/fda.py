"""FDA: source images take the low frequencies of target images, and target predictions are made sure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor, nn

from iccld.adaptation.advent import MinEnt, entropy_loss
from iccld.adaptation.losses import StepResult
from iccld.adaptation.method import Batch, Student
from iccld.adaptation.published import transfer_low_frequencies
from iccld.models.iccld import ICCLD
from iccld.models.networks import TrainingOutput


@dataclass(frozen=True)
class FDA(MinEnt):
    """Fourier domain adaptation (Yang & Soatto 2020, "FDA").

    One band β, with neither the mean of three networks nor a second round on labels made offline. docs/method.md
    compares it with the published code.

    Attributes:
        weight: of the entropy term (paper: 0.005).
        band: β, half the side of the swapped square of low frequencies as a share of the image's shorter side
            (paper: 0.01, 0.05, 0.09).
        charbonnier: η, the power that spares what is nearly sure already (paper: 2).
    """

    weight: float = 0.005
    band: float = 0.05
    charbonnier: float = 2.0

    def segmenter_step(
        self, student: Student, teacher: ICCLD, discriminator: nn.Module | None, batch: Batch, step: int
    ) -> StepResult:
        """Restyles the source images, then computes the losses."""
        if batch.target_images is not None:
            restyled = transfer_low_frequencies(batch.images, batch.target_images, self.band)
            batch = replace(batch, images=restyled)
        return super().segmenter_step(student, teacher, discriminator, batch, step)

    def target_probabilities(
        self, output: TrainingOutput, images: Float[Tensor, "n 3 h w"]
    ) -> Float[Tensor, "n k h2 w2"]:
        """Those of the network's own stride."""
        return output.logits.softmax(dim=1)

    def penalty(self, classes: Float[Tensor, "n k h w"]) -> Float[Tensor, ""]:
        """Entropy under the Charbonnier penalty."""
        return entropy_loss(classes, self.charbonnier)
