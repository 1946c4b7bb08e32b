"""ICCLD: source, mixed and target branches with adversarial alignment of the denoised latents."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from iccld.adaptation.losses import Adversary, DomainMaps, StepResult
from iccld.adaptation.method import Batch, Method, Student, supervised_losses
from iccld.adaptation.mixing import transfer_class_color, transfer_color
from iccld.adaptation.self_training import LabeledImages, SelfTraining, supervised_terms
from iccld.config import TrainConfig
from iccld.labels import IGNORE, LabelSpace
from iccld.models.iccld import ICCLD


@dataclass(frozen=True)
class Adaptation(Method):
    """Inter-Coder Connected Latent Diffusion (Yu et al., arXiv 2412.16859), as described in docs/method.md.

    Attributes:
        self_training: Settings for the EMA teacher's pseudo-labels, and for mixed and masked images.
        masked: Whether training also uses masked target images, as in MIC.
        color_transfer: Probability that a source image gets the color statistics of a target image.
        class_color_transfer: Probability that a source image gets a second color transfer, class by class. Each class
            gets the color statistics of the pixels with the same pseudo-label in a target image.
        adversary: Adversarial loss. ``None`` removes the target branch.
        num_domains: Number of domains of the adversary: 3, or 2 without the mixed domain.
    """

    self_training: SelfTraining = field(default_factory=lambda: SelfTraining(teacher_steps=2))
    masked: bool = False
    color_transfer: float = 1.0
    class_color_transfer: float = 0.0
    adversary: Adversary | None = field(default_factory=Adversary)
    num_domains: int = 3
    uses_target: bool = True

    @classmethod
    def from_config(cls, config: TrainConfig, label_space: LabelSpace) -> Adaptation:
        """Builds the method with the settings of a run."""
        a = config.adaptation
        return cls(
            *supervised_losses(config),
            self_training=SelfTraining.from_config(config),
            masked=a.masked,
            color_transfer=a.color_transfer,
            class_color_transfer=a.class_color_transfer,
            adversary=Adversary(a.adversarial_input).scheduled(config) if a.adversarial_weight > 0 else None,
            num_domains=a.adversarial_domains,
        )

    def segmenter_step(
        self, student: Student, teacher: ICCLD, discriminator: nn.Module | None, batch: Batch, step: int
    ) -> StepResult:
        """Computes the losses of all branches in one forward pass of the student over all images."""
        adapting = step >= self.self_training.start_step and batch.target_images is not None
        pseudo_labeled = None
        if adapting and (self.self_training.mixing != "none" or self.masked):
            pseudo_labeled = self.self_training.label_target(teacher, batch)
        batch = self._transfer_colors(batch, pseudo_labeled, teacher.num_classes)

        # Labeled branches: source, mixed and masked images.
        branches = [LabeledImages("source", batch.images, batch.labels)]
        if pseudo_labeled is not None:
            if self.self_training.mixing != "none":
                branches.append(self.self_training.mix(batch, pseudo_labeled))
            if self.masked:
                branches.append(self.self_training.mask(pseudo_labeled))
        images, labels = [branch.images for branch in branches], [branch.labels for branch in branches]
        # The target branch has no labels. Half of the target batch is enough for the discriminator (docs/log.md).
        aligning = adapting and self.adversary is not None and discriminator is not None
        if aligning and batch.target_images is not None:
            images.append(batch.target_images[: (len(batch.target_images) + 1) // 2])

        # Equations 1 to 7. The label encoder is trained only by the reconstruction of the source labels.
        times, aligned = self.time_sampling(sum(map(len, images)))
        output = student(
            torch.cat(images),
            torch.cat(labels),
            times,
            aligned,
            label_coder=self.supervised.needs_label_coder,
            num_reconstructed=len(batch.images),
        )
        # Equation 8.
        terms, logs = supervised_terms(self.supervised, output, branches)
        if not aligning or self.adversary is None or discriminator is None:
            return StepResult(terms, logs, denoised=output.denoised)

        # Equation 10. The training loop trains the discriminator on the same maps with equation 9.
        # Labeled target images belong to none of the three branches, so the discriminator does not get them.
        num_source, num_target = len(batch.images) - batch.num_target_labeled, len(images[-1])
        num_mixed = len(output.denoised) - len(batch.images) - num_target
        maps = (output.denoised if self.adversary.input == "latents" else output.features).float()
        maps, times = (_without(x, num_source, batch.num_target_labeled) for x in (maps, output.times))
        domain_maps = DomainMaps(maps, times, (num_source, num_mixed, num_target))
        if self.num_domains == 2:
            maps, times = (torch.cat([x[:num_source], x[-num_target:]]) for x in (maps, times))
            domain_maps = DomainMaps(maps, times, (num_source, 0, num_target))
        terms["adversarial"], more_logs, domain_maps = self.adversary.segmenter_loss(
            discriminator, domain_maps, step
        )
        latents = output.denoised.detach()
        logs["train/latent_distance"] = sliced_wasserstein(latents[:num_source], latents[-num_target:])
        return StepResult(terms, logs | more_logs, domain_maps, output.denoised)

    def _transfer_colors(self, batch: Batch, pseudo_labeled: LabeledImages | None, num_classes: int) -> Batch:
        """Transfers colors from target to source images, first for whole images and then for each class.

        Labeled target images keep their colors.
        """
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
        if (
            pseudo_labeled is not None
            and pseudo_labeled.weights is not None
            and self.class_color_transfer > 0
        ):
            confident = pseudo_labeled.labels.where(pseudo_labeled.weights > 0, IGNORE)
            images = transfer_class_color(
                images, batch.labels, pseudo_labeled.images, confident, num_classes, self.class_color_transfer
            )
        if batch.num_target_labeled:
            num_source = len(images) - batch.num_target_labeled
            images = torch.cat([images[:num_source], batch.images[num_source:]])
        return replace(batch, images=images)


def _without(rows: Tensor, first: int, num: int) -> Tensor:
    """Removes ``num`` rows from ``first`` on."""
    return torch.cat([rows[:first], rows[first + num :]]) if num else rows


@torch.no_grad()
def sliced_wasserstein(
    first: Float[Tensor, "n d h w"], second: Float[Tensor, "m d h2 w2"], num_projections: int = 32
) -> Float[Tensor, ""]:
    """Returns the sliced Wasserstein-1 distance between the cells of two sets of latents (Rabin et al. 2011).

    Every cell is a point in d dimensions. The points are projected on fixed random directions. The distance is the mean
    absolute difference between equal quantiles of the two sets. The unit is that of the latents, whose root mean square
    is about 1.
    """
    d = first.shape[1]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(d, num_projections, generator=generator)
    directions = torch.nn.functional.normalize(drawn, dim=0).to(first.device, non_blocking=first.is_cuda)
    with torch.autocast(first.device.type, enabled=False):
        points = [x.float().movedim(1, -1).reshape(-1, d) @ directions for x in (first, second)]
    sorted_points = [p.sort(dim=0).values for p in points]
    num = min(len(p) for p in sorted_points)
    # Quantiles are compared at the centers of ``num`` equal intervals of [0, 1]. In the larger set, the point nearest
    # to each quantile is used.
    middles = (torch.arange(num, device=first.device) + 0.5) / num
    quantiles = [p[(middles * len(p)).long()] for p in sorted_points]
    return (quantiles[0] - quantiles[1]).abs().mean()
