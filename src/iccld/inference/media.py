"""Segmentation of image files: writes label maps, color maps, overlays and uncertainty maps to a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from iccld import drawing, remote
from iccld.data.description import Description
from iccld.data.image_files import read_image, write_png
from iccld.data.inputs import InputImage, naming
from iccld.drawing import Image
from iccld.errors import InputError
from iccld.files import AnyPath, printable, write_json
from iccld.inference import rendering
from iccld.inference.prefetch import read_ahead, write_behind
from iccld.inference.rendering import IdKind, Table
from iccld.inference.segmenter import PredictSettings, Segmenter, check_settings, predict_image
from iccld.labels import LabelSpace
from iccld.models.prediction import Prediction
from iccld.models.regions import find_regions, to_coco, to_shapes
from iccld.progress import track

OutputKind = Literal["labels", "color", "overlay", "uncertainty"]
OUTPUT_KINDS: tuple[OutputKind, ...] = ("labels", "color", "overlay", "uncertainty")
AnnotationKind = Literal["coco", "labelme"]
ANNOTATION_KINDS: tuple[AnnotationKind, ...] = ("coco", "labelme")
"""Formats of annotations of images: a COCO data set or a LabelMe file per image, as JSON."""
_SMALLEST_REGION = 20
"""Minimum number of pixels of an annotated region. Smaller regions are left out."""


def predict_files(
    model: Segmenter,
    images: Sequence[InputImage],
    out: AnyPath,
    *,
    write: Sequence[OutputKind | AnnotationKind] = OUTPUT_KINDS,
    ids: IdKind | Description = "train",
    settings: PredictSettings | None = None,
    finish: Callable[[InputImage, Prediction | None], None] = lambda image, prediction: None,
) -> list[str]:
    """Segments image files one by one and writes ``out/<kind>/<name>.png`` for each image, at the image's size.

    Annotations (``coco`` and ``labelme``) are written to ``out/<kind>/<name>.json``.

    ``out/classes.json`` and ``out/legend.png`` list the ids and colors of the classes. Existing files are replaced
    atomically. ``images`` come from ``iccld.data.inputs.find_inputs``. ``write`` selects the kinds of output. ``ids``
    selects the ids in the label maps (``rendering.IdKind``, or the ids of a data set's description). If an image cannot
    be read or segmented, the image is skipped. Returns one message for each skipped image, with the file and the
    reason. ``finish`` is called for each image after its outputs are written, with ``None`` for a skipped image.

    Raises ``InputError`` if an output cannot be written, a class has no id of the requested kind, ``out`` has
    predictions with other classes or ids, or ``settings`` differ from those of an exported model.
    """
    table = prepare(model, out, ids, settings)
    failures, is_explained = [], False
    work = read_ahead(images, lambda item: read_image(item.path))

    def write_outputs(item: InputImage, image: Image, prediction: Prediction) -> None:
        for kind in write:
            if kind != "coco" and kind != "labelme":
                picture = draw(kind, image, prediction, model.label_space, table)
                write_png(Path(out) / kind / f"{item.name}.png", picture)
        _write_annotations(item, prediction, model.label_space, out, write)
        finish(item, prediction)

    with write_behind() as submit:
        for item, result in track(work, len(images), "Predicting"):
            try:
                image = result()
                prediction = predict_image(model, image, settings)
            except InputError as error:
                failures.append(naming(item.title, error))
                finish(item, None)
                continue
            submit(partial(write_outputs, item, image, prediction))
            if not is_explained:
                rendering.write_class_key(out, model.label_space, table)
                is_explained = True
    return failures


def _write_annotations(
    item: InputImage,
    prediction: Prediction,
    space: LabelSpace,
    out: AnyPath,
    write: Sequence[OutputKind | AnnotationKind],
) -> None:
    """Writes the regions of at least 20 pixels in the annotation formats among ``write``."""
    kinds = [kind for kind in ANNOTATION_KINDS if kind in write]
    if not kinds:
        return
    labels, names = prediction.labels, space.names
    regions = find_regions(labels, prediction.probabilities, names, min_area=_SMALLEST_REGION)
    size = (labels.shape[0], labels.shape[1])
    for kind in kinds:
        path = Path(out) / kind / f"{item.name}.json"
        is_remote = remote.url_of(item.path) or remote.url_of(out)
        source = item.title if is_remote else printable(os.path.relpath(item.path, path.parent))
        coco = kind == "coco"
        write_json(path, to_coco(regions, names, size, source) if coco else to_shapes(regions, size, source))


def prepare(
    model: Segmenter, out: AnyPath, ids: IdKind | Description, settings: PredictSettings | None
) -> Table:
    """Checks the arguments of ``predict_files`` and returns the table from class indices to the ids in label maps."""
    check_settings(model, settings)
    table = rendering.index_to_id(model.label_space, ids)
    rendering.refuse_other_classes(out, model.label_space, table)
    return table


def draw(
    kind: OutputKind, image: Image, prediction: Prediction, space: LabelSpace, table: Table
) -> np.ndarray:
    """Draws one kind of output for an image.

    The prediction must have the image's size. ``table`` maps class indices to the ids in the label map. Returns a uint8
    array. The array is a label map (h, w) if ``kind`` is ``labels``, and an RGB image (h, w, 3) otherwise.
    """
    if kind == "labels":
        return np.asarray(table[prediction.labels])
    if kind == "color":
        return drawing.colorize(prediction.labels, space)
    if kind == "overlay":
        return drawing.overlay(image, prediction.labels, space)
    return drawing.heat_map(prediction.relative_uncertainty)
