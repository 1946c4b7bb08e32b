"""Finding the images that the user named, as files, globs and folders, and naming their outputs."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from iccld.data.image_files import IMAGE_SUFFIXES, is_image_name
from iccld.errors import InputError


@dataclass(frozen=True)
class InputImage:
    """An image to predict.

    Attributes:
        path: where it is.
        name: relative path, without ending, that its outputs get: below the folder or the fixed part of the
            glob that it was found in, the plain name for a single file.
    """

    path: Path
    name: str


def find_inputs(inputs: Sequence[str], out: Path | None = None) -> list[InputImage]:
    """Lists the images of the inputs, sorted within each; an image named twice is listed once.

    Args:
        inputs: image files, globs (``**`` crosses folders) and folders (taken with all below them).
        out: images in this folder are left out, so that outputs kept beside the inputs do not become inputs.

    Raises:
        InputError: an input does not exist, is no image or holds none, or two would be written to one place.
    """
    found: dict[Path, InputImage] = {}
    for text in inputs:
        images = [image for image in _expand(text) if out is None or not _is_within(image.path, out)]
        if not images:
            verb, endings = "holds" if Path(text).is_dir() else "matches", " ".join(IMAGE_SUFFIXES)
            raise InputError(f"{text}: {verb} no image (a file ending in {endings}); name another")
        for image in images:
            found.setdefault(image.path.resolve(), image)
    if not found:
        raise InputError("no input is given; name image files, a glob in quotes or a folder")
    places: dict[str, Path] = {}
    for image in found.values():
        other = places.setdefault(image.name, image.path)
        if other is not image.path:
            raise InputError(
                f"{other} and {image.path} would both be written to {image.name}.png; "
                "predict them one after the other with two --out folders"
            )
    return list(found.values())


def _expand(text: str) -> Iterator[InputImage]:
    path = Path(text)
    if path.is_dir():
        yield from _below(path, path)
    elif path.exists():
        if not is_image_name(path.name):
            raise InputError(f"{text}: is not an image file; name files ending in {' '.join(IMAGE_SUFFIXES)}")
        yield InputImage(path, path.stem)
    elif glob.has_magic(text):
        fixed = _fixed_part(path)
        for hit in sorted(glob.glob(text, recursive=True)):
            if Path(hit).is_dir():
                yield from _below(Path(hit), fixed)
            elif is_image_name(Path(hit).name):
                yield InputImage(Path(hit), _name(Path(hit), fixed))
    else:
        raise InputError(f"{text}: no such file or folder; name image files, a glob in quotes or a folder")


def _below(folder: Path, base: Path) -> Iterator[InputImage]:
    """Walks a folder and follows links, as data sets often are; each real folder once, so that loops end."""
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(names):
            if is_image_name(name):
                path = Path(parent, name)
                yield InputImage(path, _name(path, base))


def _fixed_part(pattern: Path) -> Path:
    """The folders of a glob before its first wildcard."""
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def _name(path: Path, base: Path) -> str:
    return path.relative_to(base).with_suffix("").as_posix()


def _is_within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
