"""Where a run's figures go beside ``metrics.csv``: TensorBoard's event files, W&B, MLflow.

A resumed run gives the same figures again for the steps since its checkpoint. Each tracker gets a figure once:
``trackers.json`` in the run's folder says how far each of them is.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from lightning.fabric.loggers.logger import Logger

from iccld.config import Tracker, TrainConfig, to_dict
from iccld.documents import read_json, typed
from iccld.errors import InputError, first_line, how_to_install
from iccld.files import write_json
from iccld.training.tracking import MetricsLog

STATE = "trackers.json"
_PACKAGES = ("wandb", "mlflow")
_PROJECT = "iccld"


def require_trackers(names: Sequence[str]) -> None:
    """Refuses trackers whose package is not installed.

    Raises:
        InputError: names the extra that brings it.
    """
    for name in names:
        if name not in _PACKAGES:
            continue
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InputError(
                f"--trackers {name}: its package is not installed; {how_to_install(name)}"
            ) from error


@dataclass
class _Reach:
    """How far a tracker is.

    Attributes:
        step: of the last figures that it got.
        names: figures of that step.
        id: the run's, with a service that gives out ids.
    """

    step: int = 0
    names: list[str] = field(default_factory=list)
    id: str | None = None

    def lacks(self, step: int, name: str) -> bool:
        return step > self.step or (step == self.step and name not in self.names)

    def advance(self, step: int, names: Sequence[str]) -> None:
        kept = self.names if step == self.step else []
        self.step, self.names = step, sorted({*kept, *names})


class RunLog:
    """A run's figures: ``metrics.csv``, always, and the trackers that were asked for.

    A context: leaving it closes the trackers.

    Args:
        config: of the run.
        out: the run's folder.
        resume_step: figures of later steps are dropped.
        enabled: False on ranks that write nothing.

    Raises:
        InputError: a tracker cannot be opened.
    """

    def __init__(self, config: TrainConfig, out: Path, *, resume_step: int, enabled: bool = True) -> None:
        self.out, self.enabled = out, enabled
        self.csv = MetricsLog(out / "metrics.csv", resume_step=resume_step)
        # Of another run's folder nothing is left but, perhaps, this file.
        self._reached = _read_state(out / STATE) if self.csv.path.is_file() else {}
        self._open: dict[str, Logger] = {}
        if not enabled:
            return
        for name in dict.fromkeys(config.trackers):
            if name != "csv":
                self._join(name, config, resume_step)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, logger in self._open.items():
            self._guard(name, lambda logger=logger: _close(logger, failed=kind is not None))  # type: ignore[misc]

    @property
    def miou(self) -> float | None:
        """The last mIoU, in percent."""
        values = [row["val/miou"] for row in self.csv.rows if "val/miou" in row]
        return float(values[-1]) if values else None

    def has(self, step: int, prefix: str) -> bool:
        """Whether there are figures of a step whose names begin so."""
        last = self.csv.rows[-1] if self.csv.rows else {}
        return last.get("step") == str(step) and any(name.startswith(prefix) for name in last)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Adds figures of a step everywhere."""
        if not self.enabled:
            return
        self.csv.add(step, figures)
        for name in list(self._open):
            self._send(name, step, figures)

    def _join(self, name: Tracker, config: TrainConfig, resume_step: int) -> None:
        """Opens a tracker and gives it the figures of earlier steps that it lacks."""
        reach = self._reached.setdefault(name, _Reach())
        known = reach.id is not None
        try:
            if name == "tensorboard":
                logger = self._open_tensorboard(reach, resume_step)
            else:
                logger = _SERVICES[name](config, self.out, reach)
            if not known and name in _PACKAGES:  # MLflow's settings of a run cannot be changed
                logger.log_hyperparams(to_dict(config))
        except Exception as error:  # each service has errors of its own: all mean the same to the user
            raise InputError(
                f"--trackers {name}: cannot be opened ({first_line(error)}); mend it, or leave {name} out"
            ) from error
        self._open[name] = logger
        for row in self.csv.rows:
            self._send(name, int(row["step"]), {k: float(v) for k, v in row.items() if k != "step"})

    def _open_tensorboard(self, reach: _Reach, resume_step: int) -> Logger:
        """Opens a new event file, at whose beginning readers drop the steps that will come again."""
        from iccld.training.event_file import PATTERN, EventFile

        folder = self.out / "tensorboard"
        if not reach.step:  # what lies there is not of this run
            for old in folder.glob(PATTERN):
                old.unlink()
        elif reach.step > resume_step:
            last = self.csv.rows[-1] if self.csv.rows else {}
            reach.step = resume_step
            reach.names = sorted(last) if last.get("step") == str(resume_step) else []
        return EventFile(folder, first_step=resume_step + 1)

    def _send(self, name: str, step: int, figures: Mapping[str, float]) -> None:
        reach = self._reached[name]
        fresh = {k: float(v) for k, v in figures.items() if reach.lacks(step, k)}
        if not fresh or name not in self._open:
            return
        logger = self._open[name]

        def send() -> None:
            logger.log_metrics(fresh, step)
            reach.advance(step, list(fresh))
            write_json(self.out / STATE, {k: vars(v) for k, v in self._reached.items()})

        self._guard(name, send)

    def _guard(self, name: str, work: Callable[[], object]) -> None:
        """A service that fails does not end the training: its figures are in ``metrics.csv``."""
        try:
            work()
        except InputError:
            raise
        except Exception as error:  # as above
            self._open = {k: v for k, v in self._open.items() if k != name}
            print(
                f"iccld: warning: tracker {name} failed and gets no more figures ({first_line(error)}); "
                "a resumed run hands them in",
                file=sys.stderr,
            )


def _read_state(path: Path) -> dict[str, _Reach]:
    try:
        return dict(typed(dict[str, _Reach], read_json(path), str(path)))
    except InputError:
        return {}  # no tracker was used, or nobody knows how far it is: it gets everything


def _open_wandb(config: TrainConfig, out: Path, reach: _Reach) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    project = os.environ.get("WANDB_PROJECT", _PROJECT)
    logger = WandbLogger(name=_run_name(config, out), save_dir=out, id=reach.id, project=project)
    reach.id = str(logger.experiment.id)
    return logger


def _open_mlflow(config: TrainConfig, out: Path, reach: _Reach) -> Logger:
    from lightning.pytorch.loggers import MLFlowLogger

    logger = MLFlowLogger(
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT),
        run_name=_run_name(config, out),
        # A database, since MLflow 3 refuses folders of files unless told otherwise.
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{(out / 'mlflow.db').resolve()}"),
        run_id=reach.id,
    )
    reach.id = str(logger.run_id)
    return logger


_SERVICES: Mapping[str, Callable[[TrainConfig, Path, _Reach], Logger]] = {
    "wandb": _open_wandb,
    "mlflow": _open_mlflow,
}


def _run_name(config: TrainConfig, out: Path) -> str:
    return f"{out.name}-{config.method}-seed{config.seed}"


def _close(logger: Logger, *, failed: bool) -> None:
    logger.finalize("failed" if failed else "success")
    finish = getattr(
        getattr(logger, "experiment", None), "finish", None
    )  # W&B: a second run of this process is another one
    if callable(finish):
        finish()
