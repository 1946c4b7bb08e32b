"""The models behind the page: how they are called, what they share, and which of their settings can be moved."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from iccld.inference.exported import ExportedSegmenter
from iccld.inference.segmenter import PredictSettings, Segmenter, load_segmenter, predict_image
from iccld.labels import LabelSpace
from iccld.models.iccld import ICCLD
from iccld.models.prediction import Prediction


@dataclass(frozen=True)
class AppModel:
    """A model of the page.

    Attributes:
        name: what the page calls it.
        segmenter: predicts.
        shown: its classes in the colors of the page: those of the first model, where both have a class.
        device: where it computes.
        precision: what it computes in; see ``iccld.inference.segmenter.PredictSettings``.
    """

    name: str
    segmenter: Segmenter
    shown: LabelSpace
    device: str = "cpu"
    precision: str = "auto"
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def predict(self, image: np.ndarray, steps: int, draws: int) -> Prediction:
        """Predicts one image, one at a time; an exported model keeps its own steps and draws.

        Args:
            image: RGB (h, w, 3), uint8.
            steps: K.
            draws: N.
        """
        steps, draws = self.effective(steps, draws)
        settings = PredictSettings(steps=steps, draws=draws, precision=self.precision)
        with self._lock:
            return predict_image(self.segmenter, image, settings)

    def effective(self, steps: int, draws: int) -> tuple[int, int]:
        """The K and N that a prediction really has."""
        fixed = self.fixed
        return fixed if fixed is not None else (steps, draws)

    @property
    def fixed(self) -> tuple[int, int] | None:
        """K and N of an exported model, None where they can be chosen."""
        if isinstance(self.segmenter, ExportedSegmenter):
            return self.segmenter.steps, self.segmenter.draws
        return None

    @property
    def settings_note(self) -> str:
        """A sentence about K and N where moving them does not do what one expects; empty otherwise."""
        if self.fixed is not None:
            return f"{self.name} is an exported file: K = {self.fixed[0]} and N = {self.fixed[1]} are fixed in it."
        if isinstance(self.segmenter, ICCLD) and not self.segmenter.spec.diffusion:
            return f"{self.name} was trained without diffusion: K and N change nothing."
        return ""


def load_models(
    sources: Sequence[str], *, device: str = "auto", threads: int = 0, precision: str = "auto"
) -> list[AppModel]:
    """Loads the models of the page and has each predict a small gray image, so that the first visitor does not wait.

    Args:
        sources: saved models, hub ids or exported files.
        device: see ``iccld.inference.segmenter.load_segmenter``.
        threads: the same.
        precision: see ``iccld.inference.segmenter.PredictSettings``.

    Raises:
        InputError: no such model or device.
    """
    models: list[AppModel] = []
    for source, name in zip(sources, short_names(sources), strict=True):
        segmenter = load_segmenter(source, device=device, threads=threads)
        space = segmenter.label_space
        shown = in_colors_of(models[0].shown, space) if models else space
        where = next(segmenter.parameters()).device.type if isinstance(segmenter, ICCLD) else device
        model = AppModel(name, segmenter, shown, "cpu" if where == "auto" else where, precision)
        model.predict(np.full((64, 96, 3), 128, np.uint8), 1, 1)
        models.append(model)
    return models


def short_names(sources: Sequence[str]) -> list[str]:
    """The last part of each path, or as much more of it as tells two models apart."""
    parts = [Path(source).resolve().parts if Path(source).exists() else (source,) for source in sources]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-count:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(p[-1:])} ({index})" for index, p in enumerate(parts, start=1)]


def in_colors_of(first: LabelSpace, space: LabelSpace) -> LabelSpace:
    """A space whose classes have the colors of the classes of the same name in another."""
    colors = dict(zip(first.names, first.palette, strict=True))
    classes = tuple(dataclasses.replace(c, color=colors.get(c.name, c.color)) for c in space.classes)
    return LabelSpace(space.name, classes)
