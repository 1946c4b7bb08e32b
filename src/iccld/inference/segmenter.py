"""A model ready to use: loading it, choosing its device, and predicting one image of any size."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch.nn import functional as F

from iccld.errors import InputError
from iccld.exits import is_out_of_memory
from iccld.files import in_bytes
from iccld.inference.exported import SUFFIXES, ExportedSegmenter, load_exported
from iccld.labels import LabelSpace
from iccld.machine import free_memory
from iccld.models.iccld import ICCLD
from iccld.models.prediction import Prediction
from iccld.progress import busy
from iccld.resizing import resize_image
from iccld.threads import use_threads


@runtime_checkable
class Segmenter(Protocol):
    """What the code of this package asks of a model: of ``iccld.models.iccld.ICCLD`` or an exported file."""

    @property
    def label_space(self) -> LabelSpace:
        """What the model's class indices mean."""
        ...

    def predict(
        self,
        images: np.ndarray,
        *,
        steps: int | None = None,
        draws: int | None = None,
        seed: int = 0,
        window: tuple[int, int] | None = None,
        overlap: float = 0.25,
        input_height: int | None = None,
    ) -> Prediction:
        """Predicts one RGB image (h, w, 3), uint8."""
        ...


@dataclass(frozen=True)
class PredictSettings:
    """How an image is predicted; bad values are refused with the name of the setting.

    Attributes:
        steps: denoising steps; None for 1, or what an exported model has.
        draws: noise draws that are averaged; None for 1, or what an exported model has.
        seed: seed of the noise.
        window: (height, width) in pixels of a sliding window, or None for the whole image at once.
        overlap: share, in [0, 1), of a window that the next one covers again.
        resize: (height, width) in pixels that the model sees; its answer is brought back to the image's size.
    """

    steps: int | None = None
    draws: int | None = None
    seed: int = 0
    window: tuple[int, int] | None = None
    overlap: float = 0.25
    resize: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name, value in (("steps", self.steps), ("draws", self.draws)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; give 1 or more")
        if not 0 <= self.overlap < 1:
            raise InputError(f"overlap is {self.overlap}; give a share from 0 to below 1")
        for name, size in (("window", self.window), ("resize", self.resize)):
            if size is not None and min(size) < 1:
                raise InputError(f"{name} is {size[0]} {size[1]}; give height and width in pixels, 1 or more")


def load_segmenter(model: str, *, device: str = "auto", threads: int = 0) -> Segmenter:
    """Loads a saved or an exported model for prediction.

    Args:
        model: a folder written by ``save_pretrained`` or training, a hub id, or a file of ``iccld export``.
        device: ``auto``, or a torch device such as ``cpu`` or ``cuda:1``.
        threads: CPU threads; 0 takes the fastest number in a trial, once in the life of the process.

    Raises:
        InputError: no such model or device.
    """
    if threads < 0:
        raise InputError(f"threads is {threads}; give 0 (automatic) or more")
    if Path(model).suffix not in SUFFIXES.values():
        return load_model(model, device=device, threads=threads)
    with busy(f"opening {model}"):
        return load_exported(model, device=device, threads=threads)


def load_model(model: str, *, device: str = "auto", threads: int = 0) -> ICCLD:
    """Loads a saved model: the network itself, for prediction or export.

    Args:
        model: a folder written by ``save_pretrained`` or training, or a hub id.
        device: ``auto``, or a torch device such as ``cpu`` or ``cuda:1``.
        threads: CPU threads; 0 takes the fastest number in a trial, once in the life of the process.

    Raises:
        InputError: no such model or device.
    """
    target = choose_device(device)
    use_threads(threads, target.type)
    with busy(f"loading {model}"):
        return ICCLD.from_pretrained(model).to(target).eval()


def choose_device(name: str) -> torch.device:
    """Turns ``auto`` into the best device there is, and checks that a named one can be used.

    Raises:
        InputError: no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device {name!r} cannot be used here; give auto, cpu, cuda or cuda:1") from error
    return device


def check_settings(model: Segmenter, settings: PredictSettings) -> None:
    """Refuses, before the first image, settings that no image could be predicted with.

    Raises:
        InputError: an exported model has other steps, draws or sizes.
    """
    if isinstance(model, ExportedSegmenter):
        model.check_settings(
            steps=settings.steps,
            draws=settings.draws,
            window=settings.window,
            input_height=_input_height(settings),
        )


def predict_image(
    model: Segmenter, image: UInt8[np.ndarray, "h w 3"], settings: PredictSettings | None = None
) -> Prediction:
    """Predicts one image; all maps come back at its size.

    Args:
        model: the model.
        image: RGB, 0 to 255.
        settings: steps, draws and sizes; the defaults if None.

    Raises:
        InputError: there is not enough memory.
    """
    settings = settings or PredictSettings()
    seen = image if settings.resize is None else resize_image(image, settings.resize)
    _check_memory(model, (image.shape[0], image.shape[1]))
    try:
        prediction = model.predict(
            seen,
            steps=settings.steps,
            draws=settings.draws,
            seed=settings.seed,
            window=settings.window,
            overlap=settings.overlap,
            input_height=_input_height(settings),
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        height, width = seen.shape[:2]
        raise InputError(
            f"out of memory on an image of {width}×{height} pixels; "
            "predict in parts with --window H W, or smaller with --resize H W"
        ) from error
    height, width = image.shape[:2]
    return prediction if seen.shape == image.shape else _resize_prediction(prediction, (height, width))


def _check_memory(model: Segmenter, size: tuple[int, int]) -> None:
    """Refuses an image whose answer cannot fit into memory: taking it could end the process instead of the image.

    The answer is class probabilities and two maps at the image's size in single precision, and once more while they
    are interpolated: with 19 classes 168 bytes a pixel, where 163 to 220 were measured.
    """
    if isinstance(model, ICCLD) and next(model.parameters()).device.type != "cpu":
        return
    needed = size[0] * size[1] * 8 * (len(model.label_space) + 2)
    free = free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"an image of {size[1]}×{size[0]} pixels needs {in_bytes(needed)} of memory to be predicted, and "
            f"{in_bytes(free)} are free; make it smaller, or cut it into tiles"
        )


def _input_height(settings: PredictSettings) -> int | None:
    # A size that was asked for is not scaled again to the height the model was trained at.
    return None if settings.resize is None else 0


def _resize_prediction(prediction: Prediction, size: tuple[int, int]) -> Prediction:
    """Brings the maps to another size; the labels are those of the interpolated probabilities."""
    probabilities = _resize_maps(prediction.probabilities, size)
    return dataclasses.replace(
        prediction,
        labels=probabilities.argmax(0).astype(np.uint8),
        probabilities=probabilities,
        uncertainty=_resize_maps(prediction.uncertainty[None], size)[0],
        mutual_information=_resize_maps(prediction.mutual_information[None], size)[0],
    )


def _resize_maps(maps: Float32[np.ndarray, "k h w"], size: tuple[int, int]) -> Float32[np.ndarray, "k h2 w2"]:
    resized = F.interpolate(torch.from_numpy(maps)[None], size=size, mode="bilinear", align_corners=False)
    return resized[0].numpy()
