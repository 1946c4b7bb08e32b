"""One training step: updates of the segmenter, the EMA teacher and the discriminator (if the method has one)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from iccld.adaptation.losses import DomainMaps, StepResult
from iccld.adaptation.method import Batch, Method
from iccld.config import OptimConfig, TrainConfig
from iccld.models.iccld import ICCLD
from iccld.training.checkpoint import Part

Item = tuple[dict[str, Any], dict[str, Any] | None]
"""Loader output for one micro-batch: labeled images, and target images (``None`` if the method uses no target)."""


class FiniteCheck(NamedTuple):
    """Loss or gradient norm that must be finite.

    ``what`` is the name of the value, ``step`` is the training step counted from 1, and ``names`` are the image names.
    ``terms`` are the weighted losses of which a loss is the sum.
    """

    step: int
    what: str
    value: Tensor  # on the device, because reading the value would synchronize the GPU
    names: list[str]
    terms: Mapping[str, Tensor]

    def describe(self) -> str:
        """Returns the value in words, with the first weighted loss that is not finite."""
        bad = next((name for name, term in self.terms.items() if not term.isfinite().all()), None)
        of_term = "" if bad is None else f" (its term {bad} is {float(self.terms[bad])})"
        return f"the {self.what} of step {self.step} is {float(self.value)}{of_term}"


class Update:
    """Networks and optimizers of a run. A call trains the networks for one step.

    A call never synchronizes the GPU: metrics are returned as device tensors, and ``first_failure`` checks afterwards
    whether losses and gradients were finite. Arguments are those of ``Trainer``. ``teacher_model`` is the EMA teacher,
    which a run saves and evaluates. ``parts`` are the networks and optimizers by their names in checkpoints.
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
        # The model is moved to its device before a checkpoint is loaded, because the state of an optimizer is loaded
        # to the device of the weights.
        self.model = model.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = teacher_average(config.adaptation.teacher_decay)
        self.teacher: AveragedModel = AveragedModel(self.model, multi_avg_fn=average)
        self.teacher.requires_grad_(False).eval().to(fabric.device)
        self.teacher.n_averaged = self.teacher.n_averaged.cpu()  # on the CPU, because every update reads it
        assert isinstance(self.teacher.module, ICCLD)
        self.teacher_model = self.teacher.module
        self.discriminator = discriminator.to(fabric.device) if discriminator is not None else None
        self.optimizer = build_segmenter_optimizer(self.model, config.optim)
        self.discriminator_optimizer: torch.optim.AdamW | None = None
        self.parts: dict[str, Part] = {}
        self.parts |= {"student": self.model, "teacher": self.teacher, "optimizer": self.optimizer}
        if self.discriminator is not None and method.adversary is not None:
            rate, betas = config.adaptation.discriminator_lr, method.adversary.betas
            self.discriminator_optimizer = build_discriminator_optimizer(self.discriminator, rate, betas)
            self.parts["discriminator"] = self.discriminator
            self.parts["discriminator_optimizer"] = self.discriminator_optimizer
        self._checks: list[FiniteCheck] = []
        self._wrapped: list[Any] = []

    def set_up(self) -> None:
        """Sets up networks and optimizers with Fabric.

        This method must be called once, after a checkpoint is loaded and before the first update.
        """
        self._wrapped = [*self.fabric.setup(self.model, self.optimizer)]
        if self.discriminator is not None and self.discriminator_optimizer is not None:
            self._wrapped += self.fabric.setup(self.discriminator, self.discriminator_optimizer)
        self.model.train()

    def __call__(self, step: int, items: Sequence[Item]) -> dict[str, Tensor]:
        """Updates segmenter, discriminator and teacher with the micro-batches of a step. ``step`` is counted from 0.

        Returns metrics by name as device tensors. Each metric is averaged over the micro-batches that have this metric.
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
            is_last = micro + 1 == len(items)
            networks = student, self.teacher_model, self.discriminator
            with self.fabric.no_backward_sync(student, enabled=not is_last), self.fabric.autocast():
                result = self.method.segmenter_step(*networks, batch, step)
            loss = result.loss
            terms = {name: term.detach() for name, term in result.terms.items()}
            self._checks.append(FiniteCheck(step + 1, "loss", loss.detach(), names, terms))
            own = result.logs | {"train/loss": loss.detach()}
            if (step + 1) % config.log_every == 0:
                own |= self._gradient_shares(result)
            for name, value in own.items():
                metrics.setdefault(name, []).append(value)
            with self.fabric.no_backward_sync(student, enabled=not is_last):
                self.fabric.backward(loss / len(items))
            if result.domain_maps is not None:
                collected.append(result.domain_maps)
        clip = config.optim.grad_clip
        norm = self.fabric.clip_gradients(student, optimizer, max_norm=clip, error_if_nonfinite=False)
        assert norm is not None
        self._checks.append(FiniteCheck(step + 1, "gradient", norm.detach(), names, {}))
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
        """Checks the losses and gradient norms since the last call, and returns the first that is not finite.

        Returns ``None`` if all are finite. This method synchronizes the GPU.
        """
        checks, self._checks = self._checks, []
        if not checks:
            return None
        finite = torch.stack([check.value.float() for check in checks]).isfinite().tolist()
        return next((check for check, good in zip(checks, finite, strict=True) if not good), None)

    def _gradient_shares(self, result: StepResult) -> dict[str, Tensor]:
        """Returns the norm of each loss's gradient at the denoised latents, divided by the sum of these norms.

        Losses that do not depend on these latents, such as reconstruction, are left out. The backward passes end at
        the latents and are therefore cheap.
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
        """Copies a micro-batch to the device, and scales pixel values to [0, 1]."""

        def image(item: dict[str, Any]) -> Tensor:
            pixels: Tensor = self.fabric.to_device(item["image"])
            return pixels.float().div(255).contiguous(memory_format=torch.channels_last)

        label, valid = (self.fabric.to_device(labeled[key]) for key in ("label", "valid"))
        num_target = int(labeled["is_target"].sum()) if "is_target" in labeled else 0
        batch = Batch(image(labeled), label, valid=valid, num_target_labeled=num_target)
        if target is not None:
            batch.target_images, batch.target_valid = image(target), self.fabric.to_device(target["valid"])
        return batch


def _join(collected: Sequence[DomainMaps]) -> DomainMaps:
    """Concatenates the discriminator inputs of several micro-batches, ordered by domain."""
    if len(collected) == 1:
        return collected[0]

    def join(parts: list[Tensor]) -> Tensor:
        split = [part.split(list(c.counts)) for part, c in zip(parts, collected, strict=True)]
        return torch.cat([rows for domain in zip(*split, strict=True) for rows in domain])

    source, mixed, target = (sum(counts) for counts in zip(*(c.counts for c in collected), strict=True))
    maps, times = join([c.maps for c in collected]), join([c.times for c in collected])
    return DomainMaps(maps, times, (source, mixed, target))


def build_segmenter_optimizer(model: ICCLD, config: OptimConfig) -> torch.optim.AdamW:
    """Builds AdamW with separate learning rates for the backbone and the rest of the model.

    Biases and normalization parameters have no weight decay.
    """
    backbone = {id(p) for p in model.image_coder.parameters()}
    groups = []
    for is_backbone, rate in ((True, config.backbone_lr), (False, config.head_lr)):
        own = [p for p in model.parameters() if (id(p) in backbone) == is_backbone and p.requires_grad]
        for decays in (True, False):
            members = [p for p in own if (p.ndim > 1) == decays]
            decay = config.weight_decay if decays else 0.0
            groups.append({"params": members, "lr": rate, "peak_lr": rate, "weight_decay": decay})
    return torch.optim.AdamW([g for g in groups if g["params"]])


def build_discriminator_optimizer(
    discriminator: nn.Module, rate: float, betas: tuple[float, float] = (0.5, 0.99)
) -> torch.optim.AdamW:
    """Builds the optimizer of the discriminator: AdamW without weight decay, which equals Adam."""
    group = {"params": discriminator.parameters(), "peak_lr": rate}
    return torch.optim.AdamW([group], lr=rate, betas=betas, weight_decay=0.0)


def derive_seed(*parts: int) -> int:
    """Returns a seed for torch that depends only on the given numbers, such as step and rank."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:7], "big")


def teacher_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Returns the ``multi_avg_fn`` of torch's ``AveragedModel`` for the moving average of the student's weights.

    At the n-th update, the decay is min(1 − 1/n, ``decay``), as in DACS (Tranheden et al. 2021). The first averages are
    therefore plain means, in which the initial weights do not dominate.
    """

    def update(averaged: Any, current: Any, num_averaged: Any) -> None:
        now = min(1 - 1 / (float(num_averaged) + 1), decay)
        get_ema_multi_avg_fn(now)(averaged, current, num_averaged)

    return update


def rate_factor(step: int, num_steps: int, warmup_steps: int, power: float) -> float:
    """Returns the factor of the learning rate: linear warm-up times polynomial decay. ``step`` is counted from 0."""
    warmup = min(1.0, (step + 1) / max(1, warmup_steps))
    return warmup * max(0.0, 1 - step / num_steps) ** power


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Sets the learning rate of every parameter group to ``factor`` times the peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
