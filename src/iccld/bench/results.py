"""Results of runs: one JSON file each, found again by what the run is."""

from __future__ import annotations

import json
import os
import platform
import subprocess
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


def describe_machine(threads: int, device: str) -> dict[str, Any]:
    """What the figures were measured on; no names of hosts or users."""
    import torch

    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    facts = {
        "cpu": name,
        "cores": os.cpu_count(),
        "threads": threads,
        "device": device,
        "torch": torch.__version__,
    }
    if device == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def describe_code() -> dict[str, Any]:
    """The commit of this package's checkout, and whether files differ from it; nulls outside of one."""

    def git(*words: str) -> str | None:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    commit, changes = git("rev-parse", "--short", "HEAD"), git("status", "--porcelain", "--", "..")
    return {"commit": commit, "changed": None if changes is None else bool(changes)}
