"""Short vectors that say what an image looks like: near-duplicates lie close together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from torch import Tensor

from iccld.inference.segmenter import PredictSettings, Segmenter, predict_image
from iccld.models.iccld import ICCLD
from iccld.models.images import to_bytes
from iccld.models.prediction import Prediction

Vector = Float32[np.ndarray, " d"]
Embedded = tuple[Prediction, Vector]

_CELLS = (4, 8)
_THUMBNAIL = (16, 8)  # width, height


def predict_and_embed(model: Segmenter, settings: PredictSettings) -> Callable[[Any], Embedded]:
    """Makes a function that predicts an image and describes it by a vector of length 1.

    The vector of a model of ours is the mean over the image of what its image coder gives at stride 32; it is caught
    on the way, at no cost. Exported models show no features: theirs is made of coarse maps of the class probabilities
    and a small gray copy of the image.
    """
    if isinstance(model, ICCLD):
        return lambda image: _with_features(model, image, settings)

    def embed(image: Any) -> Embedded:
        image = to_bytes(image)
        prediction = predict_image(model, image, settings)
        return prediction, describe_without_features(image, prediction)

    return embed


def describe_without_features(image: UInt8[np.ndarray, "h w 3"], prediction: Prediction) -> Vector:
    """A vector of length 1 from where the classes are and what the image looks like from afar, in equal parts."""
    probabilities = torch.from_numpy(prediction.probabilities)[None]
    places = F.adaptive_avg_pool2d(probabilities, _CELLS).flatten().numpy()
    gray = cv2.cvtColor(cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return _unit(np.concatenate([_unit(places), _unit(gray.astype(np.float32).ravel())]))


def _with_features(model: ICCLD, image: Any, settings: PredictSettings) -> Embedded:
    means: list[Tensor] = []

    def catch(module: Any, inputs: Any, features: dict[int, Tensor]) -> None:
        means.append(features[32].float().mean(dim=(0, 2, 3)))

    handle = model.image_coder.register_forward_hook(catch)
    try:
        prediction = predict_image(model, image, settings)
    finally:
        handle.remove()
    return prediction, _unit(torch.stack(means).mean(dim=0).cpu().numpy())  # several with sliding windows


def _unit(vector: Vector) -> Vector:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector
