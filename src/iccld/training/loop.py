"""The training loop: one for all methods. It owns steps, evaluations, checkpoints and signals."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from iccld.adaptation.method import Method
from iccld.config import TrainConfig, to_dict
from iccld.errors import InputError, RunFailedError
from iccld.exits import EXIT_FAILED
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
from iccld.training.outlook import Outlook
from iccld.training.rehearsal import Rehearsal, rehearse
from iccld.training.trackers import RunLog
from iccld.training.tracking import TrainingDisplay
from iccld.training.update import Item, Update, rate_factor

MicroBatches = Callable[[int, int], Iterator[dict[str, Any]]]
"""(first micro-batch, end) → loader items; the same numbers always give the same items."""

Evaluate = Callable[[ICCLD, ICCLD], dict[str, float]]
"""(teacher, student) → figures."""


Outcome = Literal["finished", "stopped", "interrupted", "terminated"]
"""Done; at ``stop_at``; by SIGINT; by SIGTERM."""

_FAILED = 1000  # greater than any signal's number


class TrainingDivergedError(RunFailedError):
    """The loss is no longer a finite number."""


@dataclass
class Loaders:
    """Sources of micro-batches: labeled ones, and unlabeled target ones where the method uses them."""

    labeled: MicroBatches
    target: MicroBatches | None


class Trainer:
    """Trains a model by a method and leaves a run folder that the same call resumes, bit-exactly with the same threads.

    Args:
        config: the run's settings.
        fabric: launched.
        model: the student; the teacher starts as its copy.
        discriminator: None where the method has none.
        method: computes the losses.
        loaders: give the micro-batches.
        out: the run's folder.
        evaluate: called with teacher and student at the end; None for data without labels.
        watch: the same at ``eval_every``; ``evaluate`` if None.
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
        watch: Evaluate | None = None,
        preset: str = "custom",
    ) -> None:
        self.config, self.fabric, self.loaders = config, fabric, loaders
        self.out, self.preset = out, preset
        self.evaluate, self.watch = evaluate, watch or evaluate
        self.update = Update(config, fabric=fabric, model=model, discriminator=discriminator, method=method)
        self.rehearsal: Rehearsal | None = None
        self.step = self._saved_step = 0
        self._saved_at = time.monotonic()
        self.pending: dict[str, list[Tensor]] = {}  # figures since the last row of metrics.csv

    def resume(self) -> int:
        """Loads the newest whole checkpoint, if any, and returns the step to go on from."""
        checkpoint = load_newest(self.out / "checkpoints")
        if checkpoint is not None:
            self._restore(checkpoint)
        return self.step

    def rehearse(self) -> Rehearsal:
        """Chooses the threads and measures what steps take; after ``resume``, on all ranks, at most once."""
        if self.rehearsal is None:
            self.rehearsal = rehearse(self.update, step=self.step, out=self.out, evaluate=self.evaluate)
        return self.rehearsal

    def outlook(self) -> Outlook:
        """What lies ahead from the current step on."""
        config = self.config
        end = min(config.steps, config.stop_at or config.steps)
        evaluations = 0
        if self.evaluate is not None:
            on_the_way = range(self.step + 1, end) if config.eval_every else ()
            evaluations = sum(step % config.eval_every == 0 for step in on_the_way) + (end == config.steps)
        return Outlook(self.rehearse().costs, self.step, end, evaluations=evaluations)

    def run(self) -> Outcome:
        """Trains from the current step to the end.

        Raises:
            TrainingDivergedError: a loss is not finite; the last checkpoint stays.
            InputError: a tracker cannot be opened, or an image cannot be read.
            RunFailedError: a process that loads images was killed. Here, and where an image cannot be read, the steps
                that were taken are saved first.
        """
        config, first = self.config, self.fabric.is_global_zero
        outlook = self.outlook()
        self.update.set_up()
        with (
            RunLog(config, self.out, resume_step=self.step, enabled=first) as log,
            TrainingDisplay(config.method, self.step, outlook, enabled=first) as display,
        ):
            display.miou = log.miou
            outcome = self._train(log, display, outlook.end)
            if outcome == "finished":
                self._finish(log, display)
        return outcome

    def _train(self, log: RunLog, display: TrainingDisplay, end: int) -> Outcome:
        """Takes the steps up to ``end``, or those before a signal."""
        config, threads = self.config, self.rehearse().threads
        last_logged, last_time, drifted = self.step, time.monotonic(), False
        with Interruption() as interruption, closing(self._batches(self.step, end)) as batches:
            # A run that was stopped in an evaluation lacks its row.
            self._evaluate_on_the_way(log, display, interruption)
            for step in range(self.step, end):
                items, failure = self._fetch(batches, interruption)
                overdue = time.monotonic() - self._saved_at >= 60 * config.checkpoint_minutes
                code = _FAILED if failure else interruption.signal
                stopped_by, choose, save = self._agree(code, drifted, overdue)
                if stopped_by:
                    return self._stop(stopped_by, failure, display)
                if save and step != self._saved_step:
                    self.save(display)
                if choose:
                    with display.phase("choosing threads"):
                        threads.choose_again(step)
                threads.follow(step)
                begun = time.monotonic()
                logs = self.update(step, items)
                drifted = threads.drifts(time.monotonic() - begun)
                self.step = step + 1
                for name, value in logs.items():
                    self.pending.setdefault(name, []).append(value)
                if self.step % config.log_every == 0 or self.step == config.steps:
                    self._check_finite()
                    figures = {k: float(torch.stack(v).mean()) for k, v in self.pending.items()}
                    pace = (time.monotonic() - last_time) / (self.step - last_logged)
                    last_logged, last_time, self.pending = self.step, time.monotonic(), {}
                    factor = rate_factor(
                        step, config.steps, config.optim.warmup_steps, config.optim.poly_power
                    )
                    figures |= {"train/learning_rate_factor": factor, "train/seconds_per_step": pace}
                    log.add(self.step, figures)
                display.show(self.step, {"train/loss": logs["train/loss"]})
                if self.step % config.checkpoint_every == 0 or self.step == end:
                    self.save(display)
                paused = time.monotonic()
                self._evaluate_on_the_way(log, display, interruption)
                last_time += time.monotonic() - paused
        return "finished" if self.step >= config.steps else "stopped"

    def _fetch(
        self, batches: Iterator[Item], interruption: Interruption
    ) -> tuple[list[Item], InputError | RunFailedError | None]:
        """Waits for a step's micro-batches; what keeps them from coming is returned, for all ranks to hear of."""
        try:
            with interruption.raising():
                return list(islice(batches, self.config.optim.accumulation)), None
        except KeyboardInterrupt:
            if not interruption.requested:
                raise
            return [], None
        except (InputError, RunFailedError) as error:
            return [], error

    def _stop(self, code: int, failure: Exception | None, display: TrainingDisplay) -> Outcome:
        """Saves, on all ranks at once, and ends."""
        if self.step != self._saved_step:
            self.save(display)
        if failure is not None:
            raise failure
        if code == _FAILED:
            raise SystemExit(EXIT_FAILED)  # the rank that failed says why
        return "terminated" if code == signal.SIGTERM else "interrupted"

    def save(self, display: TrainingDisplay) -> None:
        """Writes a checkpoint (rank zero) of every network and optimizer.

        Raises:
            TrainingDivergedError: a loss or gradient since the last one is not finite; nothing is written.
        """
        self._check_finite()
        with display.phase("saving"):
            if self.fabric.is_global_zero:
                self._write_checkpoint()
            self.fabric.barrier()
        self._saved_step, self._saved_at = self.step, time.monotonic()

    def _write_checkpoint(self) -> None:
        update = self.update
        tensors = pack_module("student", update.model) | pack_module("teacher", update.teacher)
        tensors |= pack_optimizer("optimizer", update.optimizer)
        if update.discriminator is not None and update.discriminator_optimizer is not None:
            tensors |= pack_module("discriminator", update.discriminator)
            tensors |= pack_optimizer("discriminator_optimizer", update.discriminator_optimizer)
        tensors |= {f"pending/{name}": torch.stack(values) for name, values in self.pending.items()}
        folder = self.out / "checkpoints"
        save_checkpoint(folder, Checkpoint(self.step, tensors), keep=self.config.keep_checkpoints)

    def _restore(self, checkpoint: Checkpoint) -> None:
        update, tensors = self.update, checkpoint.tensors
        try:
            unpack_module("student", update.model, tensors)
            unpack_module("teacher", update.teacher, tensors)
            unpack_optimizer("optimizer", update.optimizer, tensors)
            if update.discriminator is not None and update.discriminator_optimizer is not None:
                unpack_module("discriminator", update.discriminator, tensors)
                unpack_optimizer("discriminator_optimizer", update.discriminator_optimizer, tensors)
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"{self.out}: its checkpoint does not fit this configuration ({reason}); choose another --out"
            ) from error
        self.step = self._saved_step = checkpoint.step
        self.pending = {
            key.removeprefix("pending/"): list(values.to(self.fabric.device))
            for key, values in tensors.items()
            if key.startswith("pending/")
        }

    def _batches(self, start: int, end: int) -> Generator[Item, None, None]:
        per_step = self.config.optim.accumulation
        labeled = self.loaders.labeled(start * per_step, end * per_step)
        if self.loaders.target is None:
            for item in labeled:
                yield item, None
        else:
            yield from zip(labeled, self.loaders.target(start * per_step, end * per_step), strict=True)

    def _check_finite(self) -> None:
        """Looks at the losses and gradients since the last look; the host waits for the device here."""
        failure = self.update.first_failure()
        if not any(self._agree(failure is not None)):
            return
        newest = max((self.out / "checkpoints").glob("step-*.safetensors"), default=None)
        kept = f"the last good checkpoint is {newest}" if newest else "no checkpoint was written yet"
        if failure is None:
            what = f"a loss or gradient up to step {self.step} is not finite on another rank"
        else:
            names = ", ".join(failure.names)
            what = f"the {failure.what} of step {failure.step} is {float(failure.value)}; its batch: {names}"
        raise TrainingDivergedError(
            f"{what}; {kept}; look at these files, or lower --optim.head-lr and --optim.backbone-lr"
        )

    def _agree(self, *codes: int) -> list[int]:
        """The greatest of all ranks' codes."""
        if self.fabric.world_size == 1:
            return list(codes)
        greatest: Any = self.fabric.all_reduce(
            torch.tensor(codes, dtype=torch.int64, device=self.fabric.device), reduce_op="max"
        )
        return [int(code) for code in greatest.tolist()]

    def _evaluate_on_the_way(self, log: RunLog, display: TrainingDisplay, interruption: Interruption) -> None:
        """The evaluations of ``eval_every``; a signal ends one, and the run that goes on begins with it."""
        if not self.config.eval_every or not 0 < self.step < self.config.steps:
            return
        if self.step % self.config.eval_every == 0:
            with suppress(KeyboardInterrupt), interruption.raising():
                self._evaluate(self.watch, log, display)

    def _evaluate(self, evaluate: Evaluate | None, log: RunLog, display: TrainingDisplay) -> None:
        self._check_finite()
        try:
            if evaluate is not None and self.fabric.is_global_zero and not log.has(self.step, "val/"):
                with display.phase("evaluating"):
                    log.add(self.step, evaluate(self.update.teacher_model, self.update.model))
                    display.miou = log.miou
        finally:
            self.fabric.barrier()

    def _finish(self, log: RunLog, display: TrainingDisplay) -> None:
        self._evaluate(self.evaluate, log, display)
        if self.fabric.is_global_zero:
            facts = {
                "preset": self.preset,
                "step": self.step,
                "weights": "ema_teacher",
                **to_dict(self.config),
            }
            self.update.teacher_model.save_pretrained(self.out, extra={"training": facts})
        self.fabric.barrier()
