"""One update: segmenter, EMA teacher and, where there is one, discriminator, from one step's micro-batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from iccld.adaptation.losses import DomainMaps, StepResult
from iccld.adaptation.method import Batch, Method
from iccld.config import TrainConfig
from iccld.models.iccld import ICCLD
from iccld.training.optimization import build_discriminator_optimizer, build_segmenter_optimizer

Item = tuple[dict[str, Any], dict[str, Any] | None]
"""What the loaders give for one micro-batch: labeled images, and unlabeled target images where they are used."""


@dataclass(frozen=True)
class FiniteCheck:
    """A loss or gradient norm that has to be finite, as a device tensor; reading it would synchronize the GPU.

    Attributes:
        step: number of the step, from 1.
        what: ``loss`` or ``gradient``.
        value: the scalar.
        names: of the images in the micro-batch.
    """

    step: int
    what: str
    value: Tensor
    names: list[str]


class Update:
    """The networks and optimizers of a run, and their update at every step.

    A call never synchronizes the GPU: metrics are device tensors, and ``first_failure`` checks later whether losses and
    gradients were finite.

    Args:
        config: the run's settings.
        fabric: launched.
        model: the student; the teacher starts as its copy.
        discriminator: None where the method has none.
        method: computes the losses.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        fabric: Fabric,
        model: ICCLD,
        discriminator: nn.Module | None,
        method: Method,
    ) -> None:
        self.config, self.fabric, self.method = config, fabric, method
        # On the device before a checkpoint is loaded: an optimizer's state is loaded to the device of its weights.
        self.model = model.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = teacher_average(config.adaptation.teacher_decay)
        self.teacher: AveragedModel = AveragedModel(self.model, multi_avg_fn=average)
        self.teacher.requires_grad_(False).eval().to(fabric.device)
        self.teacher.n_averaged = self.teacher.n_averaged.cpu()  # read in every update
        self.discriminator = discriminator.to(fabric.device) if discriminator is not None else None
        self.optimizer = build_segmenter_optimizer(self.model, config.optim)
        self.discriminator_optimizer: torch.optim.AdamW | None = None
        if self.discriminator is not None and method.adversary is not None:
            self.discriminator_optimizer = build_discriminator_optimizer(
                self.discriminator, config.adaptation.discriminator_lr, method.adversary.betas
            )
        self._checks: list[FiniteCheck] = []
        self._wrapped: list[Any] = []

    @property
    def teacher_model(self) -> ICCLD:
        """The EMA teacher, which a run saves and evaluates."""
        teacher = self.teacher.module
        assert isinstance(teacher, ICCLD)
        return teacher

    def set_up(self) -> None:
        """Hands networks and optimizers to Fabric; once, after a checkpoint was loaded and before the first call."""
        self._wrapped = [*self.fabric.setup(self.model, self.optimizer)]
        if self.discriminator is not None and self.discriminator_optimizer is not None:
            self._wrapped += self.fabric.setup(self.discriminator, self.discriminator_optimizer)
        self.model.train()

    def __call__(self, step: int, items: Sequence[Item]) -> dict[str, Tensor]:
        """Updates segmenter, discriminator and teacher.

        Args:
            step: steps done before this one.
            items: the step's micro-batches.

        Returns:
            Metrics as device tensors, each the mean over the micro-batches that have it.
        """
        config = self.config
        student, optimizer = self._wrapped[:2]
        factor = rate_factor(step, config.steps, config.optim.warmup_steps, config.optim.poly_power)
        set_rate(self.optimizer, factor)
        collected: list[DomainMaps] = []
        metrics: dict[str, list[Tensor]] = {}
        for micro, (labeled, target) in enumerate(items):
            torch.manual_seed(derive_seed(config.seed, step, micro, self.fabric.global_rank))
            batch = self.to_device(labeled, target)
            names = [*labeled["name"], *(target["name"] if target else [])]
            with (
                self.fabric.no_backward_sync(student, enabled=micro + 1 < len(items)),
                self.fabric.autocast(),
            ):
                result = self.method.segmenter_step(
                    student, self.teacher_model, self.discriminator, batch, step
                )
            loss = result.loss
            self._checks.append(FiniteCheck(step + 1, "loss", loss.detach(), names))
            own = result.logs | {"train/loss": loss.detach()}
            if (step + 1) % config.log_every == 0:
                own |= self._gradient_shares(result)
            for name, value in own.items():
                metrics.setdefault(name, []).append(value)
            with self.fabric.no_backward_sync(student, enabled=micro + 1 < len(items)):
                self.fabric.backward(loss / len(items))
            if result.domain_maps is not None:
                collected.append(result.domain_maps)
        norm = self.fabric.clip_gradients(
            student, optimizer, max_norm=config.optim.grad_clip, error_if_nonfinite=False
        )
        assert norm is not None
        self._checks.append(FiniteCheck(step + 1, "gradient", norm.detach(), names))
        optimizer.step()
        optimizer.zero_grad()
        logs = {name: torch.stack(values).mean() for name, values in metrics.items()}
        if collected:
            logs |= self._update_discriminator(collected, factor)
        self.teacher.update_parameters(self.model)
        return logs

    def _update_discriminator(self, collected: list[DomainMaps], factor: float) -> dict[str, Tensor]:
        assert self.method.adversary is not None
        assert self.discriminator_optimizer is not None
        discriminator, optimizer = self._wrapped[2:]
        set_rate(self.discriminator_optimizer, factor)
        with self.fabric.autocast():
            loss, logs = self.method.adversary.discriminator_loss(discriminator, _join(collected))
        self.fabric.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        return logs

    def first_failure(self) -> FiniteCheck | None:
        """The first loss or gradient norm since the last call that is not finite; synchronizes the GPU."""
        checks, self._checks = self._checks, []
        if not checks:
            return None
        finite = torch.stack([check.value.float() for check in checks]).isfinite().tolist()
        return next((check for check, good in zip(checks, finite, strict=True) if not good), None)

    def _gradient_shares(self, result: StepResult) -> dict[str, Tensor]:
        """Each loss's share of the sum of gradient norms at the denoised latents.

        All losses but reconstruction have a gradient there, and it costs passes through the decoder alone.
        """
        denoised, norms = result.denoised, {}
        if denoised is None:
            return {}
        for name, term in result.terms.items():
            self.fabric.backward(term, inputs=[denoised], retain_graph=True)
            if denoised.grad is not None:
                norms[name], denoised.grad = denoised.grad.float().norm(), None
        total = torch.stack(list(norms.values())).sum().clamp_min(1e-12)
        return {f"train/gradient_share_{name}": norm / total for name, norm in norms.items()}

    def to_device(self, labeled: dict[str, Any], target: dict[str, Any] | None) -> Batch:
        """Brings a micro-batch to the device, images in [0, 1]."""

        def image(item: dict[str, Any]) -> Tensor:
            pixels: Tensor = self.fabric.to_device(item["image"])
            return pixels.float().div(255).contiguous(memory_format=torch.channels_last)

        label, valid = (self.fabric.to_device(labeled[key]) for key in ("label", "valid"))
        batch = Batch(image(labeled), label, valid=valid)
        if target is not None:
            batch.target_images = image(target)
            batch.target_valid = self.fabric.to_device(target["valid"])
        return batch


def _join(collected: Sequence[DomainMaps]) -> DomainMaps:
    """The maps of several micro-batches as those of one."""
    if len(collected) == 1:
        return collected[0]
    maps, times = (
        torch.cat([rows for domain in zip(*split, strict=True) for rows in domain])
        for split in (
            [c.maps.split(list(c.counts)) for c in collected],
            [c.times.split(list(c.counts)) for c in collected],
        )
    )
    source, mixed, target = (sum(c.counts[domain] for c in collected) for domain in range(3))
    return DomainMaps(maps, times, (source, mixed, target))


def derive_seed(*parts: int) -> int:
    """A seed for torch that depends on every part and on nothing else."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:7], "big")


def teacher_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """The teacher's weights: the exponential moving average of the student's.

    After n updates of the student the decay is min(1 − 1/n, ``decay``), as in DACS (Tranheden et al. 2021): the plain
    mean until the average is as long as it is to be. Otherwise the first weights would count for most.

    Args:
        decay: in [0, 1).

    Returns:
        The ``multi_avg_fn`` of torch's ``AveragedModel``, which copies the weights after the first update.
    """

    def update(averaged: Any, current: Any, num_averaged: Any) -> None:
        now = min(1 - 1 / (float(num_averaged) + 1), decay)
        get_ema_multi_avg_fn(now)(averaged, current, num_averaged)

    return update


def rate_factor(step: int, num_steps: int, warmup_steps: int, power: float) -> float:
    """Linear warm-up, then polynomial decay to zero at the end.

    Args:
        step: steps done before this one, from 0.
        num_steps: of the whole run.
        warmup_steps: length of the warm-up.
        power: of the decay.
    """
    warmup = min(1.0, (step + 1) / max(1, warmup_steps))
    return warmup * max(0.0, 1 - step / num_steps) ** power


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Sets every group's rate to ``factor`` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
