"""Settings of prediction: the one place of their defaults and limits; and the memory that a prediction needs."""

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
    """How images are predicted, by models and exported files alike.

    Raises:
        InputError: a value is of another type or out of range; the message names the setting.
    """

    steps: Steps | None = None
    """Denoising steps K: 1 by default, or what an exported model was made with."""
    draws: Draws | None = None
    """Noise draws N whose probabilities are averaged: 1 by default, or what an exported model was made with."""
    seed: Annotated[int, Range(0, 2**62)] = 0
    """Seed of the noise; exported models have noise of their own."""
    window: tuple[_WindowSide, _WindowSide] | None = None
    """Height and width of a sliding window in pixels. By default each image is taken whole."""
    overlap: Annotated[float, Range(0, 0.99)] = 0.25
    """Share of a window that the next one covers again."""
    resize: tuple[_Side, _Side] | None = None
    """Height and width that the model sees; answers have the image's size. By default the image's own."""
    input_height: InputHeight | None = None
    """Height that images are scaled to, 0 for none. By default the model's own; none with --resize."""
    precision: Precision = "auto"
    """fp32, bf16, or auto: bf16 where the device is fast at it, and for an exported file its own."""

    def __post_init__(self) -> None:
        for name, kind in _kinds().items():
            value = _plain(getattr(self, name))
            if value is not None or getattr(PredictSettings, name) is not None:
                object.__setattr__(self, name, typed(kind, value, name.replace("_", " ")))
        if self.input_height is None and self.resize is not None:
            object.__setattr__(self, "input_height", 0)

    def of_model(self) -> dict[str, Any]:
        """What ``predict`` of a model takes as keyword arguments: all but ``resize``, which is done before."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "resize"}


def _plain(value: Any) -> Any:
    """Turns numbers of NumPy into Python's own."""
    if isinstance(value, (tuple, list)):
        return tuple(map(_plain, value))
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


@cache
def _kinds() -> dict[str, Any]:
    """The types of the fields, without None."""
    hints = get_type_hints(PredictSettings, include_extras=True)
    return {n: get_args(h)[0] if type(None) in get_args(h) else h for n, h in hints.items()}


def check_memory(batch: int, size: tuple[int, int], num_classes: int) -> None:
    """Refuses images whose answers cannot fit into memory: taking them could end the process instead.

    The answer to an image is class probabilities and two maps at its size in single precision, and once more while
    they are interpolated: with 19 classes 168 bytes a pixel, where 163 to 220 were measured.

    Args:
        batch: number of images.
        size: height and width in pixels of the answers.
        num_classes: k.

    Raises:
        InputError: tells what they would need.
    """
    needed = batch * size[0] * size[1] * 8 * (num_classes + 2)
    free = free_memory()
    if free is not None and needed > free:
        what = "an image" if batch == 1 else f"a batch of {batch} images"
        raise InputError(
            f"{what} of {size[1]}×{size[0]} pixels needs {in_bytes(needed)} of memory to be predicted, and "
            f"{in_bytes(free)} are free; make it smaller, or cut it into tiles"
        )
