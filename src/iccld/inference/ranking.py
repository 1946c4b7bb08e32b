"""What to label next: frames that the model is unsure of, and that differ from each other.

Uncertainty alone picks ten copies of one difficult scene. So frames are chosen one after the other, each by its
score times its distance to the nearest frame that was chosen before: the idea of maximal marginal relevance (Carbonell
and Goldstein 1998, *The Use of MMR, Diversity-Based Reranking*), with the distance of the k-center rule for active
learning (Sener and Savarese 2018, *Active Learning for Convolutional Neural Networks: A Core-Set Approach*).
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
_THUMBNAIL = (16, 8)  # width, height


@dataclass(frozen=True)
class Ranked:
    """A frame in its place, by its index in the order given, with its uncertainty from 0 (sure) to 1 (clueless).

    ``distance`` is the one to ``neighbor``, the nearest of the frames chosen before it, from 0 (the same) to 2; the
    first frame has neither.
    """

    index: int
    score: float
    distance: float | None
    neighbor: int | None


def score_prediction(prediction: Prediction, score: Score = "entropy") -> float:
    """One number, from 0 (sure) to 1 (clueless), for an image: the mean over its pixels.

    A pixel's score is the ``entropy`` of the class probabilities, divided by its maximum; ``mutual_information``, the
    part of it that comes from disagreement between draws, on the same scale; or ``margin``, 1 − the lead of the most
    probable class.
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
    """Predicts an image and describes it by a vector of length 1; those of near-duplicates lie close together.

    The vector of a model of ours is the mean over the image of what its image coder gives at stride 32; it is caught
    on the way, at no cost. Exported models show no features: theirs is made of coarse maps of the class probabilities
    and a small gray copy of the image.
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
    return prediction, _unit(torch.stack(means).mean(dim=0).cpu().numpy())  # several with sliding windows


def describe_without_features(image: UInt8[np.ndarray, "h w 3"], prediction: Prediction) -> Vector:
    """A vector of length 1 from where the classes are and what the image looks like from afar, in equal parts."""
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
    """Orders frames by score × distance^diversity, where the distance is the one to the nearest frame chosen before.

    Distances are Euclidean. The first ``top`` frames are chosen one by one; the rest follow by the same product, with
    their distances to those, so that a long list costs n × top distances and not n². Equals keep their order. With a
    diversity of 0 the scores' order counts alone; the larger it is, the less the scores count.
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
    """Lists a ranking as rows: rank, file, frame, score, distance, neighbor; None where there is none.

    ``names`` has the file, and the number of the frame in a video or None, of every frame in the order given.
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
    """Writes the rows of ``ranking_rows`` as CSV, numbers to six places."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["rank", "file", "frame", "score", "distance", "neighbor"])
    for row in ranking_rows(order, names):
        table.writerow(
            [f"{value:.6f}" if isinstance(value, float) else in_csv(value) for value in row.values()]
        )
    return write_text(path, text.getvalue())


def frame_title(file: str, frame: int | None) -> str:
    """``photo.png``, or ``clip.mp4#120`` for a frame of a video."""
    return file if frame is None else f"{file}#{frame}"
