"""Results of runs in JSON files: finds the result of a run, builds learning curves, and detects changed data files."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from iccld.bench.plan import Run, identity
from iccld.config import TrainConfig, from_dict, with_settings
from iccld.documents import build, read_json, reason
from iccld.errors import InputError
from iccld.escaping import shortened


@dataclass(frozen=True)
class Result:
    """Result of a finished run.

    ``facts`` is the content of the JSON file at ``path``. ``identity`` is the run's identity (see
    ``iccld.bench.plan.identity``). ``predictions`` are the pairs (sampling steps, noise draws) with which the model was
    evaluated.
    """

    path: Path
    identity: TrainConfig
    predictions: tuple[tuple[int, int], ...]
    facts: dict[str, Any]

    @property
    def miou(self) -> float:
        """Mean IoU after the last step, in percent."""
        return float(self.facts["miou"])


@dataclass(frozen=True)
class _Prediction:
    steps: int
    draws: int
    miou: float


@dataclass(frozen=True)
class _Checkpoint:
    step: int
    miou: float
    entropy: float
    agreement: float


@dataclass(frozen=True)
class _Content:
    """Entries of a result file that tables and time estimates use."""

    run: str
    miou: float
    iou: Mapping[str, float | None]
    seconds: float
    seconds_per_adapting_step: float
    peak_gib: float
    checkpoints: tuple[_Checkpoint, ...]
    predictions: tuple[_Prediction, ...]
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.run.count("/") != 2:
            raise InputError(f"run = {shortened(self.run)} must be TASK/VARIANT/SEED")


def read_results(folder: Path) -> list[Result]:
    """Reads all result files in a folder and its subfolders. Returns an empty list if the folder does not exist.

    Raises ``InputError`` if a file is not a result.
    """
    results = []
    for path in sorted(p for p in folder.rglob("*.json") if not p.name.startswith(".")):
        try:
            facts = read_json(path)
            content = build(_Content, facts, "result", others=True)
            measured = tuple((p.steps, p.draws) for p in content.predictions)
            results.append(Result(path, identity(from_dict(content.settings)), measured, facts))
        except InputError as error:
            raise InputError(
                f"{path}: is no result of a bench ({reason(error, path)}); remove it, and it is run again"
            ) from error
    return results


def find_result(run: Run, results: list[Result]) -> Result | None:
    """Returns a result that has the run's ``identity`` and contains all predictions of the run.

    The result can belong to another plan. Returns ``None`` if there is no such result.
    """
    wanted, predictions = identity(run.config), set(run.variant.predictions)
    found = (r for r in results if r.identity == wanted and predictions <= set(r.predictions))
    return next(found, None)


def result_path(folder: Path, run: Run) -> Path:
    """Returns the path of a run's result file."""
    return folder / run.plan / run.task.name / f"{run.variant.name}-seed{run.seed}.json"


def root_names(config: TrainConfig, roots: Mapping[str, str]) -> dict[str, str]:
    """Returns the names in ``roots`` that belong to the data sets of a run.

    ``roots`` maps names of data sets to folders on this machine. The result has the entries ``source_root``,
    ``target_root`` and ``target_labeled``. An entry is missing if ``roots`` does not contain the data set. A data set
    is looked up by the name of its folder in the configuration, and then by its kind, such as ``gta5``.
    """
    found: dict[str, str] = {}
    kinds = {"source_root": config.data.source, "target_root": config.data.target}
    if config.data.target_labeled is not None:
        kinds["target_labeled"] = "target_labeled"
    for key, kind in kinds.items():
        folder = Path(getattr(config.data, key) or kind).name
        names = [name for name in (folder, kind) if name in roots]
        if names:
            found[key] = names[0]
    return found


def with_roots(config: TrainConfig, roots: Mapping[str, str]) -> TrainConfig:
    """Returns the configuration with the folders in ``roots`` for source and target (see ``root_names``).

    Further sources are also replaced, by the name of their folder.
    """
    folders: dict[str, Any] = {f"data.{key}": roots[name] for key, name in root_names(config, roots).items()}
    more = [roots.get(Path(source).name, source) for source in config.data.more_sources]
    return with_settings(config, {**folders, "data.more_sources": more})


def refuse_changed_data(runs: Sequence[Run], results: list[Result], roots: Mapping[str, str]) -> None:
    """Checks that the results of ``runs`` were computed from the data files that are now on disk.

    Data sets that are not on disk are skipped. ``roots`` is explained in ``root_names``. Raises ``InputError`` if the
    data differ. The message names the result file and the difference.
    """
    from iccld.build import reopen_data
    from iccld.data.identity import first_difference

    known: dict[TrainConfig, dict[str, Any]] = {}
    for run in runs:
        result = find_result(run, results)
        if result is None or not isinstance(result.facts.get("data"), Mapping):
            continue
        # Only the data settings and the method affect the training data. All other settings keep their defaults here,
        # so that variants with the same data share one entry of ``known``.
        config = with_roots(TrainConfig(method=run.config.method, data=run.config.data), roots)
        if config not in known:
            data = reopen_data(config)
            known[config] = {} if data is None else data.describe()
        files = {role: facts for role, facts in known[config].items() if facts["root"] is not None}
        what = first_difference(result.facts["data"], files)
        if what is not None:
            raise InputError(
                f"{result.path}: was measured on other data: {what}; give the data of then with --roots, choose "
                "another --results, or remove this file, and it is run again"
            )


class Pace(NamedTuple):
    """Duration of a training step in seconds: ``warmup`` before the adaptation starts, ``adapting`` afterwards."""

    warmup: float
    adapting: float


Paces = Mapping[str, Mapping[str, Pace]]
"""Durations of a training step: task name → (variant name → durations)."""


class Point(NamedTuple):
    """Point of a learning curve: training time without evaluations in seconds, and mIoU in percent."""

    seconds: float
    miou: float


def learning_curve(results: Sequence[Result], pace: Pace | None = None) -> list[Point]:
    """Returns the mIoU of one variant over training time, averaged over seeds. ``results`` has one result per seed.

    The points are the steps at which the runs of all seeds were evaluated. The training times are computed from
    ``pace``. If ``pace`` is ``None``, the times in the results are used. Returns an empty list if a result does not
    contain times.
    """
    curves = []
    for result in results:
        points = {int(point["step"]): dict(point) for point in result.facts["checkpoints"]}
        start = round(result.identity.adaptation.start * result.identity.steps)
        for step, point in points.items():
            if pace is not None:
                early = min(step, start)
                point["seconds"] = early * pace.warmup + (step - early) * pace.adapting
        curves.append(points)
    if not curves or not all("seconds" in point for curve in curves for point in curve.values()):
        return []
    shared = sorted(set.intersection(*map(set, curves)))
    return [
        Point(*(statistics.fmean(curve[step][key] for curve in curves) for key in ("seconds", "miou")))
        for step in shared
    ]
