"""Data of a report: runs and evaluations, and the file ``report.json`` with the results of an evaluation."""

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
    """The calibration of a model's confidence.

    ``figures`` are the metrics of ``iccld.inference.review.evaluate_trust``, with ``None`` instead of NaN. The bins of
    confidence have equal widths from 0 to 1. ``pixels``, ``confidence`` and ``accuracy`` are the number of pixels, the
    mean confidence and the fraction of correct pixels of each bin. For empty bins, confidence and accuracy are
    ``None``.
    """

    figures: Mapping[str, float | None]
    pixels: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]

    @classmethod
    def of(cls, trust: Trust) -> Calibration:
        """Builds the calibration metrics and the reliability diagram from the accumulated data of an evaluation."""
        bins = trust.reliability
        pixels = [int(n) for n in bins.pixels.tolist()]

        def share(sums: Sequence[float]) -> tuple[float | None, ...]:
            return tuple(round(s / n, 5) if n else None for s, n in zip(sums, pixels, strict=True))

        figures = {k: None if v != v else round(v, 5) for k, v in trust.figures().items()}
        return cls(figures, tuple(pixels), share(bins.confidence.tolist()), share(bins.right.tolist()))


@dataclass(frozen=True)
class Example:
    """An example image of a report.

    ``name`` is the file name. ``role`` is the reason why the image was selected (best, worst, random). ``miou`` is the
    mIoU of this image in percent, or ``None`` without labels. ``panels`` maps titles to pictures as data URIs.
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
    """The results of an evaluation: scores, calibration, example images and environment.

    ``environment`` is the result of ``iccld.reporting.environment.describe_environment``. ``step`` is the training
    step of the evaluated weights, or ``None`` if the step is unknown or no run was evaluated. Before the first
    evaluation or without labels, ``scores`` and ``calibration`` are ``None``. Without labels, ``no_scores`` is a text
    with the reason. ``measured_on`` describes the evaluated images. ``legend`` contains the class names and RGB colors.
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
        """Writes ``report.json`` to the folder of a run and returns the path of the file."""
        plain = asdict(self) | {"scores": None if self.scores is None else self.scores.to_json()}
        return write_json(folder / RECORD, plain)


def has_findings(record: Record) -> bool:
    """Checks whether a record has scores or example images."""
    return record.scores is not None or bool(record.examples)


def read_record(folder: Path) -> Record | None:
    """Reads ``report.json`` in the folder of a run. Returns ``None`` if the file does not exist.

    Raises ``InputError`` if the file is not a valid record.
    """
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
    """Writes ``README.txt`` to a run's folder: explanations of the files, and the command that trains the run."""
    return write_text(folder / "README.txt", render("run_readme.txt.j2", run=str(folder), command=command))


@dataclass(frozen=True)
class Subject:
    """A run or an evaluation that a report shows. Its name must be unique within the report.

    ``facts`` are names and values for the table at the top of the report. ``table`` contains the columns of a run's
    ``metrics.csv``, and ``method`` is the method by which the run was trained. For an evaluation, both are empty.
    ``unfinished`` is the progress of an unfinished run as text.
    """

    name: str
    facts: Sequence[tuple[str, str]]
    record: Record
    table: Mapping[str, Sequence[float]] = field(default_factory=dict)
    unfinished: str = ""
    method: str = ""


def comparable(subjects: Sequence[Subject]) -> bool:
    """Checks whether all subjects with scores were evaluated on the same images by the same protocol."""
    return len({(s.record.scores.measure, s.record.measured_on) for s in subjects if s.record.scores}) <= 1


def commit_of(environment: Mapping[str, Any]) -> str:
    """Returns the git commit of an environment, or of one of its ``resumed`` entries, as text; empty if unknown."""
    commit = environment.get("commit")
    return f"{commit}{' with changes' if environment.get('changed') else ''}" if commit else ""
