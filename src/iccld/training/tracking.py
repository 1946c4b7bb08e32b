"""Logging of a run's metrics to ``metrics.csv`` and to the trackers TensorBoard, Weights & Biases and MLflow."""

from __future__ import annotations

import csv
import importlib
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from iccld.config import TrainConfig, to_dict
from iccld.documents import read_json, typed
from iccld.errors import InputError, first_line, how_to_install
from iccld.escaping import shortened, visible
from iccld.files import read_bounded, write_json, write_text

STATE = "trackers.json"
"""Name of the file in the run's folder with the ids that the tracking services assigned to the run."""


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Reads the rows of a run's ``metrics.csv``. Each row is a dict without the empty cells.

    Raises ``InputError`` if the file is missing, or is not a table of numbers with a column ``step``.
    """
    data = read_bounded(path, 200_000_000)
    try:
        table = csv.DictReader(io.StringIO(data.decode("utf-8"), newline=""))
        if table.fieldnames and "step" not in table.fieldnames:
            raise ValueError("no column 'step'")
        rows = [{k: v for k, v in row.items() if v} for row in table]
        for row in rows:
            if None in row:
                raise ValueError("a row has more cells than the head")
            if not re.fullmatch("[0-9]{1,12}", row.get("step", "")):
                raise ValueError(f"a row has no step but {shortened(row.get('step'))}")
            for value in row.values():
                float(value)
    except (ValueError, csv.Error) as error:
        what = visible(str(error)[:200])
        raise InputError(f"{path}: is no table of numbers ({what}); give the metrics.csv of a run") from error
    return rows


class _Tracker(NamedTuple):
    """Open tracker. ``id`` is the run's id in a tracking service. ``close(failed)`` ends the tracking."""

    id: str | None
    log: Callable[[int, Mapping[str, float]], object]
    close: Callable[[bool], object]


def require_trackers(names: Sequence[str]) -> None:
    """Raises ``InputError`` if the package of a tracker is missing. The message names the extra to install."""
    for name in [name for name in ("wandb", "mlflow") if name in names]:
        try:
            importlib.import_module(name)
        except ImportError as error:
            message = f"--trackers {name}: its package is not installed; {how_to_install(name)}"
            raise InputError(message) from error


class RunLog(AbstractContextManager["RunLog"]):
    """Log of a run's metrics: ``metrics.csv``, which is always written, and the requested trackers.

    A resumed run repeats the steps after ``resume_step``, the step of its checkpoint, and logs the metrics of these
    steps again. TensorBoard's files are then rewritten from ``metrics.csv``. Tracking services get only metrics that
    were not in ``metrics.csv`` before. If ``enabled`` is false, as on all ranks but the first, nothing is written.

    The log is a context manager. The trackers are closed at the end of the context. ``rows`` are the rows of the table:
    the step and the metrics by name, all as text. Raises ``InputError`` if a tracker cannot be opened.
    """

    def __init__(self, config: TrainConfig, out: Path, *, resume_step: int, enabled: bool = True) -> None:
        self.path, self._state, self._enabled = out / "metrics.csv", out / STATE, enabled
        before = read_metrics(self.path) if self.path.is_file() else []
        self.rows = [row for row in before if int(row["step"]) <= resume_step] if resume_step else []
        self._sent = {(int(row["step"]), name) for row in before for name in row}
        self._ids = _read_ids(self._state) if before else {}
        self._open: dict[str, _Tracker] = {}
        for name in dict.fromkeys(config.trackers if enabled else ()):
            if name != "csv":
                self._join(name, config, out)

    def _join(self, name: str, config: TrainConfig, out: Path) -> None:
        """Opens a tracker. If no run id from this tracker is stored yet, all existing rows are sent to the tracker."""
        known = self._ids.get(name)
        try:
            self._open[name] = _OPENERS[name](config, out, known)
        except Exception as error:  # services raise exceptions of many types, but the remedy is the same
            raise InputError(
                f"--trackers {name}: cannot be opened ({first_line(error)}); mend it, or leave {name} out"
            ) from error
        if known is None:
            for row in self.rows:
                self._send(name, int(row["step"]), {k: float(v) for k, v in row.items() if k != "step"})
        own = self._open[name].id if name in self._open else None
        if own is not None:
            self._ids[name] = own
            write_json(self._state, {key: {"id": value} for key, value in self._ids.items()})

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for name, tracker in list(self._open.items()):
            self._guard(name, partial(tracker.close, kind is not None))

    @property
    def miou(self) -> float | None:
        """Last evaluated mIoU in percent, or ``None`` before the first evaluation."""
        values = [row["val/miou"] for row in self.rows if "val/miou" in row]
        return float(values[-1]) if values else None

    def has(self, step: int, prefix: str) -> bool:
        """Returns whether the last row belongs to ``step`` and has a metric whose name starts with ``prefix``."""
        last = self.rows[-1] if self.rows else {}
        return last.get("step") == str(step) and any(name.startswith(prefix) for name in last)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Adds metrics to a step's row, rewrites ``metrics.csv`` atomically, and sends the metrics to the trackers."""
        if not self._enabled:
            return
        if not self.rows or int(self.rows[-1]["step"]) != step:
            self.rows.append({"step": str(step)})
        self.rows[-1] |= {key: f"{value:.6g}" for key, value in figures.items()}
        names = ["step", *sorted({key for row in self.rows for key in row} - {"step"})]
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())
        for name, tracker in list(self._open.items()):
            fresh = {k: v for k, v in figures.items() if tracker.id is None or (step, k) not in self._sent}
            self._send(name, step, fresh)

    def _send(self, name: str, step: int, figures: Mapping[str, float]) -> None:
        if figures and name in self._open:
            self._guard(name, partial(self._open[name].log, step, figures))

    def _guard(self, name: str, work: Callable[[], object]) -> None:
        """Calls ``work``, a function of a tracker. If ``work`` fails, the tracker is dropped with a warning."""
        try:
            work()
        except Exception as error:  # services raise exceptions of many types
            del self._open[name]
            message = f"tracker {name} failed and gets no more figures ({first_line(error)})"
            print(f"iccld: warning: {message}; metrics.csv has all of them", file=sys.stderr)


def _read_ids(path: Path) -> dict[str, str]:
    """Returns the stored run ids by tracking service, or an empty dict if the ids cannot be read.

    If a service has no stored id, the caller starts a new run there and sends all earlier metrics again.
    """
    try:
        stored = typed(dict[str, dict[str, Any]], read_json(path), str(path))
        return {name: typed(str, entry["id"], str(path)) for name, entry in stored.items() if entry.get("id")}
    except InputError:
        return {}


def _open_tensorboard(config: TrainConfig, out: Path, known: str | None) -> _Tracker:
    from tensorboardX import SummaryWriter

    for old in (out / "tensorboard").glob("events.out.tfevents.*"):
        old.unlink()
    writer = SummaryWriter(str(out / "tensorboard"), flush_secs=1)

    def log(step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)

    return _Tracker(None, log, lambda failed: writer.close())


def _open_wandb(config: TrainConfig, out: Path, known: str | None) -> _Tracker:
    import wandb

    project, settings = os.environ.get("WANDB_PROJECT", "iccld"), flat_settings(config)
    name = _run_name(config, out)
    run = wandb.init(project=project, name=name, dir=out, id=known, resume="allow", config=settings)

    def log(step: int, figures: Mapping[str, float]) -> None:
        run.log(figures, step=step)

    return _Tracker(run.id, log, lambda failed: run.finish(exit_code=int(failed)))


def _open_mlflow(config: TrainConfig, out: Path, known: str | None) -> _Tracker:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow sends usage reports by default
    import mlflow

    # The default is a database file, because MLflow 3 by default refuses to store runs in folders.
    default = f"sqlite:///{(out / 'mlflow.db').resolve()}"
    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI", default))
    mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "iccld"))
    run = mlflow.start_run(run_id=known, run_name=_run_name(config, out))
    if known is None:
        mlflow.log_params(flat_settings(config))

    def log(step: int, figures: Mapping[str, float]) -> None:
        mlflow.log_metrics(dict(figures), step=step)

    return _Tracker(run.info.run_id, log, lambda failed: mlflow.end_run("FAILED" if failed else "FINISHED"))


_OPENERS = {"tensorboard": _open_tensorboard, "wandb": _open_wandb, "mlflow": _open_mlflow}


def _run_name(config: TrainConfig, out: Path) -> str:
    return f"{out.name}-{config.method}-seed{config.seed}"


def flat_settings(config: TrainConfig) -> dict[str, str]:
    """Returns the settings of a run as text by name. Names are dotted, such as ``data.crop``."""
    plain = to_dict(config)
    groups = {name: part for name, part in plain.items() if isinstance(part, dict)}
    flat = {f"{name}.{key}": value for name, part in groups.items() for key, value in part.items()}
    return {name: str(value) for name, value in (plain | flat).items() if name not in groups}
