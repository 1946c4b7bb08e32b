"""ICCLD: source, mixed and target branches with adversarial alignment of the denoised latents."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from iccld.adaptation.losses import Adversary, DomainMaps, StepResult, SupervisedLoss
from iccld.adaptation.method import Batch, Student
from iccld.adaptation.mixing import transfer_class_color, transfer_color
from iccld.adaptation.self_training import LabeledImages, SelfTraining, supervised_terms
from iccld.labels import IGNORE
from iccld.models.iccld import ICCLD, TimeSampling


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
        begun = step >= self.self_training.start_step and batch.target_images is not None
        taught = None
        if begun and (self.self_training.mixing != "none" or self.masked):
            taught = self.self_training.teach(teacher, batch)
        batch = self._recolor(batch, taught, teacher.num_classes)
        branches = [LabeledImages("source", batch.images, batch.labels)]
        if taught is not None:
            if self.self_training.mixing != "none":
                branches.append(self.self_training.mix(batch, taught))
            if self.masked:
                branches.append(self.self_training.mask(taught))
        images, labels = [branch.images for branch in branches], [branch.labels for branch in branches]
        aligning = begun and self.adversary is not None and discriminator is not None
        if aligning and batch.target_images is not None:
            # Half of them, rounded up, serve the discriminator as well for half of the price (docs/log.md).
            images.append(batch.target_images[: (len(batch.target_images) + 1) // 2])

        times, aligned = self.time_sampling(sum(map(len, images)))
        coder = self.supervised.needs_label_coder
        # The label coder learns labels, not images: those of the source are enough.
        output = student(
            torch.cat(images),
            torch.cat(labels),
            times,
            aligned,
            label_coder=coder,
            num_reconstructed=len(batch.images),
        )
        terms, logs = supervised_terms(self.supervised, output, branches)
        if not aligning or self.adversary is None or discriminator is None:
            return StepResult(terms, logs, denoised=output.denoised)

        num_source, num_target = len(images[0]), len(images[-1])
        num_mixed = len(output.denoised) - num_source - num_target
        maps = (output.denoised if self.adversary.input == "latents" else output.features).float()
        seen = DomainMaps(maps, output.times, (num_source, num_mixed, num_target))
        if self.num_domains == 2:
            maps, times = (torch.cat([x[:num_source], x[-num_target:]]) for x in (maps, output.times))
            seen = DomainMaps(maps, times, (num_source, 0, num_target))
        terms["adversarial"], more_logs, seen = self.adversary.segmenter_loss(discriminator, seen, step)
        latents = output.denoised.detach()
        logs["train/latent_distance"] = sliced_wasserstein(latents[:num_source], latents[-num_target:])
        return StepResult(terms, logs | more_logs, seen, output.denoised)

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


@torch.no_grad()
def sliced_wasserstein(
    first: Float[Tensor, "n d h w"], second: Float[Tensor, "m d h2 w2"], num_projections: int = 32
) -> Float[Tensor, ""]:
    """Sliced Wasserstein-1 distance between the cells of two sets of latents (Rabin et al. 2011).

    Every cell is a point in d dimensions. Points are projected on fixed random directions, where the distance
    between two distributions is the mean distance of equal quantiles; the mean over directions is returned. In the
    units of the latents, whose cells have a root mean square of about 1 per channel.

    Args:
        first: latents of one domain.
        second: latents of the other.
        num_projections: directions; always the same ones, so that figures compare and no random state moves.
    """
    d = first.shape[1]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(d, num_projections, generator=generator)
    directions = torch.nn.functional.normalize(drawn, dim=0).to(first.device, non_blocking=first.is_cuda)
    with torch.autocast(first.device.type, enabled=False):
        points = [x.float().movedim(1, -1).reshape(-1, d) @ directions for x in (first, second)]
    sorted_points = [p.sort(dim=0).values for p in points]
    num = min(len(p) for p in sorted_points)
    # Quantiles at the middle of equal shares; where one set is larger, its nearest points stand for them.
    middles = (torch.arange(num, device=first.device) + 0.5) / num
    quantiles = [p[(middles * len(p)).long()] for p in sorted_points]
    return (quantiles[0] - quantiles[1]).abs().mean()
