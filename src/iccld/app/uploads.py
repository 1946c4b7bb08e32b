"""What visitors hand in: where it lies, what it is called, and the limits within which it is read."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from iccld.data.image_files import IMAGE_SUFFIXES, image_size, read_image
from iccld.errors import InputError
from iccld.inference.inputs import VIDEO_SUFFIXES

MAX_PIXELS = 40_000_000
"""The largest image or frame: its class probabilities alone are 3 GB with 19 classes."""

_LONGEST_NAME = 100


@dataclass(frozen=True)
class Upload:
    """A file that a visitor handed in.

    Attributes:
        path: where it lies; the name there is ours.
        folder: of the visitor's session; ``path`` is directly below it.
        name: what the visitor calls it, made safe by ``safe_name``; messages and downloads say this.
    """

    path: Path
    folder: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether the file's name ends like a video's."""
        return self.path.suffix in VIDEO_SUFFIXES


def safe_name(name: str) -> str:
    """The last part of a visitor's file name, without what cannot stand in a file name or on a line."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(c for c in last if c not in '<>:"|?*' and unicodedata.category(c)[0] != "C").rstrip(" .")
    stem, dot, suffix = kept.rpartition(".")
    if not dot:
        stem, suffix = suffix, ""
    return f"{stem.strip(' .')[:_LONGEST_NAME] or 'upload'}{dot}{suffix[:10]}"


def suffix_of(name: str) -> str:
    """The ending, in lower case, under which an upload is stored; only readers of that kind are tried.

    Raises:
        InputError: it is the ending of no image and no video.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in IMAGE_SUFFIXES and suffix not in VIDEO_SUFFIXES:
        raise InputError(f"{name}: is no image and no video by its name; give a PNG, a JPEG or an MP4")
    return suffix


def read_upload(upload: Upload, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "h w 3"]:
    """Reads an uploaded image, RGB, after a look at its size.

    Args:
        upload: the file.
        max_pixels: height times width that is still taken.

    Raises:
        InputError: not this session's file, too many pixels, empty, truncated, damaged or no image.
    """
    with opened(upload) as path:
        if path.stat().st_size:  # read_image has a sentence for an empty file
            check_pixels(upload.name, *image_size(path), max_pixels=max_pixels)
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
def opened(upload: Upload) -> Iterator[Path]:
    """Gives the path of an upload to whoever reads it, once it is certain that it is one.

    Raises:
        InputError: the file does not lie in its session's folder, is a link, or is no regular file; or what is raised
            in the ``with`` block, with the visitor's name of the file in place of its path.
    """
    try:
        is_regular = stat.S_ISREG(os.lstat(upload.path).st_mode)
        if not is_regular or upload.path.resolve().parent != upload.folder.resolve():
            raise InputError(f"{upload.name}: is not a file that was uploaded here")
        yield upload.path
    except FileNotFoundError as error:
        raise InputError(f"{upload.name}: is no longer here; upload it again") from error
    except InputError as error:
        said = str(error).replace(str(upload.path), upload.name).replace(str(upload.folder), "")
        raise InputError(said.replace(upload.path.name, upload.name)) from error
