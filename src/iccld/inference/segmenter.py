"""Segmentation of single images: loads a model on a device and segments one image of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

from iccld import remote
from iccld.compute import choose_device as best_device
from iccld.errors import InputError
from iccld.exits import is_out_of_memory
from iccld.inference.exported import REFUSED_SUFFIXES, SUFFIXES, ExportedSegmenter, load_exported
from iccld.labels import LabelSpace
from iccld.mirrors import local_copy
from iccld.models.iccld import ICCLD
from iccld.models.images import Images, to_bytes
from iccld.models.prediction import Prediction
from iccld.models.settings import PredictSettings as PredictSettings
from iccld.models.settings import check_memory
from iccld.progress import busy
from iccld.resizing import resize_image
from iccld.threads import use_threads

Vector = Float32[np.ndarray, " d"]


@runtime_checkable
class Segmenter(Protocol):
    """Interface of models that segment images. ``iccld.models.iccld.ICCLD`` and exported models implement it."""

    @property
    def label_space(self) -> LabelSpace:
        """Label space that defines the model's class indices."""
        ...

    def predict(self, images: Images, *args: Any, **settings: Any) -> Prediction:
        """Segments RGB images. ``settings`` are the fields of ``PredictSettings``, except ``resize``."""
        ...


def load_segmenter(model: str, *, device: str = "auto", threads: int = 0) -> Segmenter:
    """Loads a model for prediction.

    ``model`` is a hub id, an exported file, or a folder that ``save_pretrained`` or a training run wrote. ``device`` is
    ``auto`` or a torch device such as ``cpu`` or ``cuda:1``. ``threads`` is the number of CPU threads. If ``threads``
    is 0, the fastest number is found by a trial, once per process. Raises ``InputError`` if the model or the device is
    not available, or ``threads`` is negative.
    """
    if threads < 0:
        raise InputError(f"threads is {threads}; give 0 (automatic) or more")
    if remote.url_of(model):
        if model.endswith(SUFFIXES["openvino"]):
            local_copy(Path(model).with_suffix(".bin"))  # the weights, beside the graph
        model = str(local_copy(model))
    if Path(model).suffix not in (*SUFFIXES.values(), *REFUSED_SUFFIXES):
        return load_model(model, device=device, threads=threads)
    with busy(f"opening {model}"):
        return load_exported(model, device=device, threads=threads)


def load_model(model: str, *, device: str = "auto", threads: int = 0) -> ICCLD:
    """Loads an ``ICCLD`` network from a folder or the hub and sets evaluation mode. See ``load_segmenter``."""
    target = choose_device(device)
    use_threads(threads, target.type)
    with busy(f"loading {model}"):
        return ICCLD.from_pretrained(model).to(target).eval()


def choose_device(name: str) -> torch.device:
    """Returns the named device, or the best device for ``auto``. Raises ``InputError`` if the device cannot be used."""
    try:
        device = torch.device(best_device(name))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device {name!r} cannot be used here; give auto, cpu, cuda or cuda:1") from error
    return device


def check_settings(model: Segmenter, settings: PredictSettings | None) -> None:
    """Raises ``InputError`` if the settings differ from those with which the model was exported.

    The check needs no image, so that errors are found before prediction. Models that are not exported accept all
    settings.
    """
    exported = getattr(model, "model", model)  # the model of a MappedSegmenter
    if isinstance(exported, ExportedSegmenter) and settings is not None:
        exported.check_settings(settings)


def predict_image(model: Segmenter, image: Any, settings: PredictSettings | None = None) -> Prediction:
    """Segments one image. The labels and all maps of the prediction have the size of the image.

    ``image`` is an RGB array of shape (h, w, 3) or a Pillow image. The values of an array are uint8, or floats in
    [0, 1]. A Pillow image is rotated upright. Raises ``InputError`` if the image is invalid, or if there is not enough
    memory.
    """
    settings = settings or PredictSettings()
    image = to_bytes(image)
    size = height, width = image.shape[:2]
    seen = image if settings.resize is None else resize_image(image, settings.resize)
    check_memory(1, (height, width), len(model.label_space))
    try:
        prediction = model.predict(seen, **settings.of_model())
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            f"out of memory on an image of {seen.shape[1]}×{seen.shape[0]} pixels; "
            "predict in parts with --window H W, or smaller with --resize H W"
        ) from error
    if seen.shape == image.shape:
        return prediction
    probabilities = _resize_maps(prediction.probabilities, size)
    information = _resize_maps(prediction.mutual_information[None], size)[0]
    return Prediction(probabilities.argmax(0).astype(np.uint8), probabilities, information)


def _resize_maps(maps: Float32[np.ndarray, "k h w"], size: tuple[int, int]) -> Float32[np.ndarray, "k h2 w2"]:
    resized = F.interpolate(torch.from_numpy(maps)[None], size=size, mode="bilinear", align_corners=False)
    return resized[0].numpy()


def predict_and_embed(
    model: Segmenter, image: Any, settings: PredictSettings | None = None
) -> tuple[Prediction, Vector]:
    """Returns the prediction of an image and an embedding of unit length. Similar images have similar embeddings.

    For an ``ICCLD`` model, the embedding is the image coder's features at stride 32, averaged over the image. A forward
    hook reads these features at no extra cost. Other models, such as exported models, return no features. For other
    models, ``describe_without_features`` computes the embedding.
    """
    image = to_bytes(image)
    if not isinstance(model, ICCLD):
        prediction = predict_image(model, image, settings)
        return prediction, describe_without_features(image, prediction)
    means: list[Tensor] = []  # one entry per sliding window

    def catch(module: Any, inputs: Any, features: dict[int, Tensor]) -> None:
        means.append(features[32].float().mean(dim=(0, 2, 3)))

    handle = model.image_coder.register_forward_hook(catch)
    try:
        prediction = predict_image(model, image, settings)
    finally:
        handle.remove()
    return prediction, _unit(torch.stack(means).mean(dim=0).cpu().numpy())


def describe_without_features(image: UInt8[np.ndarray, "h w 3"], prediction: Prediction) -> Vector:
    """Returns an embedding of unit length, computed from an image and the image's prediction.

    The embedding consists of coarse class probability maps and a gray thumbnail. Both parts have the same weight.
    """
    places = F.adaptive_avg_pool2d(torch.from_numpy(prediction.probabilities)[None], (4, 8)).flatten().numpy()
    gray = cv2.cvtColor(cv2.resize(image, (16, 8), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return _unit(np.concatenate([_unit(places), _unit(gray.astype(np.float32).ravel())]))


def _unit(vector: Vector) -> Vector:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector
