"""ICCLD: source, mixed and target branches with adversarial alignment of the denoised latents."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import nn

from iccld.adaptation.adversary import MIXED, SOURCE, TARGET, Adversary, DomainMaps, select
from iccld.adaptation.method import Batch, StepResult, Student, SupervisedLoss, TimeSampling
from iccld.adaptation.self_training import LabeledImages, SelfTraining, supervised_terms
from iccld.color_transfer import transfer_class_color, transfer_color
from iccld.labels import IGNORE
from iccld.latent_distance import sliced_wasserstein
from iccld.models.iccld import ICCLD


@dataclass(frozen=True)
class Adaptation:
    """Inter-Coder Connected Latent Diffusion (Yu et al., arXiv 2412.16859), as docs/method.md reads it.

    Attributes:
        supervised: the loss of labeled, mixed and masked images.
        time_sampling: how diffusion times are drawn.
        self_training: teacher and mixing.
        masked: train on masked target images too (from MIC).
        color_transfer: share of source images that take colors of target images.
        class_color_transfer: share of source images whose classes then take the colors that the teacher's labels
            give these classes in a target image.
        adversary: None removes the target branch.
        num_domains: 3, or 2 to keep mixed images from the adversary.
    """

    supervised: SupervisedLoss = field(default_factory=SupervisedLoss)
    time_sampling: TimeSampling = field(default_factory=TimeSampling)
    self_training: SelfTraining = field(default_factory=lambda: SelfTraining(teacher_steps=2))
    masked: bool = False
    color_transfer: float = 1.0
    class_color_transfer: float = 0.0
    adversary: Adversary | None = field(default_factory=Adversary)
    num_domains: int = 3
    labeled_domain: str = "source"
    uses_target: bool = True

    def segmenter_step(
        self, student: Student, teacher: ICCLD, discriminator: nn.Module | None, batch: Batch, step: int
    ) -> StepResult:
        """Computes the losses of all branches from one pass of the student over all images."""
        begun = self.self_training.begun(step) and batch.target_images is not None
        taught = None
        if begun and (self.self_training.mixing != "none" or self.masked):
            taught = self.self_training.teach(teacher, batch)
        batch = self._recolor(batch, taught, len(teacher.label_space))
        branches = [LabeledImages("source", batch.images, batch.labels)]
        if taught is not None:
            if self.self_training.mixing != "none":
                branches.append(self.self_training.mix(batch, taught))
            if self.masked:
                branches.append(self.self_training.mask(taught))
        images = [branch.images for branch in branches]
        domains = [MIXED] * sum(map(len, images))
        domains[: len(batch.images)] = [SOURCE] * len(batch.images)
        aligning = begun and self.adversary is not None and discriminator is not None
        if aligning and batch.target_images is not None:
            # Half of them, rounded up, serve the discriminator as well for half of the price (docs/log.md).
            seen_targets = batch.target_images[: (len(batch.target_images) + 1) // 2]
            images.append(seen_targets)
            domains += [TARGET] * len(seen_targets)
        all_images, labels = torch.cat(images), torch.cat([branch.labels for branch in branches])
        times, aligned = self.time_sampling(len(all_images))
        coder = self.supervised.needs_label_coder
        # The label coder learns labels, not images: those of the source are enough.
        output = student(
            all_images, labels, times, aligned, label_coder=coder, num_reconstructed=len(batch.images)
        )
        terms, logs = supervised_terms(self.supervised, output, branches)
        if not aligning or self.adversary is None or discriminator is None:
            return StepResult(terms, logs, denoised=output.denoised)

        domain_ids = torch.tensor(domains)
        maps = output.denoised if self.adversary.input == "latents" else output.features
        seen = DomainMaps(maps.float(), output.times, domain_ids)
        if self.num_domains == 2:
            seen = seen.take(domain_ids != MIXED)
        terms["adversarial"], adversary_logs = self.adversary.fool(discriminator, seen, step)
        source, target = (select(output.denoised.detach(), domain_ids == d) for d in (SOURCE, TARGET))
        logs["train/latent_distance"] = sliced_wasserstein(source, target)
        return StepResult(terms, logs | adversary_logs, seen.detach(), output.denoised)

    def _recolor(self, batch: Batch, taught: LabeledImages | None, num_classes: int) -> Batch:
        if batch.target_images is None:
            return batch
        images = batch.images
        if self.color_transfer > 0:
            images = transfer_color(
                images,
                batch.target_images,
                self.color_transfer,
                valid=batch.valid,
                styles_valid=batch.target_valid,
            )
        if taught is not None and taught.weights is not None and self.class_color_transfer > 0:
            sure = taught.labels.where(taught.weights > 0, IGNORE)
            images = transfer_class_color(
                images, batch.labels, taught.images, sure, num_classes, self.class_color_transfer
            )
        return replace(batch, images=images)
