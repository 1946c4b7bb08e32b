"""Source only: supervised training without any adaptation, the baseline that adaptation has to beat."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from iccld.adaptation.losses import Adversary, StepResult, SupervisedLoss
from iccld.adaptation.method import Batch, Student
from iccld.models.iccld import ICCLD, TimeSampling


@dataclass(frozen=True)
class SourceOnly:
    """Equation 8 on the labeled domain.

    Attributes:
        supervised: the loss.
        time_sampling: how diffusion times are drawn.
        labeled_domain: whose labels are trained on.
    """

    supervised: SupervisedLoss = field(default_factory=SupervisedLoss)
    time_sampling: TimeSampling = field(default_factory=TimeSampling)
    labeled_domain: str = "source"
    uses_target: bool = False
    adversary: Adversary | None = None

    def segmenter_step(
        self, student: Student, teacher: ICCLD, discriminator: nn.Module | None, batch: Batch, step: int
    ) -> StepResult:
        """Computes the supervised loss of one micro-batch."""
        times, aligned = self.time_sampling(len(batch.images))
        output = student(
            batch.images, batch.labels, times, aligned, label_coder=self.supervised.needs_label_coder
        )
        terms, logs = self.supervised(output, batch.labels, slice(None), self.labeled_domain)
        return StepResult(terms, logs, denoised=output.denoised)
