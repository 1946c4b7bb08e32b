"""What a report is about: a run's folder as it stands, or one evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iccld.documents import build, read_json, reason
from iccld.errors import InputError
from iccld.reporting.curves import read_table
from iccld.reporting.record import Record, has_findings, read_record

Facts = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Subject:
    """A run or an evaluation.

    Attributes:
        name: tells it from the others on the page.
        facts: names and values for the headline, in order.
        record: what was measured.
        table: the columns of ``metrics.csv``; empty for an evaluation.
        unfinished: how far an unfinished run is; empty otherwise.
        method: of a run.
    """

    name: str
    facts: Facts
    record: Record
    table: Mapping[str, Sequence[float]] = field(default_factory=dict)
    unfinished: str = ""
    method: str = ""


@dataclass(frozen=True)
class _Data:
    source: str
    source_split: str
    source_look: str
    target: str
    target_split: str
    target_look: str


@dataclass(frozen=True)
class _Model:
    backbone: str
    diffusion: bool


@dataclass(frozen=True)
class _Settings:
    """What a report takes from ``run.json``."""

    steps: int
    seed: int
    method: str
    data: _Data
    model: _Model
    preset: str = ""


def comparable(subjects: Sequence[Subject]) -> bool:
    """Whether all that have scores were measured on the same images by the same protocol."""
    return len({(s.record.scores.measure, s.record.measured_on) for s in subjects if s.record.scores}) <= 1


def is_run(folder: Path) -> bool:
    """Whether ``iccld train`` began a run in a folder."""
    return (folder / "run.json").is_file()


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of a run, as ``run.json`` has them.

    Raises:
        InputError: there are none, or they cannot be read.
    """
    path = folder / "run.json"
    if not path.exists():
        what = "holds no run.json" if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: {what}; give the folder of a run of 'iccld train'")
    try:
        settings: dict[str, Any] = read_json(path)
        build(_Settings, settings, "settings", others=True)
    except InputError as error:
        raise InputError(
            f"{path}: cannot be read ({reason(error, path)}); give the folder of a run"
        ) from error
    return settings


def read_run(folder: Path, *, name: str | None = None, record: Record | None = None) -> Subject:
    """Reads a run's folder, finished or not.

    Args:
        folder: of the run.
        name: on the page; the folder's if not given.
        record: instead of the one in the folder.

    Raises:
        InputError: no run, or one that has logged nothing yet.
    """
    settings = read_settings(folder)
    if not (folder / "metrics.csv").is_file():
        raise InputError(
            f"{folder}: holds no metrics.csv, so nothing was logged yet; let the run go on for some steps"
        )
    table = read_table(folder / "metrics.csv")
    if record is None:
        record = read_record(folder) or Record()
    last = int(table["step"][-1])
    return _subject(folder, name or folder.resolve().name, settings, record, table, last)


def _subject(
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    record: Record,
    table: Mapping[str, Sequence[float]],
    last: int,
) -> Subject:
    """Puts a run together."""
    finished = last >= settings["steps"] and (folder / "model.safetensors").is_file()
    unfinished = "" if finished else f"{last} of {settings['steps']} steps"
    if has_findings(record) and record.step not in (None, last):
        # Figures of a shorter run beside curves that went on would be taken for those of the last step.
        words = f"those of step {record.step} were measured before the run went on"
        record = Record(record.environment, no_scores=words)
    facts = _facts(settings, record, last, finished)
    return Subject(name, facts, record, table, unfinished, str(settings["method"]))


def commit_of(record: Record) -> str:
    """The commit in words; empty if unknown."""
    return commit_words(record.environment)


def commit_words(environment: Mapping[str, Any]) -> str:
    """The commit of an environment, or of a time that a run was resumed, in words; empty if unknown."""
    commit = environment.get("commit")
    if not commit:
        return ""
    return f"{commit} with changes" if environment.get("changed") else str(commit)


def _facts(settings: Mapping[str, Any], record: Record, step: int, finished: bool) -> Facts:
    d, m = settings["data"], settings["model"]
    labeled = "target" if settings["method"] == "oracle" else "source"
    backbone = f"{m['backbone']}{'' if m['diffusion'] else ', no diffusion'}"
    return [
        ("method", str(settings["method"])),
        ("preset", str(settings.get("preset", ""))),
        ("labeled data", _dataset(d, labeled)),
        ("target", "not used" if settings["method"] == "source_only" else f"{_dataset(d, 'target')}"),
        ("measured on", record.measured_on),
        ("protocol", record.scores.protocol if record.scores else ""),
        ("seed", str(settings["seed"])),
        ("steps", f"{step} of {settings['steps']}"),
        ("weights", f"EMA teacher of the last step, {step}; no label chose it" if finished else ""),
        ("backbone", backbone),
        ("commit", commit_of(record) or ("unknown" if record.environment else "")),
        ("date", str(record.environment.get("date", ""))),
    ]


def _dataset(d: Mapping[str, Any], domain: str) -> str:
    look = f", {d[f'{domain}_look']} look" if d[domain] == "street_scenes" else ""
    return f"{d[domain]}{look}, {d[f'{domain}_split']}"
