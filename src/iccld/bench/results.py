"""Results of runs: one JSON file each, found again by what the run is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iccld.bench.plan import Run, identity
from iccld.config import TrainConfig, from_dict
from iccld.errors import InputError


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
            facts = json.loads(path.read_text(encoding="utf-8"))
            measured = tuple((p["steps"], p["draws"]) for p in facts["predictions"])
            results.append(Result(path, identity(from_dict(facts["settings"])), measured, facts))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}: is no result of a bench ({error}); remove it, and it is run again"
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
