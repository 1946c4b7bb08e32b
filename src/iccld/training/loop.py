"""The training loop of all methods: steps, evaluations, checkpoints and signals."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice, repeat
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
from iccld.outputs import CHECKPOINT_PATTERN
from iccld.training.callbacks import Callbacks
from iccld.training.checkpoint import Checkpoint, load_newest, pack, save_checkpoint, unpack
from iccld.training.display import Outlook, TrainingDisplay
from iccld.training.interruption import Interruption
from iccld.training.ranks import agree
from iccld.training.rehearsal import Rehearsal, rehearse
from iccld.training.tracking import RunLog
from iccld.training.update import Item, Update, rate_factor

MicroBatches = Callable[[int, int], Iterator[dict[str, Any]]]
"""Function that yields micro-batches from the loader. The arguments are the first index and the end index (excluded) of
the micro-batches. The same index always gives the same micro-batch."""
Evaluate = Callable[[ICCLD, ICCLD], dict[str, float]]
"""Function that evaluates the teacher (first argument) and the student, and returns metrics by name."""
Outcome = Literal["finished", "stopped", "interrupted", "terminated"]
"""Reason for the end of a run.

``finished`` means that all steps are done, and ``stopped`` that the run reached step ``stop_at``. ``interrupted`` means
SIGINT, and ``terminated`` means SIGTERM."""
_FAILED = (
    1000  # code of a failed rank. ``agree`` returns the maximum, so a failure takes precedence over signals
)


class TrainingDivergedError(RunFailedError):
    """Error for a loss or gradient norm that is not finite."""


@dataclass
class Loaders:
    """Micro-batches of labeled images, and of unlabeled target images if the method uses them."""

    labeled: MicroBatches
    target: MicroBatches | None


class Trainer:
    """Training of a model with a method. All results are written to the run's folder ``out``.

    A new trainer with the same arguments resumes the run. With the same number of threads, the resumed run is
    bit-exact. ``fabric`` must be launched. ``discriminator`` is ``None`` for methods without an adversary. ``evaluate``
    is called at the end of the run. ``evaluate`` is ``None`` if there are no labeled evaluation images. ``watch`` is
    called every ``eval_every`` steps. The default of ``watch`` is ``evaluate``. ``preset`` is the name of the preset,
    which is stored in ``run.json`` and ``config.json``.
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
        self.callbacks = Callbacks()
        self.step = self._saved_step = 0
        self._saved_at = time.monotonic()
        self.pending: dict[str, list[Tensor]] = {}  # metrics since the last row of metrics.csv

    def resume(self) -> int:
        """Loads the newest undamaged checkpoint if there is one. Returns the number of finished steps.

        Raises ``InputError`` if the checkpoint does not fit the configuration.
        """
        checkpoint = load_newest(self.out / "checkpoints")
        if checkpoint is not None:
            try:
                unpack(self.update.parts, checkpoint.tensors)
            except (RuntimeError, ValueError, KeyError) as error:
                why = " ".join(str(error).split())[:200]
                raise InputError(
                    f"{self.out}: its checkpoint does not fit this configuration ({why}); choose another --out"
                ) from error
            self.step = self._saved_step = checkpoint.step
            pending = {key: v for key, v in checkpoint.tensors.items() if key.startswith("pending/")}
            device = self.fabric.device
            self.pending = {key.removeprefix("pending/"): list(v.to(device)) for key, v in pending.items()}
        return self.step

    def rehearse(self) -> Rehearsal:
        """Measures the duration of steps at the first call, and returns the stored result in later calls.

        All ranks must make the first call together, after ``resume``. See ``rehearsal.rehearse``.
        """
        if self.rehearsal is None:
            self.rehearsal = rehearse(self.update, step=self.step, out=self.out, evaluate=self.evaluate)
        return self.rehearsal

    def outlook(self) -> Outlook:
        """Returns the estimate of the remaining time from the current step to the end."""
        config = self.config
        end = min(config.steps, config.stop_at or config.steps)
        on_the_way = range(self.step + 1, end) if config.eval_every else ()
        evaluations = sum(step % config.eval_every == 0 for step in on_the_way) + (end == config.steps)
        return Outlook(self.rehearse().costs, self.step, end, evaluations=evaluations if self.evaluate else 0)

    def run(self) -> Outcome:
        """Trains from the current step to the end, and writes checkpoints, metrics and the model to the run folder.

        Raises:
            TrainingDivergedError: A loss or gradient is not finite. The last checkpoint is kept.
            InputError: A tracker cannot be opened, or an image cannot be read.
            RunFailedError: A process that loads images was killed. The finished steps are saved.
        """
        config, first, outlook = self.config, self.fabric.is_global_zero, self.outlook()
        self.update.set_up()
        with (
            RunLog(config, self.out, resume_step=self.step, enabled=first) as self.log,
            TrainingDisplay(config.method, outlook, enabled=first) as self.display,
        ):
            self.display.miou = self.log.miou
            self._logged_step, self._logged_at = self.step, time.monotonic()
            batches = self._batches(self.step, outlook.end)
            with Interruption() as self.interruption, closing(batches):
                self._evaluate_on_the_way()  # in case the previous run was stopped during this evaluation
                while self.step < outlook.end:
                    items, failure = self._fetch(batches)
                    code = _FAILED if failure else self.interruption.signal
                    late = time.monotonic() - self._saved_at >= 60 * config.checkpoint_minutes
                    code, overdue = agree(self.fabric, code, late)
                    if code:
                        return self._stop(code, failure)
                    if overdue:
                        self.save()
                    figures = self.update(self.step, items)
                    self.step += 1
                    self._log(figures)
                    if first:
                        self.callbacks.on_step(self.step, figures)
                    if self.step % config.checkpoint_every == 0 or self.step == outlook.end:
                        self.save()
                    self._evaluate_on_the_way()
            if self.step < config.steps:
                return "stopped"
            self._evaluate(self.evaluate)
            if first:
                facts = {"preset": self.preset, "step": self.step, "weights": "ema_teacher"}
                self.update.teacher_model.save_pretrained(
                    self.out, extra={"training": facts | to_dict(config)}
                )
            self.fabric.barrier()
        return "finished"

    def _batches(self, start: int, end: int) -> Generator[Item, None, None]:
        first, last = (step * self.config.optim.accumulation for step in (start, end))
        labeled, target = self.loaders.labeled, self.loaders.target
        yield from zip(labeled(first, last), target(first, last) if target else repeat(None), strict=False)

    def _fetch(self, batches: Iterator[Item]) -> tuple[list[Item], InputError | RunFailedError | None]:
        """Waits for the next step's micro-batches.

        An error is returned instead of raised, so that this rank can first notify the other ranks.
        """
        try:
            with self.interruption.raising():
                return list(islice(batches, self.config.optim.accumulation)), None
        except KeyboardInterrupt:
            if not self.interruption.signal:
                raise
            return [], None
        except (InputError, RunFailedError) as error:
            return [], error

    def _stop(self, code: int, failure: Exception | None) -> Outcome:
        """Saves a checkpoint and ends the run.

        Raises ``failure`` if it is not ``None``, and ``SystemExit`` if another rank failed. Otherwise, the run ended by
        a signal, and the outcome is returned.
        """
        self.save()
        if failure is not None:
            raise failure
        if code == _FAILED:
            raise SystemExit(EXIT_FAILED)  # without a message, because the failed rank prints the reason
        return "terminated" if code == signal.SIGTERM else "interrupted"

    def _log(self, figures: dict[str, Tensor]) -> None:
        """Collects the metrics of a step. Writes their means as a table row every ``log_every`` steps."""
        config = self.config
        for name, value in figures.items():
            self.pending.setdefault(name, []).append(value)
        if self.step % config.log_every == 0 or self.step == config.steps:
            self._check_finite()
            row = {name: float(torch.stack(values).mean()) for name, values in self.pending.items()}
            now, optim = time.monotonic(), config.optim
            row["train/seconds_per_step"] = (now - self._logged_at) / (self.step - self._logged_step)
            row["train/learning_rate_factor"] = rate_factor(
                self.step - 1, config.steps, optim.warmup_steps, optim.poly_power
            )
            self.log.add(self.step, row)
            self._logged_step, self._logged_at, self.pending = self.step, now, {}
        self.display.show(self.step, {"train/loss": figures["train/loss"]})

    def _check_finite(self) -> None:
        """Raises ``TrainingDivergedError`` if at least one rank had a loss or gradient that is not finite."""
        failure = self.update.first_failure()
        if not any(agree(self.fabric, failure is not None)):
            return
        newest = max((self.out / "checkpoints").glob(CHECKPOINT_PATTERN), default=None)
        kept = f"the last good checkpoint is {newest}" if newest else "no checkpoint was written yet"
        what = f"a loss or gradient up to step {self.step} is not finite on another rank"
        if failure is not None:
            names = ", ".join(failure.names)
            what = f"{failure.describe()}; its batch: {names}"
        raise TrainingDivergedError(
            f"{what}; {kept}; look at these files, or lower --optim.head-lr and --optim.backbone-lr"
        )

    def save(self) -> None:
        """Writes a checkpoint on rank zero if the current step is not saved yet.

        Raises ``TrainingDivergedError`` if a loss or gradient is not finite.
        """
        if self.step == self._saved_step:
            return
        self._check_finite()
        with self.display.phase("saving"):
            if self.fabric.is_global_zero:
                pending = {f"pending/{name}": torch.stack(values) for name, values in self.pending.items()}
                checkpoint = Checkpoint(self.step, pack(self.update.parts) | pending)
                save_checkpoint(self.out / "checkpoints", checkpoint, keep=self.config.keep_checkpoints)
                self.callbacks.on_checkpoint(self.step, self.out / "checkpoints")
            self.fabric.barrier()
        self._saved_step, self._saved_at = self.step, time.monotonic()

    def _evaluate_on_the_way(self) -> None:
        """Evaluates if the current step is a multiple of ``eval_every``.

        A signal interrupts the evaluation. The resumed run then repeats the evaluation.
        """
        every, begun = self.config.eval_every, time.monotonic()
        if every and 0 < self.step < self.config.steps and self.step % every == 0:
            with suppress(KeyboardInterrupt), self.interruption.raising():
                self._evaluate(self.watch)
        self._logged_at += time.monotonic() - begun

    def _evaluate(self, evaluate: Evaluate | None) -> None:
        self._check_finite()
        try:
            if evaluate is not None and self.fabric.is_global_zero and not self.log.has(self.step, "val/"):
                with self.display.phase("evaluating"):
                    metrics = evaluate(self.update.teacher_model, self.update.model)
                    self.log.add(self.step, metrics)
                    self.display.miou = self.log.miou
                self.callbacks.on_evaluation(self.step, metrics)
        finally:
            self.fabric.barrier()
