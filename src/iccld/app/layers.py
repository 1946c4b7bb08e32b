"""What the page draws: layers over the image, the legend, and how far two models agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from iccld.app.answers import Answer, Answers
from iccld.app.models import AppModel
from iccld.inference.rendering import Image, LabelMap, heat_map, overlay
from iccld.labels import IGNORE, LabelSpace

Layer = Literal["classes", "uncertainty"]


@dataclass(frozen=True)
class Drawing:
    """How an answer is drawn.

    Attributes:
        opacity: weight of the layer, from 0 (the image alone) to 1 (the layer alone).
        layer: class colors, or uncertainty as heat.
        hidden: names of classes whose pixels show the image alone.
    """

    opacity: float = 0.5
    layer: Layer = "classes"
    hidden: frozenset[str] = frozenset()


def draw(answers: Answers, index: int, drawing: Drawing) -> Image:
    """Draws the answer of one model, at the size of the pictures on the page."""
    answer = answers.answers[index]
    return compose(answers.view, answer.view_labels, answer.view_levels, answer.model.shown, drawing)


def compose(image: Image, labels: LabelMap, levels: LabelMap, space: LabelSpace, drawing: Drawing) -> Image:
    """Lays a layer over an image.

    Args:
        image: RGB.
        labels: class indices.
        levels: uncertainty, 0 to 255.
        space: names and colors of the classes.
        drawing: opacity, layer, hidden classes.
    """
    table = np.full(256, IGNORE, np.uint8)
    table[: len(space)] = [IGNORE if n in drawing.hidden else i for i, n in enumerate(space.names)]
    visible: LabelMap = table[labels]
    if drawing.layer == "classes":
        return overlay(image, visible, space, opacity=drawing.opacity)
    heat = cv2.addWeighted(image, 1 - drawing.opacity, heat_map(levels / np.float32(255)), drawing.opacity, 0)
    return np.where((visible != IGNORE)[..., None], heat, image)


@dataclass(frozen=True)
class LegendEntry:
    """A class in the legend.

    Attributes:
        name: of the class.
        color: RGB.
        shares: of the image's pixels, in [0, 1], one for each model; None where a model does not know the class.
    """

    name: str
    color: tuple[int, int, int]
    shares: tuple[float | None, ...]

    @property
    def occurs(self) -> bool:
        """Whether some pixel has this class."""
        return any(self.shares)

    @property
    def text(self) -> str:
        """Name and shares: ``road 41.2 %``, or ``road 41.2 / 39.9 %`` for two models."""
        if not self.occurs:
            return self.name
        shares = ["–" if share is None else _percent(share) for share in self.shares]
        return f"{self.name} {' / '.join(shares)} %"


def legend(models: Sequence[AppModel], answers: Answers | None = None) -> list[LegendEntry]:
    """The classes of all models, those that occur first and the larger share before the smaller.

    Args:
        models: of the page.
        answers: what they said; without, classes are in the order of their models and none occurs.
    """
    shares: list[dict[str, float]] = []
    for index, model in enumerate(models):
        counts = np.zeros(256, np.int64)
        total = 1
        if answers is not None:
            labels = answers.answers[index].labels
            counts, total = np.bincount(labels.ravel(), minlength=256), labels.size
        shares.append({name: float(counts[i] / total) for i, name in enumerate(model.shown.names)})
    colors: dict[str, tuple[int, int, int]] = {}
    for model in models:
        for label_class in model.shown.classes:
            colors.setdefault(label_class.name, label_class.color)
    entries = [LegendEntry(n, c, tuple(s.get(n) for s in shares)) for n, c in colors.items()]
    return sorted(entries, key=lambda entry: -max(share or 0 for share in entry.shares))


def agreement(first: Answer, second: Answer) -> float | None:
    """Share of pixels, in [0, 1], that two models label alike.

    Where their classes differ, the finer ones are folded into the coarser, and pixels of classes that the other
    model does not know are left out; None if none is left.
    """
    fine, coarse = sorted((first, second), key=lambda answer: -len(answer.model.shown))
    table = np.array(fine.model.shown.lut_to(coarse.model.shown), np.uint8)
    folded = table[fine.labels]
    known = (folded != IGNORE) & np.isin(coarse.labels, table)
    return float((folded == coarse.labels)[known].mean()) if known.any() else None


def _percent(share: float) -> str:
    return "<0.1" if 0 < share < 0.0005 else f"{share * 100:.1f}"
