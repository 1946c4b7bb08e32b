"""Answers kept for the page: opacity, classes and layers are drawn from them without predicting again."""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from iccld.app.models import AppModel
from iccld.errors import InputError
from iccld.inference.rendering import Image, LabelMap

VIEW_SIDE = 1600
"""Pixels of the longer side of the pictures on the page; downloads have the image's size."""


@dataclass(frozen=True)
class Answer:
    """What one model said of an image.

    Attributes:
        model: which one.
        labels: its class indices, at the image's size.
        levels: its uncertainty, 0 to 255, at the image's size.
        view_labels: the same, at the size of the picture on the page.
        view_levels: the same.
        seconds: time that predicting took.
        steps: K.
        draws: N.
    """

    model: AppModel
    labels: LabelMap
    levels: LabelMap
    view_labels: UInt8[np.ndarray, "h2 w2"]
    view_levels: UInt8[np.ndarray, "h2 w2"]
    seconds: float
    steps: int
    draws: int


@dataclass(frozen=True)
class Answers:
    """What all models of the page said of an image.

    Attributes:
        name: of the image's file.
        view: the image, at the size of the picture on the page.
        answers: one for each model.
    """

    name: str
    view: Image
    answers: tuple[Answer, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        height, width = self.answers[0].labels.shape
        return height, width

    @property
    def num_bytes(self) -> int:
        """Memory of the arrays."""
        maps = [m for a in self.answers for m in (a.labels, a.levels, a.view_labels, a.view_levels)]
        return self.view.nbytes + sum(m.nbytes for m in maps)


def answer_image(
    models: Sequence[AppModel], image: Image, name: str, *, steps: int, draws: int, view_side: int = VIEW_SIDE
) -> Answers:
    """Asks every model about an image.

    Args:
        models: the models of the page.
        image: RGB.
        name: of its file.
        steps: K, of models that let one choose.
        draws: N, the same.
        view_side: longer side of the pictures on the page.

    Raises:
        InputError: a model cannot take the image, or memory ran out.
    """
    answers = []
    for model in models:
        start = time.perf_counter()
        prediction = model.predict(image, steps, draws)
        seconds = time.perf_counter() - start
        levels = to_levels(prediction.relative_uncertainty)
        views = (
            _shrink(prediction.labels, view_side, cv2.INTER_NEAREST),
            _shrink(levels, view_side, cv2.INTER_AREA),
        )
        answers.append(
            Answer(model, prediction.labels, levels, *views, seconds, *model.effective(steps, draws))
        )
    return Answers(name, _shrink(image, view_side, cv2.INTER_AREA), tuple(answers))


def to_levels(relative_uncertainty: Float32[np.ndarray, "h w"]) -> LabelMap:
    """Relative uncertainty, from 0 to 1, in 256 levels: all that its pictures show, in a quarter of the memory."""
    return (np.clip(relative_uncertainty, 0, 1) * 255).round().astype(np.uint8)


def _shrink(array: np.ndarray, side: int, interpolation: int) -> UInt8[np.ndarray, "..."]:
    height, width = array.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return array
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(array, size, interpolation=interpolation), np.uint8)


class AnswerStore:
    """Keeps the newest answers of all visitors within a limit of memory; the newest one is always kept.

    Args:
        max_bytes: of all arrays together.
    """

    def __init__(self, max_bytes: int = 2**30) -> None:
        self.max_bytes = max_bytes
        self._kept: OrderedDict[str, Answers] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, answers: Answers, replaces: str | None = None) -> str:
        """Keeps answers and gives the key to them.

        Args:
            answers: new ones.
            replaces: key of those that are no longer needed.
        """
        key = uuid.uuid4().hex
        with self._lock:
            self._kept.pop(replaces or "", None)
            self._kept[key] = answers
            total = sum(kept.num_bytes for kept in self._kept.values())
            while total > self.max_bytes and len(self._kept) > 1:
                total -= self._kept.popitem(last=False)[1].num_bytes
        return key

    def get(self, key: str | None) -> Answers:
        """The answers of a key.

        Raises:
            InputError: they had to make room for others.
        """
        with self._lock:
            if key is None or key not in self._kept:
                raise InputError("This answer is no longer kept; upload the image again")
            self._kept.move_to_end(key)
            return self._kept[key]

    def drop(self, key: str | None) -> None:
        """Forgets the answers of a key, if they are still kept."""
        with self._lock:
            self._kept.pop(key or "", None)
