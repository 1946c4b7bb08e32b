"""Reads results of runs from JSON files, finds the result of a given run, and detects changed data files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iccld.bench.plan import Run, identity
from iccld.config import TrainConfig, from_dict
from iccld.documents import build, read_json, reason
from iccld.errors import InputError
from iccld.escaping import shortened


@dataclass(frozen=True)
class Result:
    """Result of a finished run.

    Attributes:
        path: Path of the JSON file.
        identity: Settings that determine the result (see ``iccld.bench.plan.identity``).
        predictions: Prediction settings with which the model was evaluated, as pairs (sampling steps, noise draws).
        facts: Parsed content of the JSON file at ``path``.
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
    """Reads all result files below a folder. If the folder does not exist, returns an empty list.

    Raises:
        InputError: A file is not a result of a bench.
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
    """Returns the result of a run, or ``None`` if there is no such result.

    A result belongs to the run if their identities (see ``identity``) are equal and the result has scores for every
    prediction setting of the run's variant. The result can come from a different plan.
    """
    wanted = identity(run.config)
    for result in results:
        if result.identity == wanted and set(run.variant.predictions) <= set(result.predictions):
            return result
    return None


def result_path(folder: Path, run: Run) -> Path:
    """Returns the path of a run's result file."""
    return folder / run.plan / run.task.name / f"{run.variant.name}-seed{run.seed}.json"


def root_names(config: TrainConfig, roots: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Returns the keys of the source and the target in ``roots``, which maps names to folders on this machine.

    The name of the data set's folder in the configuration is looked up first, then the type of the data set, such as
    ``gta5``. The result is ``None`` for a data set with neither name in ``roots``.
    """
    d = config.data
    source, target = (
        next((name for name in (root and Path(root).name, kind) if name in roots), None)
        for kind, root in ((d.source, d.source_root), (d.target, d.target_root))
    )
    return source, target


def with_roots(config: TrainConfig, roots: Mapping[str, str]) -> TrainConfig:
    """Returns the configuration with the folders of source and target replaced by folders of this machine.

    ``roots`` maps the name of a data set to its folder (see ``root_names``). If ``roots`` does not contain a data
    set, the data set's folder in the configuration stays unchanged.
    """
    d = config.data
    source, target = root_names(config, roots)
    source_root = roots[source] if source else d.source_root
    target_root = roots[target] if target else d.target_root
    return replace(config, data=replace(d, source_root=source_root, target_root=target_root))


def refuse_changed_data(runs: Sequence[Run], results: list[Result], roots: Mapping[str, str]) -> None:
    """Checks that the results of ``runs`` were computed from the data files that are now on disk.

    Data sets that are not on disk are skipped. ``roots`` maps the name of a data set to its folder.

    Raises:
        InputError: The data files of a result have changed. The message names the result file and the difference.
    """
    from iccld.build import reopen_data
    from iccld.data.identity import first_difference

    known: dict[TrainConfig, dict[str, Any]] = {}
    for run in runs:
        result = find_result(run, results)
        if result is None or not isinstance(result.facts.get("data"), Mapping):
            continue
        # Besides the data settings, only the method affects the training data. Without all other settings, variants
        # with the same data share one entry of ``known``.
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
