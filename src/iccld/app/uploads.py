"""What visitors hand in: told apart, measured before it is decoded, and refused with a sentence."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from iccld.data.image_files import image_size, read_image
from iccld.errors import InputError
from iccld.inference.inputs import VIDEO_SUFFIXES

MAX_PIXELS = 40_000_000
"""The largest image or frame: its class probabilities alone are 3 GB with 19 classes."""


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a file name ends like a video's."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def read_upload(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "h w 3"]:
    """Reads an uploaded image, RGB, after a look at its size.

    Args:
        path: the file; messages give its name without the server's folders.
        max_pixels: height times width that is still taken.

    Raises:
        InputError: too many pixels, empty, truncated, damaged or no image.
    """
    path = Path(path)
    with without_folders(path):
        if path.stat().st_size:  # read_image has a sentence for an empty file
            check_pixels(path.name, *_header_size(path), max_pixels=max_pixels)
        return read_image(path)


def check_pixels(name: str, height: int, width: int, *, max_pixels: int = MAX_PIXELS) -> None:
    """Refuses images and frames that would take too much memory.

    Raises:
        InputError: more than ``max_pixels``.
    """
    if height * width > max_pixels:
        raise InputError(
            f"{name}: has {width}×{height} pixels, more than the {max_pixels / 1e6:g} million that are taken here; "
            "make it smaller"
        )


@contextmanager
def without_folders(path: Path) -> Iterator[None]:
    """Takes the server's folders out of the messages about a file.

    Raises:
        InputError: the same, with the file's name in place of its path.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path.name}: is no longer here; upload it again") from error
    except InputError as error:
        raise InputError(str(error).replace(str(path), path.name)) from error


def _header_size(path: Path) -> tuple[int, int]:
    """Height and width, from the header."""
    with warnings.catch_warnings():
        # Its own limit, where it warns, is far above ours.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return image_size(path)
