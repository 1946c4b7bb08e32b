"""The app's models and their predictions, which are stored so that images can be redrawn without running a model."""

from __future__ import annotations

import dataclasses
import io
import json
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image as PillowImage

from iccld.documents import Length, Range
from iccld.drawing import Image, LabelMap, colorize, draw_legend, overlay, paint_levels, to_levels
from iccld.errors import InputError
from iccld.inference import rendering
from iccld.inference.exported import ExportedSegmenter
from iccld.inference.segmenter import PredictSettings, Segmenter, load_segmenter, predict_image
from iccld.labels import IGNORE, LabelSpace
from iccld.models.iccld import ICCLD
from iccld.models.prediction import Prediction
from iccld.models.settings import Precision

MAX_STEPS, MAX_DRAWS = 8, 16
VIEW_SIDE = 1600
"""Maximum height and width in pixels of images on the page. Downloads have the size of the original image."""


@dataclass(frozen=True)
class AppModel:
    """A model that the app has loaded. ``shown`` is the model's label space with the colors that the page uses."""

    name: str
    segmenter: Segmenter
    shown: LabelSpace
    device: str = "cpu"
    precision: Precision = "auto"

    def predict(self, image: np.ndarray, steps: int, draws: int) -> Prediction:
        """Segments one RGB image (h, w, 3), uint8. An exported model ignores ``steps`` and ``draws``."""
        steps, draws = self.fixed or (steps, draws)
        return predict_image(self.segmenter, image, PredictSettings(steps, draws, precision=self.precision))

    @property
    def fixed(self) -> tuple[int, int] | None:
        """Numbers K of steps and N of noise draws that are stored in an exported model. ``None`` for other models."""
        model = self.segmenter
        return (model.steps, model.draws) if isinstance(model, ExportedSegmenter) else None

    @property
    def table(self) -> rendering.Table:
        """Table from class indices to the ids in downloaded label maps: trainIds, or class indices without trainIds."""
        return rendering.index_to_id(self.segmenter.label_space, "train")

    @property
    def classes(self) -> list[dict[str, Any]]:
        """``id`` in downloaded label maps, ``name`` and RGB ``color`` on the page of each class."""
        return rendering.class_list(self.shown, self.table)

    @property
    def settings_note(self) -> str:
        """Text for the user if K and N have no effect on this model. The text is empty if K and N have an effect."""
        if self.fixed is not None:
            return f"{self.name} is an exported file: K = {self.fixed[0]} and N = {self.fixed[1]} are fixed in it."
        if isinstance(self.segmenter, ICCLD) and not self.segmenter.spec.diffusion:
            return f"{self.name} was trained without diffusion: K and N change nothing."
        return ""


def load_models(
    sources: Sequence[str], *, device: str = "auto", threads: int = 0, precision: Precision = "auto"
) -> list[AppModel]:
    """Loads the models of the app and runs each once on a small gray image, so that the first request is not slow.

    See ``iccld.inference.segmenter.load_segmenter`` for the form of ``sources``, ``device`` and ``threads``, and
    ``iccld.models.settings.PredictSettings`` for ``precision``. If a class of a later model also occurs in the first
    model, the page shows the class in the color of the first model.
    """
    models: list[AppModel] = []
    for source, name in zip(sources, short_names(sources), strict=True):
        segmenter = load_segmenter(source, device=device, threads=threads)
        shown = in_colors_of(models[0].shown if models else segmenter.label_space, segmenter.label_space)
        where = next(segmenter.parameters()).device.type if isinstance(segmenter, ICCLD) else device
        model = AppModel(name, segmenter, shown, "cpu" if where == "auto" else where, precision)
        model.predict(np.full((64, 96, 3), 128, np.uint8), 1, 1)
        models.append(model)
    return models


def short_names(sources: Sequence[str]) -> list[str]:
    """Returns a short name for each model, such as the last part of the model's path.

    If models share the last part, more parts of each path are used. If models have the same path, a number is added.
    """
    parts = [Path(source).resolve().parts if Path(source).exists() else (source,) for source in sources]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-count:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{p[-1]} ({index})" for index, p in enumerate(parts, start=1)]


def in_colors_of(first: LabelSpace, space: LabelSpace) -> LabelSpace:
    """Returns a copy of ``space`` with the colors of ``first`` for all classes whose names also occur in ``first``."""
    colors = dict(zip(first.names, first.palette, strict=True))
    classes = tuple(dataclasses.replace(c, color=colors.get(c.name, c.color)) for c in space.classes)
    return LabelSpace(space.name, classes)


@dataclass(frozen=True)
class Drawing:
    """Settings for drawing a prediction over its image.

    ``layer`` is the map to draw, and ``opacity`` is the opacity of this map in percent. Pixels of the classes in
    ``hidden`` show only the image.
    """

    opacity: Annotated[int, Range(0, 100)] = 50
    layer: Literal["classes", "uncertainty"] = "classes"
    hidden: Annotated[tuple[str, ...], Length(512)] = ()


@dataclass(frozen=True)
class Settings(Drawing):
    """Number of sampling steps K and of noise draws N. The inherited drawing settings are used only for videos."""

    steps: Annotated[int, Range(1, MAX_STEPS)] = 1
    draws: Annotated[int, Range(1, MAX_DRAWS)] = 1


@dataclass(frozen=True)
class Answer:
    """The prediction of one model for an image, and the computing time in seconds.

    ``labels`` (class indices) and ``levels`` (uncertainty from 0 to 255) have the image's size. ``view_labels`` and
    ``view_levels`` are the same maps, scaled to the size of the image shown on the page.
    """

    model: AppModel
    labels: LabelMap
    levels: LabelMap
    view_labels: UInt8[np.ndarray, "h2 w2"]
    view_levels: UInt8[np.ndarray, "h2 w2"]
    seconds: float


@dataclass(frozen=True)
class Answers:
    """The predictions of all models for one image. ``view`` is the image in the size shown on the page."""

    name: str
    view: Image
    answers: tuple[Answer, ...]

    @property
    def num_bytes(self) -> int:
        """Memory of the image and all maps in bytes."""
        maps = [m for a in self.answers for m in (a.labels, a.levels, a.view_labels, a.view_levels)]
        return self.view.nbytes + sum(m.nbytes for m in maps)

    def find(self, index: int) -> Answer:
        """Returns the prediction of a model. Raises ``InputError`` if no model has this index."""
        if index >= len(self.answers):
            raise InputError("There is no such model")
        return self.answers[index]

    def draw(self, index: int, drawing: Drawing) -> Image:
        """Draws a model's prediction over the view. Raises ``InputError`` if no model has this index."""
        answer = self.find(index)
        return compose(self.view, answer.view_labels, answer.view_levels, answer.model.shown, drawing)


def answer_image(
    models: Sequence[AppModel], image: Image, name: str, *, steps: int, draws: int, view_side: int = VIEW_SIDE
) -> Answers:
    """Segments an RGB image with every model. Exported models ignore ``steps`` and ``draws``.

    ``view_side`` is the maximum height and width in pixels of the image on the page.
    """
    answers = []
    for model in models:
        start = time.perf_counter()
        prediction = model.predict(image, steps, draws)
        seconds = time.perf_counter() - start
        labels, levels = prediction.labels, to_levels(prediction.relative_uncertainty)
        views = _shrink(labels, view_side, cv2.INTER_NEAREST), _shrink(levels, view_side, cv2.INTER_AREA)
        answers.append(Answer(model, labels, levels, *views, seconds))
    return Answers(name, _shrink(image, view_side, cv2.INTER_AREA), tuple(answers))


def compose(image: Image, labels: LabelMap, levels: LabelMap, space: LabelSpace, drawing: Drawing) -> Image:
    """Draws a prediction over an RGB image as ``drawing`` specifies. ``levels`` are uncertainties from 0 to 255."""
    table = np.full(256, IGNORE, np.uint8)
    table[: len(space)] = [IGNORE if n in drawing.hidden else i for i, n in enumerate(space.names)]
    visible: LabelMap = table[labels]
    opacity = drawing.opacity / 100
    if drawing.layer == "classes":
        return overlay(image, visible, space, opacity=opacity)
    heat = cv2.addWeighted(image, 1 - opacity, paint_levels(levels), opacity, 0)
    return np.where((visible != IGNORE)[..., None], heat, image)


def pack_masks(answers: Answers) -> tuple[str, bytes]:
    """Returns the name and the content of a zip file with the maps of each model. The maps have the size of the image.

    The name is ``NAME_masks.zip``. For one model, the zip file contains ``labels/NAME.png``, ``color/NAME.png``,
    ``uncertainty/NAME.png``, ``classes.json`` and ``legend.png``, as written by ``iccld predict``. For two models, the
    zip file contains one folder with these files per model.
    """
    stem = answers.name.rpartition(".")[0]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # not compressed, because PNG files are already compressed
        for number, answer in enumerate(answers.answers, start=1):
            # Folders are numbered, because model names can contain characters that are invalid in file names.
            prefix = f"model{number}/" if len(answers.answers) > 1 else ""
            space, table = answer.model.segmenter.label_space, answer.model.table
            classes = json.dumps(rendering.class_list(space, table), indent=2)
            archive.writestr(f"{prefix}{rendering.CLASSES}", f"{classes}\n")
            pictures = {
                rendering.LEGEND: draw_legend(space),
                f"labels/{stem}.png": table[answer.labels],
                f"color/{stem}.png": colorize(answer.labels, space),
                f"uncertainty/{stem}.png": paint_levels(answer.levels),
            }
            for name, picture in pictures.items():
                archive.writestr(f"{prefix}{name}", _encode(picture, "PNG", compress_level=1))
    return f"{stem}_masks.zip", buffer.getvalue()


def encode_labels(answer: Answer) -> bytes:
    """Encodes a label map as gray PNG, with the ids of ``AppModel.classes``."""
    return _encode(answer.model.table[answer.labels], "PNG", compress_level=1)


def encode_view(picture: Image) -> bytes:
    """Encodes an image shown on the page as JPEG without chroma subsampling, so that class borders stay sharp."""
    return _encode(picture, "JPEG", quality=92, subsampling=0)


def _encode(picture: np.ndarray, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def _shrink(array: np.ndarray, side: int, interpolation: int) -> UInt8[np.ndarray, "..."]:
    scale = side / max(array.shape[:2])
    if scale >= 1:
        return array
    height, width = (max(1, round(extent * scale)) for extent in array.shape[:2])
    return np.asarray(cv2.resize(array, (width, height), interpolation=interpolation), np.uint8)
