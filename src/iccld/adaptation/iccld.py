"""ICCLD: source, mixed and target branches with adversarial alignment of the denoised latents."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from iccld.adaptation.method import (
    Batch,
    DomainLatents,
    StepResult,
    Student,
    SupervisedLoss,
    TimeSampling,
)
from iccld.losses import domain_loss
from iccld.mixing import class_mix_mask, color_jitter, gaussian_blur, paste, transfer_color
from iccld.models.discriminator import DOMAINS
from iccld.models.iccld import ICCLD
from iccld.models.layers import upsample_to
from iccld.pseudo_labels import PseudoLabels

_SOURCE, _MIXED, _TARGET = range(3)


@dataclass(frozen=True)
class Adaptation:
    """Inter-Coder Connected Latent Diffusion (Yu et al., arXiv 2412.16859), as docs/method.md reads it.

    Attributes:
        supervised: the loss of labeled and mixed images.
        time_sampling: how diffusion times are drawn.
        start_step: steps on source alone before the other branches begin.
        teacher_steps: sampling steps of the teacher.
        pseudo_labels: how the teacher's answers become labels and weights.
        mixed: train on ClassMix images.
        jitter: strength of their color augmentation.
        color_transfer: share of source images that take colors of target images.
        adversarial_weight: of the adversary; 0 removes the target branch.
        adversarial_warmup: steps over which that weight rises linearly.
    """

    supervised: SupervisedLoss = field(default_factory=SupervisedLoss)
    time_sampling: TimeSampling = field(default_factory=TimeSampling)
    start_step: int = 300
    teacher_steps: int = 2
    pseudo_labels: PseudoLabels = field(default_factory=PseudoLabels)
    mixed: bool = True
    jitter: float = 0.4
    color_transfer: float = 1.0
    adversarial_weight: float = 0.02
    adversarial_warmup: int = 300
    labeled_domain: str = "source"
    uses_target: bool = True

    @property
    def uses_discriminator(self) -> bool:
        """Whether there is an adversary."""
        return self.adversarial_weight > 0

    def segmenter_step(
        self, student: Student, teacher: ICCLD, discriminator: nn.Module | None, batch: Batch, step: int
    ) -> StepResult:
        """Computes the loss of all branches from one pass of the student over all images."""
        if self.color_transfer > 0 and batch.target_images is not None:
            recolored = transfer_color(batch.images, batch.target_images, self.color_transfer)
            batch = replace(batch, images=recolored)
        images, labels, domains = [batch.images], [batch.labels], [_SOURCE] * len(batch.images)
        weights = None
        if step >= self.start_step and batch.target_images is not None:
            if self.mixed:
                mixed_images, mixed_labels, weights = self._mix(teacher, batch)
                images.append(mixed_images)
                labels.append(mixed_labels)
                domains += [_MIXED] * len(mixed_images)
            if discriminator is not None:
                images.append(batch.target_images)
                domains += [_TARGET] * len(batch.target_images)
        all_images = torch.cat(images)
        times, aligned = self.time_sampling(len(all_images), all_images.device)
        output = student(all_images, torch.cat(labels), times, aligned)

        num_source = len(batch.images)
        loss, logs = self.supervised(output, batch.labels, slice(num_source), "source")
        if weights is not None:
            rows = slice(num_source, 2 * num_source)
            mixed_loss, mixed_logs = self.supervised(output, labels[1], rows, "mixed", weights)
            loss = loss + mixed_loss
            logs |= mixed_logs | {"train/pseudo_label_weight": weights.mean()}
        if discriminator is None or len(all_images) == num_source:
            return StepResult(loss, logs)
        domain_ids = torch.tensor(domains, device=all_images.device)
        latents = DomainLatents(output.denoised, times, domain_ids)
        adversarial = self._fooling_loss(discriminator, latents)
        ramp = min(1.0, (step - self.start_step + 1) / max(1, self.adversarial_warmup))
        loss = loss + self.adversarial_weight * ramp * adversarial
        logs["train/loss_adversarial"] = adversarial.detach()
        return StepResult(loss, logs, DomainLatents(output.denoised.detach(), times, domain_ids))

    def discriminator_step(
        self, discriminator: nn.Module, latents: DomainLatents
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Equation 9: the discriminator learns to name the domain of every patch."""
        logits = discriminator(latents.latents, latents.times)
        loss = domain_loss(logits, latents.domains)
        hits = (logits.detach().argmax(dim=1) == latents.domains.view(-1, 1, 1)).float().mean(dim=(1, 2))
        logs = {"train/loss_discriminator": loss.detach()}
        for index, domain in enumerate(DOMAINS):
            of_domain = hits[latents.domains == index]
            if len(of_domain):
                logs[f"train/discriminator_accuracy_{domain}"] = of_domain.mean()
        return loss, logs

    def _fooling_loss(self, discriminator: nn.Module, latents: DomainLatents) -> Float[Tensor, ""]:
        """Equation 10: mixed and target latents are to pass for source ones."""
        others = latents.domains != _SOURCE
        # The discriminator's own weights take no part: it learns in its own step.
        discriminator.requires_grad_(False)
        logits = discriminator(latents.latents[others], latents.times[others])
        discriminator.requires_grad_(True)
        return domain_loss(logits, torch.full_like(latents.domains[others], _SOURCE))

    def _mix(
        self, teacher: ICCLD, batch: Batch
    ) -> tuple[Float[Tensor, "b 3 h w"], Int[Tensor, "b h w"], Float[Tensor, "b h w"]]:
        """Pastes half of the source classes on the target images and labels the rest by the teacher."""
        assert batch.target_images is not None
        assert batch.target_valid is not None
        target_labels, target_weights = self._teach(teacher, batch.target_images, batch.target_valid)
        mask = class_mix_mask(batch.labels)
        images = paste(mask, batch.images, batch.target_images)
        images = gaussian_blur(color_jitter(images, self.jitter))
        labels = paste(mask, batch.labels, target_labels)
        return images, labels, paste(mask, torch.ones_like(target_weights), target_weights)

    @torch.no_grad()
    def _teach(
        self, teacher: ICCLD, images: Float[Tensor, "b 3 h w"], valid: Bool[Tensor, "b h w"]
    ) -> tuple[Int[Tensor, "b h w"], Float[Tensor, "b h w"]]:
        state = teacher.encode_images(images)
        latent = teacher.sample(state, teacher.draw_noise(state, len(images)), self.teacher_steps)
        probabilities = teacher.decode(latent, state).softmax(dim=1)
        full = upsample_to(probabilities, (images.shape[-2], images.shape[-1]))
        return self.pseudo_labels(full, valid)
