"""The training loop: one for all methods. It owns steps, teacher, optimizers, checkpoints and signals."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from iccld.adaptation.adversary import DomainMaps
from iccld.adaptation.method import Batch, Method, StepResult
from iccld.config import TrainConfig, to_dict
from iccld.errors import InputError
from iccld.models.iccld import ICCLD
from iccld.training.checkpoint import (
    Checkpoint,
    load_newest,
    pack_module,
    pack_optimizer,
    save_checkpoint,
    unpack_module,
    unpack_optimizer,
)
from iccld.training.interruption import Interruption
from iccld.training.optimization import (
    build_discriminator_optimizer,
    build_segmenter_optimizer,
    rate_factor,
    set_rate,
)
from iccld.training.tracking import MetricsLog, TrainingDisplay

MicroBatches = Callable[[int, int], Iterator[dict[str, Any]]]
"""(first micro-batch, end) → loader items; the same numbers always give the same items."""

Evaluate = Callable[[ICCLD, ICCLD], dict[str, float]]
"""(teacher, student) → figures."""


class TrainingDivergedError(InputError):
    """The loss is no longer a finite number."""


@dataclass
class Loaders:
    """Sources of micro-batches: labeled ones, and unlabeled target ones where the method uses them."""

    labeled: MicroBatches
    target: MicroBatches | None


class Trainer:
    """Trains a model by a method and leaves a run folder that the same call resumes, bit-exactly.

    Args:
        config: the run's settings.
        fabric: launched.
        model: the student; the teacher starts as its copy.
        discriminator: None where the method has none.
        method: computes the losses.
        loaders: give the micro-batches.
        out: the run's folder.
        evaluate: called with teacher and student at ``eval_every`` and at the end; None for data without labels.
        preset: name for messages and ``config.json``.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        fabric: Fabric,
        model: ICCLD,
        discriminator: nn.Module | None,
        method: Method,
        loaders: Loaders,
        out: Path,
        evaluate: Evaluate | None,
        preset: str = "custom",
    ) -> None:
        self.config, self.fabric, self.method, self.loaders = config, fabric, method, loaders
        self.out, self.evaluate, self.preset = out, evaluate, preset
        # On the device from the start: an optimizer's state is loaded to where its weights are.
        self.model = model.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        decay = get_ema_multi_avg_fn(config.adaptation.teacher_decay)
        self.teacher: AveragedModel = AveragedModel(self.model, multi_avg_fn=decay)
        self.teacher.requires_grad_(False).eval().to(fabric.device)
        self.discriminator = discriminator.to(fabric.device) if discriminator is not None else None
        self.optimizer = build_segmenter_optimizer(self.model, config.optim)
        self.discriminator_optimizer = (
            build_discriminator_optimizer(self.discriminator, config.adaptation.discriminator_lr)
            if self.discriminator is not None
            else None
        )
        self.step = 0
        self.pending: dict[str, list[Tensor]] = {}  # figures since the last row of metrics.csv

    @property
    def teacher_model(self) -> ICCLD:
        """The EMA teacher: what a run is for."""
        teacher = self.teacher.module
        assert isinstance(teacher, ICCLD)
        return teacher

    def resume(self) -> int:
        """Loads the newest whole checkpoint, if any, and returns the step to go on from."""
        checkpoint = load_newest(self.out / "checkpoints")
        if checkpoint is not None:
            self._restore(checkpoint)
        return self.step

    def run(self) -> Literal["finished", "interrupted"]:
        """Trains from the current step to the end.

        Raises:
            TrainingDivergedError: a loss is not finite; the last checkpoint stays.
        """
        config = self.config
        end = min(config.steps, config.stop_at or config.steps)
        student, optimizer = self.fabric.setup(self.model, self.optimizer)
        discriminator: Any = None
        discriminator_optimizer: Any = None
        if self.discriminator is not None and self.discriminator_optimizer is not None:
            discriminator, discriminator_optimizer = self.fabric.setup(
                self.discriminator, self.discriminator_optimizer
            )
        log = MetricsLog(self.out / "metrics.csv", resume_step=self.step)
        display = TrainingDisplay(config.method, self.step, end, enabled=self.fabric.is_global_zero)
        self.model.train()
        last_logged, last_time = self.step, time.monotonic()
        with Interruption() as interruption, display:
            batches = self._batches(self.step, end)
            for step in range(self.step, end):
                factor = rate_factor(step, config.steps, config.optim.warmup_steps, config.optim.poly_power)
                set_rate(self.optimizer, factor)
                logs = self._train_step(
                    step, batches, student, optimizer, discriminator, discriminator_optimizer, factor
                )
                self.teacher.update_parameters(self.model)
                self.step = step + 1
                for name, value in logs.items():
                    self.pending.setdefault(name, []).append(value.cpu())
                if self.step % config.log_every == 0 or self.step == config.steps:
                    figures = {k: float(torch.stack(v).mean()) for k, v in self.pending.items()}
                    pace = (time.monotonic() - last_time) / (self.step - last_logged)
                    last_logged, last_time, self.pending = self.step, time.monotonic(), {}
                    figures |= {"train/learning_rate_factor": factor, "train/seconds_per_step": pace}
                    self._log(log, figures)
                display.show(self.step, {"train/loss": float(logs["train/loss"])})
                stopping = self._any_rank(interruption.requested)
                # Before the checkpoint: a run that goes on from there has this row.
                if config.eval_every and self.step % config.eval_every == 0 and self.step < config.steps:
                    self._evaluate(log)
                if self.step % config.checkpoint_every == 0 or self.step == end or stopping:
                    self.save()
                if stopping and self.step < config.steps:
                    return "interrupted"
        if self.step < config.steps:
            return "interrupted"
        self._finish(log)
        return "finished"

    def save(self) -> None:
        """Writes a checkpoint (rank zero) of every network and optimizer."""
        if self.fabric.is_global_zero:
            tensors = pack_module("student", self.model) | pack_module("teacher", self.teacher)
            tensors |= pack_optimizer("optimizer", self.optimizer)
            if self.discriminator is not None and self.discriminator_optimizer is not None:
                tensors |= pack_module("discriminator", self.discriminator)
                tensors |= pack_optimizer("discriminator_optimizer", self.discriminator_optimizer)
            tensors |= {f"pending/{name}": torch.stack(values) for name, values in self.pending.items()}
            folder = self.out / "checkpoints"
            save_checkpoint(folder, Checkpoint(self.step, tensors), keep=self.config.keep_checkpoints)
        self.fabric.barrier()

    def _restore(self, checkpoint: Checkpoint) -> None:
        try:
            unpack_module("student", self.model, checkpoint.tensors)
            unpack_module("teacher", self.teacher, checkpoint.tensors)
            unpack_optimizer("optimizer", self.optimizer, checkpoint.tensors)
            if self.discriminator is not None and self.discriminator_optimizer is not None:
                unpack_module("discriminator", self.discriminator, checkpoint.tensors)
                unpack_optimizer("discriminator_optimizer", self.discriminator_optimizer, checkpoint.tensors)
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"{self.out}: its checkpoint does not fit this configuration ({reason}); choose another --out"
            ) from error
        self.step = checkpoint.step
        self.pending = {
            key.removeprefix("pending/"): list(values)
            for key, values in checkpoint.tensors.items()
            if key.startswith("pending/")
        }

    def _batches(self, start: int, end: int) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
        per_step = self.config.optim.accumulation
        labeled = self.loaders.labeled(start * per_step, end * per_step)
        if self.loaders.target is None:
            for item in labeled:
                yield item, None
        else:
            yield from zip(labeled, self.loaders.target(start * per_step, end * per_step), strict=True)

    def _train_step(
        self,
        step: int,
        batches: Iterator[tuple[dict[str, Any], dict[str, Any] | None]],
        student: Any,
        optimizer: Any,
        discriminator: Any,
        discriminator_optimizer: Any,
        factor: float,
    ) -> dict[str, Tensor]:
        """One update of the segmenter, then one of the discriminator, over all micro-batches."""
        accumulation = self.config.optim.accumulation
        collected: list[DomainMaps] = []
        logs: dict[str, Tensor] = {}
        for micro in range(accumulation):
            labeled, target = next(batches)
            torch.manual_seed(derive_seed(self.config.seed, step, micro, self.fabric.global_rank))
            batch = self._to_device(labeled, target)
            with (
                self.fabric.no_backward_sync(student, enabled=micro + 1 < accumulation),
                self.fabric.autocast(),
            ):
                result = self.method.segmenter_step(
                    student, self.teacher_model, self.discriminator, batch, step
                )
            loss = result.loss
            self._check_finite("loss", loss.detach(), step, labeled, target)
            logs = result.logs | {"train/loss": loss.detach()}
            if (step + 1) % self.config.log_every == 0:
                logs |= self._gradient_shares(result)
            with self.fabric.no_backward_sync(student, enabled=micro + 1 < accumulation):
                self.fabric.backward(loss / accumulation)
            if result.seen is not None:
                collected.append(result.seen)
        norm = self.fabric.clip_gradients(
            student, optimizer, max_norm=self.config.optim.grad_clip, error_if_nonfinite=False
        )
        assert norm is not None
        self._check_finite("gradient", norm.detach(), step, labeled, target)
        optimizer.step()
        optimizer.zero_grad()
        if collected and discriminator is not None and self.method.adversary is not None:
            set_rate(self.discriminator_optimizer, factor)  # type: ignore[arg-type]
            seen = DomainMaps(
                *(torch.cat([getattr(c, f) for c in collected]) for f in ("maps", "times", "domains"))
            )
            with self.fabric.autocast():
                loss, discriminator_logs = self.method.adversary.discriminate(discriminator, seen)
            self.fabric.backward(loss)
            discriminator_optimizer.step()
            discriminator_optimizer.zero_grad()
            logs |= discriminator_logs
        return logs

    def _gradient_shares(self, result: StepResult) -> dict[str, Tensor]:
        """Each loss's share of the gradients at the denoised latents: who pulls how hard.

        It is taken where all losses but reconstruction meet, for a few cheap passes through the decoder alone.
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

    def _to_device(self, labeled: dict[str, Any], target: dict[str, Any] | None) -> Batch:
        def image(item: dict[str, Any]) -> Tensor:
            pixels: Tensor = self.fabric.to_device(item["image"])
            return pixels.float().div(255).contiguous(memory_format=torch.channels_last)

        batch = Batch(image(labeled), self.fabric.to_device(labeled["label"]))
        if target is not None:
            batch.target_images = image(target)
            batch.target_valid = self.fabric.to_device(target["valid"])
        return batch

    def _check_finite(
        self, what: str, value: Tensor, step: int, labeled: dict[str, Any], target: dict[str, Any] | None
    ) -> None:
        if not self._any_rank(not bool(torch.isfinite(value))):
            return
        names = list(labeled["name"]) + (list(target["name"]) if target else [])
        newest = max((self.out / "checkpoints").glob("step-*.safetensors"), default=None)
        kept = f"the last good checkpoint is {newest}" if newest else "no checkpoint was written yet"
        number = "not finite on another rank" if bool(torch.isfinite(value)) else str(float(value))
        raise TrainingDivergedError(
            f"the {what} of step {step + 1} is {number}; its batch: {', '.join(names)}; {kept}; "
            "look at these files, or lower --optim.head-lr and --optim.backbone-lr"
        )

    def _any_rank(self, flag: bool) -> bool:
        if self.fabric.world_size == 1:
            return flag
        total = self.fabric.all_reduce(torch.tensor(float(flag), device=self.fabric.device), reduce_op="sum")
        return float(total) > 0  # type: ignore[arg-type]

    def _log(self, log: MetricsLog, figures: dict[str, float]) -> None:
        if self.fabric.is_global_zero:
            log.add(self.step, figures)

    def _evaluate(self, log: MetricsLog) -> None:
        if self.evaluate is not None and self.fabric.is_global_zero:
            self._log(log, self.evaluate(self.teacher_model, self.model))
        self.fabric.barrier()

    def _finish(self, log: MetricsLog) -> None:
        self._evaluate(log)
        if self.fabric.is_global_zero:
            facts = {
                "preset": self.preset,
                "step": self.step,
                "weights": "ema_teacher",
                **to_dict(self.config),
            }
            self.teacher_model.save_pretrained(self.out, extra={"training": facts})
        self.fabric.barrier()


def derive_seed(*parts: int) -> int:
    """A seed for torch that depends on every part and on nothing else."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:7], "big")
