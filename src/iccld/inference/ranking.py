"""Ranking of frames for labeling: selects uncertain frames that differ from each other.

Uncertainty alone could select ten copies of one difficult scene. Therefore, frames are selected one after another. Each
time, the selected frame has the largest product of uncertainty score and distance to the nearest frame that is already
selected. Distances are computed between embeddings. The product follows maximal marginal relevance
(Carbonell and Goldstein 1998, *The Use of MMR, Diversity-Based Reranking*). The distance follows the k-center rule for
active learning (Sener and Savarese 2018, *Active Learning for Convolutional Neural Networks: A Core-Set Approach*).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from iccld.errors import InputError
from iccld.escaping import in_csv
from iccld.files import AnyPath, write_text
from iccld.inference.segmenter import PredictSettings, Segmenter, predict_image
from iccld.models.iccld import ICCLD
from iccld.models.images import to_bytes
from iccld.models.prediction import Prediction

Score = Literal["entropy", "mutual_information", "margin"]
Vector = Float32[np.ndarray, " d"]

_CELLS = (4, 8)
_THUMBNAIL = (16, 8)  # width and height in pixels


@dataclass(frozen=True)
class Ranked:
    """One frame of a ranking.

    ``index`` is the frame's index in the input order, and ``score`` the uncertainty from 0 (certain) to 1 (most
    uncertain). ``neighbor`` is the index of the nearest frame that was selected before. ``distance`` is the distance
    between the two embeddings, from 0 (identical) to 2. For the first frame, ``neighbor`` and ``distance`` are
    ``None``.
    """

    index: int
    score: float
    distance: float | None
    neighbor: int | None


def score_prediction(prediction: Prediction, score: Score = "entropy") -> float:
    """Returns the mean uncertainty of an image's pixels, from 0 (certain) to 1 (most uncertain).

    ``entropy`` is the entropy of the class probabilities, divided by its maximum log k. ``mutual_information`` is the
    part of the entropy that comes from disagreement between noise draws, also divided by log k. ``margin`` is 1 −
    (highest − second-highest probability).
    """
    if score == "entropy":
        return float(prediction.relative_uncertainty.mean(dtype=np.float64))
    if score == "mutual_information":
        return float(prediction.relative_mutual_information.mean(dtype=np.float64))
    if len(prediction.probabilities) < 2:
        return 0.0
    second, first = np.partition(prediction.probabilities, -2, axis=0)[-2:]
    return float(1 - (first - second).mean(dtype=np.float64))


def predict_and_embed(
    model: Segmenter, image: Any, settings: PredictSettings | None = None
) -> tuple[Prediction, Vector]:
    """Returns the prediction of an image and an embedding of unit length; near-duplicates have close embeddings.

    For an ``ICCLD`` model, the embedding is the image coder's features at stride 32, averaged over the image. A forward
    hook reads these features at no extra cost. Exported models return no features. For an exported model, the embedding
    consists of coarse maps of the class probabilities and a small gray copy of the image.
    """
    image = to_bytes(image)
    if not isinstance(model, ICCLD):
        prediction = predict_image(model, image, settings)
        return prediction, describe_without_features(image, prediction)
    means: list[Tensor] = []

    def catch(module: Any, inputs: Any, features: dict[int, Tensor]) -> None:
        means.append(features[32].float().mean(dim=(0, 2, 3)))

    handle = model.image_coder.register_forward_hook(catch)
    try:
        prediction = predict_image(model, image, settings)
    finally:
        handle.remove()
    return prediction, _unit(
        torch.stack(means).mean(dim=0).cpu().numpy()
    )  # ``means`` has one entry per sliding window, appended by the hook


def describe_without_features(image: UInt8[np.ndarray, "h w 3"], prediction: Prediction) -> Vector:
    """Returns an embedding of unit length from coarse class probability maps and a gray thumbnail, equally weighted."""
    probabilities = torch.from_numpy(prediction.probabilities)[None]
    places = F.adaptive_avg_pool2d(probabilities, _CELLS).flatten().numpy()
    gray = cv2.cvtColor(cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return _unit(np.concatenate([_unit(places), _unit(gray.astype(np.float32).ravel())]))


def _unit(vector: Vector) -> Vector:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector


def rank(
    scores: Sequence[float], embeddings: Float[np.ndarray, "n d"], *, top: int, diversity: float = 1.0
) -> list[Ranked]:
    """Orders frames by score × distance^diversity.

    The distance is the Euclidean distance between the embeddings of a frame and of the nearest frame that was selected
    before. The first ``top`` frames are selected one by one. The remaining frames are sorted by the same product, but
    with their distances to the first ``top`` frames only. Thus, n frames need n × top distances instead of n². Frames
    with equal products keep their order. With ``diversity`` 0, only the scores matter. A larger ``diversity`` gives the
    scores less weight. Raises ``InputError`` if ``top`` or ``diversity`` is out of range.
    """
    if top < 1:
        raise InputError(f"top is {top}; give 1 or more")
    if not 0 <= diversity < float("inf"):
        raise InputError(f"diversity is {diversity}; give 0 (uncertainty alone) or more")
    values = np.asarray(scores, dtype=np.float64)
    vectors = embeddings.astype(np.float64)
    nearest = np.full(len(values), np.inf)
    neighbors = np.full(len(values), -1)
    left = np.ones(len(values), dtype=bool)
    order: list[Ranked] = []

    def take(index: int) -> None:
        first = neighbors[index] < 0
        distance, neighbor = (None, None) if first else (float(nearest[index]), int(neighbors[index]))
        order.append(Ranked(index, float(values[index]), distance, neighbor))
        left[index] = False

    for _ in range(min(top, len(values))):
        gains = values if not order else values * nearest**diversity
        chosen = int(np.where(left, gains, -1.0).argmax())
        take(chosen)
        distances = np.linalg.norm(vectors - vectors[chosen], axis=1)
        closer = distances < nearest
        nearest[closer], neighbors[closer] = distances[closer], chosen
    for index in np.argsort(-values * nearest**diversity, kind="stable"):
        if left[index]:
            take(int(index))
    return order


def ranking_rows(
    order: Sequence[Ranked], names: Sequence[tuple[str, int | None]]
) -> list[dict[str, str | int | float | None]]:
    """Returns a ranking as rows with rank, file, frame, score, distance and neighbor. Missing values are ``None``.

    ``names`` contains, in input order, the file and the frame number of each frame. The frame number is ``None`` for an
    image file.
    """
    return [
        {
            "rank": place,
            "file": names[item.index][0],
            "frame": names[item.index][1],
            "score": item.score,
            "distance": item.distance,
            "neighbor": None if item.neighbor is None else frame_title(*names[item.neighbor]),
        }
        for place, item in enumerate(order, start=1)
    ]


def write_ranking(path: AnyPath, order: Sequence[Ranked], names: Sequence[tuple[str, int | None]]) -> Path:
    """Writes the rows of ``ranking_rows`` as CSV, with six decimal places, and returns the path."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["rank", "file", "frame", "score", "distance", "neighbor"])
    for row in ranking_rows(order, names):
        table.writerow(
            [f"{value:.6f}" if isinstance(value, float) else in_csv(value) for value in row.values()]
        )
    return write_text(path, text.getvalue())


def frame_title(file: str, frame: int | None) -> str:
    """Returns the display name of a frame, such as ``clip.mp4#120``. For an image file, this is the file name."""
    return file if frame is None else f"{file}#{frame}"
