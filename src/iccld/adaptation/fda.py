"""The methods MinEnt and FDA. MinEnt minimizes the entropy of target predictions.

FDA also replaces the low-frequency amplitudes of source images by those of target images.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from iccld.adaptation.adaptsegnet import self_information
from iccld.adaptation.losses import StepResult, SupervisedLoss
from iccld.adaptation.method import Batch, Method, Student, probabilities, supervised_losses
from iccld.config import TrainConfig
from iccld.labels import LabelSpace
from iccld.models.iccld import ICCLD
from iccld.models.networks import TrainingOutput


@dataclass(frozen=True)
class MinEnt(Method):
    """Method that minimizes the entropy of target predictions (Vu et al. 2019, "ADVENT", MinEnt).

    Attributes:
        weight: Weight of the entropy loss. This loss is the mean entropy of target predictions, divided by log k.
        start_step: Number of steps before the entropy loss starts.
    """

    supervised: SupervisedLoss = field(default_factory=lambda: SupervisedLoss(0, 0))
    uses_target: bool = True
    weight: float = 0.001
    start_step: int = 0

    @classmethod
    def from_config(cls, config: TrainConfig, label_space: LabelSpace) -> MinEnt:
        """Builds the method with the settings of a run."""
        weight = config.adaptation.entropy_weight
        return cls(*supervised_losses(config), weight=weight, start_step=config.start_step)

    def has_started(self, step: int) -> bool:
        """Returns whether ``step`` is at or after ``start_step``."""
        return step >= self.start_step

    def adapt(
        self,
        result: StepResult,
        output: TrainingOutput,
        batch: Batch,
        discriminator: nn.Module | None,
        step: int,
    ) -> None:
        """Adds the entropy loss of the target images to ``result``."""
        entropy = self.penalty(self.predictions(output, batch)[len(batch.images) :])
        result.terms["entropy_target"] = self.weight * entropy
        result.logs["train/loss_entropy_target"] = entropy.detach()

    def predictions(self, output: TrainingOutput, batch: Batch) -> Float[Tensor, "n k h2 w2"]:
        """Returns the class probabilities whose entropy is minimized, at the images' size."""
        return probabilities(output, batch.images)

    def penalty(self, classes: Float[Tensor, "n k h w"]) -> Float[Tensor, ""]:
        """Returns the mean entropy of the target predictions, normalized to [0, 1]."""
        return entropy_loss(classes)


@dataclass(frozen=True)
class FDA(MinEnt):
    """Fourier domain adaptation (Yang & Soatto 2020, "FDA").

    Unlike in the paper, a single network with a single band β is trained. The paper averages three networks with
    different bands (multi-band transfer), and then trains in further rounds on stored pseudo-labels.
    docs/method.md compares this class with the published code.

    Attributes:
        weight: Weight of the entropy term (paper: 0.005).
        band: Half side β of the replaced square of low frequencies, as a fraction of the image's shorter side (paper:
            0.01, 0.05, 0.09).
        charbonnier: Power η of the entropy penalty. With η > 0.5, confident predictions have less weight (paper: 2).
    """

    weight: float = 0.005
    band: float = 0.05
    charbonnier: float = 2.0

    @classmethod
    def from_config(cls, config: TrainConfig, label_space: LabelSpace) -> FDA:
        """Builds the method with the settings of a run."""
        a, start = config.adaptation, config.start_step
        return cls(*supervised_losses(config), weight=a.entropy_weight, start_step=start, band=a.fda_band)

    def segmenter_step(
        self, student: Student, teacher: ICCLD, discriminator: nn.Module | None, batch: Batch, step: int
    ) -> StepResult:
        """Replaces low-frequency amplitudes of source images by those of target images, then computes the losses."""
        if batch.target_images is not None:
            restyled = transfer_low_frequencies(batch.images, batch.target_images, self.band)
            batch = replace(batch, images=restyled)
        return super().segmenter_step(student, teacher, discriminator, batch, step)

    def predictions(self, output: TrainingOutput, batch: Batch) -> Float[Tensor, "n k h2 w2"]:
        """Returns the class probabilities whose entropy is minimized, at the decoder's stride."""
        return output.logits.softmax(dim=1)

    def penalty(self, classes: Float[Tensor, "n k h w"]) -> Float[Tensor, ""]:
        """Returns the mean Charbonnier penalty of the entropy of target predictions."""
        return entropy_loss(classes, self.charbonnier)


def entropy_loss(probabilities: Float[Tensor, "b k h w"], charbonnier: float = 0.0) -> Float[Tensor, ""]:
    """Returns the mean entropy of all pixels, divided by log k (Vu et al. 2019). The result is from 0 to 1.

    Args:
        probabilities: Class probabilities.
        charbonnier: Power η. If η > 0, the result is the mean of (H² + 10⁻⁸)^η instead, where H is the entropy of
            a pixel divided by log k (Yang & Soatto 2020). The constant 10⁻⁸ is from the authors' code. The paper uses
            0.001² instead.
    """
    entropy = self_information(probabilities).sum(dim=1)
    return ((entropy.square() + 1e-8) ** charbonnier if charbonnier > 0 else entropy).mean()


def transfer_low_frequencies(
    images: Float[Tensor, "b 3 h w"], styles: Float[Tensor, "b 3 h w"], band: float
) -> Float[Tensor, "b 3 h w"]:
    """Replaces the low-frequency amplitudes of images by those of style images, and keeps the phases (FDA).

    Source: Yang & Soatto 2020. As in the published code, values outside [0, 1] are not clipped, because clipping would
    change amplitudes and phases again.

    Args:
        images: RGB images in [0, 1].
        styles: Style images of the same size, one per image.
        band: Half side of the square of low frequencies, as a fraction of the shorter image side.
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
