"""Settings of prediction with their defaults and limits, and a check of the memory that a prediction needs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from typing import Annotated, Any, Literal, get_args, get_type_hints

from iccld.documents import Range, typed
from iccld.errors import InputError
from iccld.files import in_bytes
from iccld.machine import free_memory

Precision = Literal["auto", "fp32", "bf16"]
Steps = Annotated[int, Range(1, 1000)]
Draws = Annotated[int, Range(1, 1000)]
InputHeight = Annotated[int, Range(0, 65_535)]
_WindowSide = Annotated[int, Range(32, 65_535)]
_Side = Annotated[int, Range(1, 65_535)]


@dataclass(frozen=True)
class PredictSettings:
    """Settings of prediction, for models and for exported files. Raises ``InputError`` if a setting is wrong."""

    steps: Steps | None = None
    """Number K of sampling steps. The default is 1, or the number stored in an exported model."""
    draws: Draws | None = None
    """Number N of noise draws. The probabilities of all draws are averaged. The default is 1, or the number stored in
    an exported model."""
    seed: Annotated[int, Range(0, 2**62)] = 0
    """Seed of the noise. It has no effect on exported models, which contain fixed noise."""
    window: tuple[_WindowSide, _WindowSide] | None = None
    """Height and width of a sliding window in pixels of the scaled image. By default, images are not divided."""
    overlap: Annotated[float, Range(0, 0.99)] = 0.25
    """Minimum fraction of a window that neighboring windows share."""
    resize: tuple[_Side, _Side] | None = None
    """Height and width in pixels to which images are resized for the model. Results have the size of the original
    image. By default, images are not resized."""
    input_height: InputHeight | None = None
    """Height in pixels to which images are scaled. 0 disables scaling. The default is the height stored with the model,
    or 0 if resize is set."""
    precision: Precision = "auto"
    """fp32, bf16 or auto. auto means bf16 on devices with fast bf16, otherwise fp32. For an exported file, auto means
    the precision of the file."""

    def __post_init__(self) -> None:
        for name, kind in _kinds().items():
            value = plain(getattr(self, name))
            if value is not None or getattr(PredictSettings, name) is not None:
                object.__setattr__(self, name, typed(kind, value, name.replace("_", " ")))
        if self.input_height is None and self.resize is not None:
            object.__setattr__(self, "input_height", 0)

    def of_model(self) -> dict[str, Any]:
        """Returns the arguments for ``predict``: all settings except ``resize``, which the caller applies."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "resize"}


def plain(value: Any) -> Any:
    """Converts a NumPy number, or the NumPy numbers in a list or tuple, to Python numbers."""
    if isinstance(value, (tuple, list)):
        return tuple(map(plain, value))
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


@cache
def _kinds() -> dict[str, Any]:
    """Returns the type of each field of ``PredictSettings`` by name. ``T | None`` is returned as ``T``."""
    hints = get_type_hints(PredictSettings, include_extras=True)
    return {n: get_args(h)[0] if type(None) in get_args(h) else h for n, h in hints.items()}


def check_memory(batch: int, size: tuple[int, int], num_classes: int) -> None:
    """Raises ``InputError`` if predictions do not fit into free memory. Otherwise, the system could kill the process.

    ``batch`` is the number of images, ``size`` is the height and width of each image in pixels, and ``num_classes`` is
    the number k of classes. A prediction consists of k class probabilities, the uncertainty and the mutual information
    of every pixel in fp32. Interpolation needs a second copy of these values. With 19 classes, the estimate is 168
    bytes per pixel. Measured peaks are 163 to 220 bytes per pixel.
    """
    needed = batch * size[0] * size[1] * 8 * (num_classes + 2)
    free = free_memory()
    if free is not None and needed > free:
        what = "an image" if batch == 1 else f"a batch of {batch} images"
        raise InputError(
            f"{what} of {size[1]}×{size[0]} pixels needs {in_bytes(needed)} of memory to be predicted, and "
            f"{in_bytes(free)} are free; make it smaller, or cut it into tiles"
        )
