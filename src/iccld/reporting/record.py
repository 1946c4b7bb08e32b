"""Data of a report: runs and evaluations, example images as small data URIs, and the file ``report.json``."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from iccld.data.interface import SegmentationDataset
from iccld.documents import Length, Range, build, read_json, reason
from iccld.drawing import heat_map
from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.files import write_json, write_text
from iccld.inference.review import Choice, Review, Trust
from iccld.inference.segmenter import PredictSettings, Segmenter, predict_image
from iccld.labels import IGNORE, LabelSpace
from iccld.metrics import Scores
from iccld.reporting.templates import render

RECORD = "report.json"
_LARGEST_RECORD = 64_000_000
_Channel = Annotated[int, Range(0, 255)]
_LONGEST_SIDE = 320  # longest side of an example image in pixels
# Colors of correct, wrong and unscored pixels. Color-blind readers can distinguish them, on light and on dark pages.
_ERROR_COLORS = ((214, 219, 224), (213, 94, 0), (40, 44, 52))


@dataclass(frozen=True)
class Calibration:
    """The calibration of a model's confidence. Pixels are grouped into equal bins of confidence from 0 to 1.

    Attributes:
        figures: Metrics of ``iccld.inference.review.evaluate_trust`` by name, with ``None`` instead of NaN.
        pixels: Number of pixels in each bin.
        confidence: Mean confidence of the pixels in each bin, or ``None`` for an empty bin.
        accuracy: Fraction of correct pixels in each bin, or ``None`` for an empty bin.
    """

    figures: Mapping[str, float | None]
    pixels: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]

    @classmethod
    def of(cls, trust: Trust) -> Calibration:
        """Builds the calibration from the data that an evaluation accumulated."""
        bins = trust.reliability
        pixels = [int(n) for n in bins.pixels.tolist()]

        def share(sums: Sequence[float]) -> tuple[float | None, ...]:
            return tuple(round(s / n, 5) if n else None for s, n in zip(sums, pixels, strict=True))

        figures = {k: None if v != v else round(v, 5) for k, v in trust.figures().items()}
        return cls(figures, tuple(pixels), share(bins.confidence.tolist()), share(bins.right.tolist()))


@dataclass(frozen=True)
class Example:
    """An example image of a report. ``name`` is the file name.

    ``role`` is the reason for the selection of the image: ``best``, ``worst`` or ``random``. ``miou`` is the mIoU of
    this image in percent, or ``None`` if there are no labels. ``panels`` maps titles to pictures, which are data URIs.
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
    evaluation, ``scores`` and ``calibration`` are ``None``. If the images have no labels, ``scores`` and
    ``calibration`` are ``None`` too, and ``no_scores`` is a text with the reason. ``measured_on`` describes the
    evaluated images. ``legend`` contains the class names and RGB colors.
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
    """Reads ``report.json`` of a run. Returns ``None`` if the file does not exist.

    Raises ``InputError`` if the file is not valid.
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
    """Writes ``README.txt`` to a run's folder. The file explains the other files and contains the training command."""
    return write_text(folder / "README.txt", render("run_readme.txt.j2", run=str(folder), command=command))


@dataclass(frozen=True)
class Subject:
    """A run or an evaluation that a report shows, with a name that is unique within the report.

    ``facts`` are names and values for the table at the top of the section about this subject. ``table`` contains the
    columns of a run's ``metrics.csv``, and ``method`` is the run's method. For an evaluation, ``table`` and ``method``
    are empty. ``unfinished`` is the run's progress as text, or empty if the run is finished.
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
    """Returns the git commit of an environment as text, or an empty string if the commit is unknown.

    If files were changed since the commit, the text ends with ``with changes``.
    """
    commit = environment.get("commit")
    return f"{commit}{' with changes' if environment.get('changed') else ''}" if commit else ""


def measured_record(
    model: Segmenter,
    dataset: SegmentationDataset,
    scores: Scores,
    review: Review,
    *,
    environment: Mapping[str, Any],
    measured_on: str,
    settings: PredictSettings | None = None,
) -> Record:
    """Builds the record of an evaluation. The example images are segmented again with ``settings`` and drawn."""
    space = review.protocol.space
    return Record(
        environment=environment,
        measured_on=measured_on,
        scores=scores,
        calibration=Calibration.of(review.trust),
        examples=draw_examples(model, dataset, review.choose(), space, settings),
        legend=tuple((c.name, c.color) for c in space.classes),
    )


def draw_examples(
    model: Segmenter,
    dataset: SegmentationDataset,
    choices: Sequence[Choice],
    space: LabelSpace,
    settings: PredictSettings | None = None,
) -> tuple[Example, ...]:
    """Segments and draws the chosen images. If a choice has an mIoU, the true labels and the errors are drawn too.

    Classes are mapped to ``space``, the label space of the protocol. If there is no evaluation, ``space`` is the label
    space of the model. ``settings`` must be those of the evaluation, so that images and scores agree.
    """
    to_space = np.array(model.label_space.lut_to(space), np.uint8)
    examples = []
    for choice in choices:
        image = dataset.image(choice.index)
        prediction = predict_image(model, image, settings)
        answer = to_space[prediction.labels]
        panels = {"image": photo_uri(image)}
        if choice.miou is not None:
            truth = np.array(dataset.label_space.lut_to(space), np.uint8)[dataset.label(choice.index)]
            panels["truth"] = labels_uri(truth, space.palette)
        panels["prediction"] = labels_uri(answer, space.palette)
        if choice.miou is not None:
            panels["errors"] = labels_uri(error_map(answer, truth), _ERROR_COLORS)
        panels["uncertainty"] = photo_uri(heat_map(prediction.relative_uncertainty))
        examples.append(Example(dataset.file_name(choice.index), choice.role, choice.miou, panels))
    return tuple(examples)


def error_map(answer: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Returns a map with 0 for correct, 1 for wrong and 2 for unscored pixels."""
    return np.where(truth == IGNORE, 2, answer != truth).astype(np.uint8)


def photo_uri(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """Encodes an RGB image as a data URI with a small JPEG."""
    return _uri(Image.fromarray(image), Image.Resampling.BOX, "JPEG", quality=82)


def labels_uri(labels: UInt8[np.ndarray, "h w"], palette: Sequence[tuple[int, int, int]]) -> str:
    """Encodes a label map as a data URI with a small palette PNG. Values beyond the palette are black."""
    picture = Image.fromarray(labels)
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(palette)] = palette
    picture.putpalette(colors.tobytes())
    return _uri(picture, Image.Resampling.NEAREST, "PNG", optimize=True)


def _uri(picture: Image.Image, method: Image.Resampling, kind: str, **options: int) -> str:
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), method)
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
