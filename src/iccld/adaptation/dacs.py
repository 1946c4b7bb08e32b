"""DACS: self-training on images that ClassMix combines from source and target images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from iccld.adaptation.losses import StepResult, SupervisedLoss
from iccld.adaptation.method import Batch, Method, Student, supervised_losses
from iccld.adaptation.self_training import LabeledImages, PseudoLabels, SelfTraining, supervised_terms
from iccld.config import TrainConfig
from iccld.labels import LabelSpace
from iccld.models.iccld import ICCLD
from iccld.models.networks import TrainingOutput


def published_self_training(code: Literal["dacs", "daformer"] = "dacs") -> SelfTraining:
    """Returns self-training with the settings in the published code of DACS or DAFormer, without a delayed start."""
    jitter = 0.25 if code == "dacs" else 0.2
    labels = PseudoLabels("batch", threshold=0.968)
    return SelfTraining(start_step=0, pseudo_labels=labels, code=code, jitter=jitter)


@dataclass(frozen=True)
class DACS(Method):
    """Cross-domain mixed sampling (Tranheden et al. 2021, "DACS").

    docs/method.md compares this class with the published code.

    Attributes:
        supervised: Loss of all images with labels or pseudo-labels.
        self_training: Settings for the teacher's pseudo-labels and the mixing of images.
    """

    supervised: SupervisedLoss = field(default_factory=lambda: SupervisedLoss(0, 0))
    uses_target: bool = True
    self_training: SelfTraining = field(default_factory=published_self_training)

    @classmethod
    def from_config(cls, config: TrainConfig, label_space: LabelSpace) -> DACS:
        """Builds the method with the settings of a run."""
        return cls(*supervised_losses(config), self_training=SelfTraining.from_config(config, "dacs"))

    def segmenter_step(
        self, student: Student, teacher: ICCLD, discriminator: nn.Module | None, batch: Batch, step: int
    ) -> StepResult:
        """Computes the losses of all branches in one forward pass of the student."""
        branches = [LabeledImages("source", batch.images, batch.labels)]
        if step >= self.self_training.start_step and batch.target_images is not None:
            branches += self.target_branches(batch, self.self_training.label_target(teacher, batch))
        images = torch.cat([branch.images for branch in branches])
        labels = torch.cat([branch.labels for branch in branches])
        times, aligned = self.time_sampling(len(images))
        output = student(images, labels, times, aligned, label_coder=self.supervised.needs_label_coder)
        terms, logs = supervised_terms(self.supervised, output, branches)
        for name, term in self.extra_terms(output, batch).items():
            terms[name] = term
            logs[f"train/loss_{name}"] = term.detach()
        return StepResult(terms, logs, denoised=output.denoised)

    def target_branches(self, batch: Batch, pseudo_labeled: LabeledImages) -> list[LabeledImages]:
        """Returns the images that are trained with pseudo-labels. Here, these are only the mixed images."""
        return [self.self_training.mix(batch, pseudo_labeled)]

    def extra_terms(self, output: TrainingOutput, batch: Batch) -> dict[str, Tensor]:
        """Returns additional weighted loss terms by name. Here there are none. Subclasses override this method."""
        return {}
