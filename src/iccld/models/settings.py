"""Settings of prediction: what every function and file that has them may be asked for."""

from __future__ import annotations

from typing import Any

from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.files import in_bytes
from iccld.machine import free_memory

MOST_STEPS = 1000
MOST_DRAWS = 1000
MOST_PIXELS_A_SIDE = 65_535
_SMALLEST_WINDOW = 32
_MOST_SEED = 2**63 - 1


def check_settings(
    *,
    steps: Any = None,
    draws: Any = None,
    seed: Any = 0,
    window: Any = None,
    overlap: Any = 0.25,
    input_height: Any = None,
    resize: Any = None,
    precision: Any = "auto",
) -> None:
    """Refuses settings out of range, of another type, or NaN; None stands for a default.

    Args:
        steps: K, sampling steps.
        draws: N, noise draws.
        seed: of the noise.
        window: (height, width) of a sliding window in pixels; one larger than the image takes it whole.
        overlap: share of a window that the next one covers again.
        input_height: height in pixels that images are scaled to, 0 for none.
        resize: (height, width) in pixels that the model sees.
        precision: auto, bf16 or fp32.

    Raises:
        InputError: names the setting and what it may be.
    """
    for name, value, least, most in (
        ("steps", steps, 1, MOST_STEPS),
        ("draws", draws, 1, MOST_DRAWS),
        ("seed", seed, -_MOST_SEED, _MOST_SEED),
        ("input height", input_height, 0, MOST_PIXELS_A_SIDE),
    ):
        if value is not None and not _is_whole(value, least, most):
            raise InputError(f"{name} is {shortened(value)}; give a whole number from {least} to {most}")
    for name, size, least, most, limits in (
        ("window", window, _SMALLEST_WINDOW, _MOST_SEED, f"{_SMALLEST_WINDOW} up"),
        ("resize", resize, 1, MOST_PIXELS_A_SIDE, f"1 to {MOST_PIXELS_A_SIDE}"),
    ):
        sides = list(size) if isinstance(size, (tuple, list)) else []
        fits = len(sides) == 2 and all(_is_whole(side, least, most) for side in sides)
        if size is not None and not fits:
            said = "×".join(shortened(side) for side in sides) or shortened(size)
            raise InputError(f"{name} is {said}; give height and width in whole pixels, each from {limits}")
    if isinstance(overlap, bool) or not isinstance(overlap, (int, float)) or not 0 <= overlap < 1:
        raise InputError(f"overlap is {shortened(overlap)}; give a share of the window, from 0 to below 1")
    if precision not in ("auto", "bf16", "fp32"):
        raise InputError(f"precision is {shortened(precision)}; give auto, bf16 or fp32")


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


def _is_whole(value: Any, least: int, most: int) -> bool:
    # NumPy's integers have __index__ too; True has, and is no number of steps.
    return hasattr(value, "__index__") and not isinstance(value, bool) and bool(least <= value <= most)
