"""Results of runs: one JSON file each, found again by what the run is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iccld.bench.plan import Run, identity
from iccld.config import TrainConfig, from_dict
from iccld.documents import build, read_json, reason
from iccld.errors import InputError
from iccld.escaping import shortened


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        path: of its JSON file.
        identity: what was run.
        predictions: what its model was measured with.
        facts: the file's content.
    """

    path: Path
    identity: TrainConfig
    predictions: tuple[tuple[int, int], ...]
    facts: dict[str, Any]

    @property
    def miou(self) -> float:
        """Of the last step, in percent."""
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
    """What tables and clock take from a file."""

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
    """Reads every result below a folder; none if it does not exist.

    Raises:
        InputError: a file that is no result.
    """
    results = []
    for path in sorted(folder.rglob("*.json")):
        if path.name.startswith("."):
            continue
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
    """The result of a run, whichever plan it was run for."""
    wanted = identity(run.config)
    for result in results:
        if result.identity == wanted and set(run.variant.predictions) <= set(result.predictions):
            return result
    return None


def result_path(folder: Path, run: Run) -> Path:
    """Where a run's result is written."""
    return folder / run.plan / run.task.name / f"{run.variant.name}-seed{run.seed}.json"
