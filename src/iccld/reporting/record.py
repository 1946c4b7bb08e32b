"""What a report is about: a run or one evaluation; and ``report.json``, what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from iccld.documents import Length, Range, build, read_json, reason
from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.files import write_json, write_text
from iccld.inference.review import Trust
from iccld.metrics import Scores
from iccld.reporting.templates import render

RECORD = "report.json"
_LARGEST_RECORD = 64_000_000
_Channel = Annotated[int, Range(0, 255)]


@dataclass(frozen=True)
class Calibration:
    """How far confidence can be believed.

    ``figures`` are those of ``iccld.inference.review.evaluate_trust``, None for NaN. Bins of confidence are of equal
    width from 0 to 1; each has its number of pixels, and its mean confidence and share of right pixels unless it is
    empty.
    """

    figures: Mapping[str, float | None]
    pixels: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]

    @classmethod
    def of(cls, trust: Trust) -> Calibration:
        """Takes what an evaluation gathered."""
        bins = trust.reliability
        pixels = [int(n) for n in bins.pixels.tolist()]

        def share(sums: Sequence[float]) -> tuple[float | None, ...]:
            return tuple(round(s / n, 5) if n else None for s, n in zip(sums, pixels, strict=True))

        figures = {k: None if v != v else round(v, 5) for k, v in trust.figures().items()}
        return cls(figures, tuple(pixels), share(bins.confidence.tolist()), share(bins.right.tolist()))


@dataclass(frozen=True)
class Example:
    """An image by its file name, why it was chosen (best, worst, random), its own mIoU in percent, and its panels.

    ``panels`` leads from titles to pictures as data URIs.
    """

    name: str
    role: str
    miou: float | None
    panels: Mapping[str, Annotated[str, Length(_LARGEST_RECORD)]]

    def __post_init__(self) -> None:
        if not all(picture.startswith("data:") for picture in self.panels.values()):
            raise InputError(f"a picture of {shortened(self.name)} is no data URI")


@dataclass(frozen=True)
class Record:
    """What was measured, on which images, and where (see ``iccld.reporting.environment.describe_environment``).

    ``step`` is the one of a run that was measured; None before that, for an evaluation, or if unknown. ``scores`` and
    ``calibration`` are None where there are no labels, as ``no_scores`` explains, or nothing was measured yet.
    ``legend`` has names and RGB colors of the classes in the pictures.
    """

    environment: Mapping[str, Any] = field(default_factory=dict)
    step: int | None = None
    measured_on: str = ""
    scores: Scores | None = None
    no_scores: str = ""
    calibration: Calibration | None = None
    examples: Annotated[tuple[Example, ...], Length(1000)] = ()
    legend: Annotated[tuple[tuple[str, tuple[_Channel, _Channel, _Channel]], ...], Length(254)] = ()

    def write(self, folder: Path) -> Path:
        """Writes the file of a run's folder."""
        plain = asdict(self) | {"scores": None if self.scores is None else self.scores.to_json()}
        return write_json(folder / RECORD, plain)


def has_findings(record: Record) -> bool:
    """Whether anything was measured or predicted yet."""
    return record.scores is not None or bool(record.examples)


def read_record(folder: Path) -> Record | None:
    """Reads the record of a run's folder; None where there is none, and ``InputError`` if the file is another one."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        value = read_json(path, limit=_LARGEST_RECORD, longest_text=_LARGEST_RECORD)
        if not isinstance(value, dict) or "scores" not in value:
            raise InputError("it has no scores")
        scores = None if value["scores"] is None else Scores.from_json(value["scores"])
        return replace(build(Record, value | {"scores": None}, "record"), scores=scores)
    except InputError as error:
        raise InputError(
            f"{path}: is no record of a report ({reason(error, path)}); remove it, and 'iccld report' measures again"
        ) from error


def write_readme(folder: Path, *, command: str) -> Path:
    """Writes ``README.txt``: what each file of a run's folder is for, and the command that trains it."""
    return write_text(folder / "README.txt", render("run_readme.txt.j2", run=str(folder), command=command))


@dataclass(frozen=True)
class Subject:
    """A run or an evaluation, by a name that tells it from the others on the page.

    ``facts`` are names and values for the headline. An evaluation has no ``table``, the columns of ``metrics.csv``, and
    no method; ``unfinished`` says how far an unfinished run is.
    """

    name: str
    facts: Sequence[tuple[str, str]]
    record: Record
    table: Mapping[str, Sequence[float]] = field(default_factory=dict)
    unfinished: str = ""
    method: str = ""


def comparable(subjects: Sequence[Subject]) -> bool:
    """Whether all that have scores were measured on the same images by the same protocol."""
    return len({(s.record.scores.measure, s.record.measured_on) for s in subjects if s.record.scores}) <= 1


def commit_of(environment: Mapping[str, Any]) -> str:
    """The commit of an environment, or of a time that a run was resumed, in words; empty if unknown."""
    commit = environment.get("commit")
    return f"{commit}{' with changes' if environment.get('changed') else ''}" if commit else ""
