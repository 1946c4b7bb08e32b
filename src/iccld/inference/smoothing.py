"""Temporal smoothing: the class probabilities of a video, averaged over the past."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8

from iccld.errors import InputError
from iccld.models.prediction import Prediction

_CUT = 0.08
"""Mean difference of two thumbnails, of the whole range of gray, from which on they show different scenes. In CamVid,
frames that are 1/15 s apart differ by 0.022 at most (100 pairs), frames of different drives by 0.108 at least (some
2300 pairs)."""


class TemporalSmoothing:
    """Exponential smoothing: mean = strength × mean + (1 − strength) × probabilities, frame by frame.

    It starts anew at scene cuts, so that no scene bleeds into the next.

    Args:
        strength: from 0 (each frame alone) to below 1; the memory is about 1 / (1 − strength) frames long.

    Raises:
        InputError: another strength.
    """

    def __init__(self, strength: float) -> None:
        if not 0 <= strength < 1:
            raise InputError(f"smoothing is {strength}; give 0 (none) or more, below 1")
        self.strength = strength
        self._mean: Float32[np.ndarray, "k h w"] | None = None
        self._thumbnail: Float32[np.ndarray, "16 16"] | None = None

    def __call__(self, image: UInt8[np.ndarray, "h w 3"], prediction: Prediction) -> Prediction:
        """Takes the next frame and its prediction; gives the smoothed one.

        Labels and uncertainty are those of the smoothed probabilities; the disagreement of the draws stays the
        frame's own.
        """
        if self.strength == 0:
            return prediction
        thumbnail = _thumbnail(image)
        if (
            self._mean is None
            or self._mean.shape != prediction.probabilities.shape
            or self._thumbnail is None
            or float(np.abs(thumbnail - self._thumbnail).mean()) > _CUT
        ):
            self._mean = prediction.probabilities.copy()
        else:
            self._mean *= self.strength
            self._mean += (1 - self.strength) * prediction.probabilities
        self._thumbnail = thumbnail
        probabilities = torch.from_numpy(self._mean.copy())
        return dataclasses.replace(
            prediction,
            labels=probabilities.max(dim=0).indices.to(torch.uint8).numpy(),
            probabilities=probabilities.numpy(),
        )


def _thumbnail(image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "16 16"]:
    gray = cv2.cvtColor(cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return np.asarray(gray, dtype=np.float32) / 255
