"""MinEnt and FDA: target predictions are made sure; FDA gives source images the low frequencies of target images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from iccld.adaptation.adaptsegnet import self_information
from iccld.adaptation.losses import StepResult, SupervisedLoss
from iccld.adaptation.method import Batch, Method, Student, probabilities
from iccld.models.iccld import ICCLD
from iccld.models.networks import TrainingOutput


@dataclass(frozen=True)
class MinEnt(Method):
    """Entropy minimization on the target (Vu et al. 2019, "ADVENT", MinEnt).

    Attributes:
        weight: of the target's mean entropy (normalized by log k).
        start_step: steps on source alone.
    """

    supervised: SupervisedLoss = field(default_factory=lambda: SupervisedLoss(0, 0))
    uses_target: bool = True
    weight: float = 0.001
    start_step: int = 0

    def has_started(self, step: int) -> bool:
        """From ``start_step`` on."""
        return step >= self.start_step

    def adapt(
        self,
        result: StepResult,
        output: TrainingOutput,
        batch: Batch,
        discriminator: nn.Module | None,
        step: int,
    ) -> None:
        """Adds the entropy."""
        entropy = self.penalty(self.predictions(output, batch)[len(batch.images) :])
        result.terms["entropy_target"] = self.weight * entropy
        result.logs["train/loss_entropy_target"] = entropy.detach()

    def predictions(self, output: TrainingOutput, batch: Batch) -> Float[Tensor, "n k h2 w2"]:
        """The class probabilities whose entropy counts: those at the images' size."""
        return probabilities(output, batch.images)

    def penalty(self, classes: Float[Tensor, "n k h w"]) -> Float[Tensor, ""]:
        """The target's mean entropy in [0, 1]."""
        return entropy_loss(classes)


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

    def predictions(self, output: TrainingOutput, batch: Batch) -> Float[Tensor, "n k h2 w2"]:
        """Those of the network's own stride."""
        return output.logits.softmax(dim=1)

    def penalty(self, classes: Float[Tensor, "n k h w"]) -> Float[Tensor, ""]:
        """Entropy under the Charbonnier penalty."""
        return entropy_loss(classes, self.charbonnier)


def entropy_loss(probabilities: Float[Tensor, "b k h w"], charbonnier: float = 0.0) -> Float[Tensor, ""]:
    """Mean entropy in [0, 1] of predictions (Vu et al. 2019).

    Args:
        probabilities: of the classes.
        charbonnier: η > 0 gives (H² + 10⁻⁸)^η instead, which spares what is nearly sure (Yang & Soatto 2020; their
            paper has 0.001² in place of the 10⁻⁸ of their code).
    """
    entropy = self_information(probabilities).sum(dim=1)
    return ((entropy.square() + 1e-8) ** charbonnier if charbonnier > 0 else entropy).mean()


def transfer_low_frequencies(
    images: Float[Tensor, "b 3 h w"], styles: Float[Tensor, "b 3 h w"], band: float
) -> Float[Tensor, "b 3 h w"]:
    """Gives images the low-frequency amplitudes of others; phases stay (Yang & Soatto 2020, FDA).

    Levels may leave [0, 1] and are not cut, as in the published code: cutting would change amplitudes and phases again.

    Args:
        images: RGB in [0, 1].
        styles: images whose amplitudes are taken, one for each image, of the same size.
        band: half the side of the square of low frequencies, as a share of the shorter side.
    """
    height, width = images.shape[-2:]
    reach = int(min(height, width) * band)
    with torch.autocast(images.device.type, enabled=False):
        spectrum, style = (torch.fft.fft2(x.float().contiguous()) for x in (images, styles))
        rows, columns = (
            torch.fft.fftfreq(n, 1 / n, device=images.device).abs() <= reach for n in (height, width)
        )
        low = rows[:, None] & columns[None]
        amplitude = torch.where(low, style.abs(), spectrum.abs())
        restyled = torch.fft.ifft2(torch.polar(amplitude, spectrum.angle())).real
    return restyled.to(images.dtype)
