"""Example images for a report: image, true labels, prediction, errors and uncertainty as small data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from iccld.data.datasets import SegmentationDataset
from iccld.drawing import heat_map
from iccld.inference.review import Choice, Review
from iccld.inference.segmenter import PredictSettings, Segmenter, predict_image
from iccld.labels import IGNORE, LabelSpace
from iccld.metrics import Scores
from iccld.reporting.record import Calibration, Example, Record

_LONGEST_SIDE = 320
_QUALITY = 82
# Colors of correct, wrong and unscored pixels. Color-blind readers can distinguish them, on light and on dark pages.
_ERROR_COLORS = ((214, 219, 224), (213, 94, 0), (40, 44, 52))


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
    """Segments and draws the chosen images. If a choice has an mIoU, its true labels and errors are drawn too.

    Classes are mapped to ``space``, the label space of the protocol, or of the model if there is no evaluation.
    ``settings`` must be those of the evaluation, so that images and scores agree.
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
    return _uri(Image.fromarray(image), Image.Resampling.BOX, "JPEG", quality=_QUALITY)


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
