"""Images to predict: paths, folders, glob patterns, Pillow images, arrays and tensors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from iccld.data.image_files import read_image
from iccld.data.inputs import find_inputs, split_inputs
from iccld.errors import InputError


def is_batch(source: Any) -> bool:
    """Returns whether a source is an array or a tensor with a batch axis."""
    return isinstance(source, np.ndarray | Tensor) and source.ndim == 4


def single_or_many(source: Any) -> tuple[Iterable[Any], bool]:
    """Returns the images of a source, and whether the source is a single image.

    For a file, a folder or a glob pattern, the images are paths. ``open_image`` reads the files later.

    Raises:
        InputError: A path does not exist, or there is no image at this path.
    """
    if isinstance(source, str | os.PathLike):
        if not os.fspath(source):
            raise InputError("the path of an image is empty; name a file, a folder or a glob pattern")
        images, videos = split_inputs(find_inputs([os.path.expanduser(source)], shared_names=True))
        if videos and not images:
            raise InputError(f"{videos[0].title}: is a video or a stream; predict it with 'iccld predict'")
        return [image.path for image in images], Path(source).expanduser().is_file()
    if isinstance(source, list | tuple | Iterator):
        return _flat(source), False
    return [source], True


def _flat(sources: Iterable[Any]) -> Iterator[Any]:
    for source in sources:
        yield from single_or_many(source)[0] if isinstance(source, str | os.PathLike) else [source]


def open_image(image: Any) -> tuple[Any, Path | None]:
    """Reads the image file if ``image`` is a path, and returns the pixels and the path.

    If ``image`` is not a path, returns ``image`` unchanged, and ``None`` instead of a path.

    Raises:
        InputError: The file cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image), Path(image)
    return image, None
