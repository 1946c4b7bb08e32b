"""A model ready to use: loading it, choosing its device, and predicting one image of any size."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32
from torch.nn import functional as F

from iccld.errors import InputError
from iccld.exits import is_out_of_memory
from iccld.inference.exported import REFUSED_SUFFIXES, SUFFIXES, ExportedSegmenter, load_exported
from iccld.labels import LabelSpace
from iccld.models.iccld import ICCLD
from iccld.models.images import Images, to_bytes
from iccld.models.prediction import Prediction
from iccld.models.settings import check_memory
from iccld.models.settings import check_settings as refuse_bad_settings
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
        images: Images,
        *,
        steps: int | None = None,
        draws: int | None = None,
        seed: int = 0,
        window: tuple[int, int] | None = None,
        overlap: float = 0.25,
        input_height: int | None = None,
        precision: str = "auto",
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
        precision: bf16, fp32, or auto: what an exported model has, or bf16 where the device is fast at it.
    """

    steps: int | None = None
    draws: int | None = None
    seed: int = 0
    window: tuple[int, int] | None = None
    overlap: float = 0.25
    resize: tuple[int, int] | None = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        refuse_bad_settings(**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)})


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
    if Path(model).suffix not in (*SUFFIXES.values(), *REFUSED_SUFFIXES):
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
            precision=settings.precision,
        )


def predict_image(model: Segmenter, image: Any, settings: PredictSettings | None = None) -> Prediction:
    """Predicts one image; all maps come back at its size.

    Args:
        model: the model.
        image: RGB of shape (h, w, 3), uint8 or float in [0, 1]; or a Pillow image, which is turned upright.
        settings: steps, draws and sizes; the defaults if None.

    Raises:
        InputError: no such image, or there is not enough memory.
    """
    settings = settings or PredictSettings()
    image = to_bytes(image)
    seen = image if settings.resize is None else resize_image(image, settings.resize)
    check_memory(1, (image.shape[0], image.shape[1]), len(model.label_space))
    try:
        prediction = model.predict(
            seen,
            steps=settings.steps,
            draws=settings.draws,
            seed=settings.seed,
            window=settings.window,
            overlap=settings.overlap,
            input_height=_input_height(settings),
            precision=settings.precision,
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
        mutual_information=_resize_maps(prediction.mutual_information[None], size)[0],
    )


def _resize_maps(maps: Float32[np.ndarray, "k h w"], size: tuple[int, int]) -> Float32[np.ndarray, "k h2 w2"]:
    resized = F.interpolate(torch.from_numpy(maps)[None], size=size, mode="bilinear", align_corners=False)
    return resized[0].numpy()
