"""Finding the images and videos that the user named, as files, globs, folders, cameras and addresses."""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from urllib.parse import urlsplit

from iccld.data.folders import files_below, require_below, walk
from iccld.data.globs import Glob, fixed_folders
from iccld.data.image_files import IMAGE_SUFFIXES, is_image_name
from iccld.data.picture_formats import is_other_picture
from iccld.errors import InputError
from iccld.files import printable
from iccld.locks import CLAIM
from iccld.outputs import is_inside, places_of

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv"),
    *(".flv", ".3gp", ".ogv"),
)
"""The endings, in lower case, of the files that are taken for videos."""

_CAMERA = re.compile(r"camera:(\d+)")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_ENDINGS = " ".join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)
_REMEDY = "name images or videos, a glob in quotes or a folder"


@dataclass(frozen=True)
class InputImage:
    """An image to predict.

    ``name`` is the relative path, without ending, that its outputs get: below the folder or the fixed part of the glob
    that it was found in, the plain name for a single file.
    """

    path: Path
    name: str

    @property
    def title(self) -> str:
        """What messages call it."""
        return printable(str(self.path))


@dataclass(frozen=True)
class InputVideo:
    """A video to predict: the path of a file, the address of a stream, or ``camera:N``; ``name`` as of an image."""

    source: str
    name: str

    @property
    def path(self) -> Path:
        """Where the file is; meaningless for cameras and addresses."""
        return Path(self.source)

    @property
    def camera(self) -> int | None:
        """The number of a camera; None for files and addresses."""
        match = _CAMERA.fullmatch(self.source)
        return int(match.group(1)) if match else None

    @property
    def is_file(self) -> bool:
        """Whether it is a file on disk: with an end, sound, and time to wait for us."""
        return self.camera is None and not _ADDRESS.match(self.source)

    @property
    def title(self) -> str:
        """What messages call it: the source, without the password that an address may hold."""
        return printable(self.source) if self.is_file else _without_password(self.source)


Input = InputImage | InputVideo


def find_inputs(inputs: Sequence[str], out: Path | None = None, *, shared_names: bool = False) -> list[Input]:
    """Lists the images and videos of the inputs, sorted within each; one that is named twice is listed once.

    Inputs are image and video files, globs (``**`` crosses folders), folders (taken with all below them), ``camera:0``
    and its like, and addresses such as ``rtsp://host/stream``. Pictures in formats that are not read (by their ending)
    are listed too, so that reading refuses them by name. Files in ``out`` are left out, as are those in folders below
    an input that a command of ours has written to: outputs kept beside the inputs do not become inputs. Two images may
    have ``shared_names`` where nothing is written under them.

    Raises:
        InputError: an input does not exist, is no image or video or holds none, or two would be written to one place.
    """
    found: dict[str, Input] = {}
    for text in inputs:
        if _CAMERA.fullmatch(text) or _ADDRESS.match(text):
            found.setdefault(text, InputVideo(text, _stream_name(text)))
            continue
        tops = {place for base in places_of([text]) for place in (base, base.parent)}
        is_left_out = cache(partial(_is_left_out, tops=tops, out=out))
        items = [item for item in _expand(text) if not is_left_out(item.path.parent)]
        if not items:
            verb = "holds" if Path(text).is_dir() else "matches"
            raise InputError(f"{text}: {verb} no image or video (a file ending in {_ENDINGS}); name another")
        for item in items:
            found.setdefault(os.path.realpath(item.path), item)
    if not found:
        raise InputError(f"no input is given; {_REMEDY}")
    _refuse_clashes([item for item in found.values() if not (shared_names and isinstance(item, InputImage))])
    return list(found.values())


def split_inputs(inputs: Sequence[Input]) -> tuple[list[InputImage], list[InputVideo]]:
    """Images, and videos with files before cameras and addresses, which may have no end."""
    images = [item for item in inputs if isinstance(item, InputImage)]
    videos = [item for item in inputs if isinstance(item, InputVideo)]
    return images, sorted(videos, key=lambda video: not video.is_file)


def naming(title: str, error: InputError) -> str:
    """The message of an error, with the input's title unless it is said already."""
    return str(error) if title in str(error) else f"{title}: {error}"


def _is_left_out(folder: Path, tops: set[Path], out: Path | None) -> bool:
    """Whether a folder lies in ``out``, or below what the user named in one that a command of ours has written to."""
    if out is not None and is_inside(folder, out):
        return True
    while folder not in tops and folder != folder.parent:
        if (folder / CLAIM).is_file():
            return True
        folder = folder.parent
    return False


def _refuse_clashes(items: Sequence[Input]) -> None:
    """Two inputs may not be written to one place: images to NAME.png, videos to NAME.mp4 and NAME/000000.png."""
    places: dict[str, Input] = {}
    # Nothing is written of pictures that cannot be read.
    items = [item for item in items if isinstance(item, InputVideo) or not is_other_picture(item.path.name)]
    for item in items:
        place = f"{item.name}.{'png' if isinstance(item, InputImage) else 'mp4'}"
        other = places.setdefault(place, item)
        if other is not item:
            raise InputError(
                f"{other.title} and {item.title} would both be written to {place}; "
                "predict them one after the other with two --out folders"
            )
    for item in items:
        folder, _, stem = item.name.rpartition("/")
        video = places.get(f"{folder}.mp4")
        if isinstance(item, InputImage) and video is not None and re.fullmatch(r"\d{6,}", stem):
            raise InputError(
                f"{item.path} would be written where frames of {video.title} go; "
                "predict them one after the other with two --out folders"
            )


def _stream_name(text: str) -> str:
    """``camera_0``; for an address the last part of its path, or its host."""
    camera = _CAMERA.fullmatch(text)
    if camera:
        return f"camera_{camera.group(1)}"
    try:
        parts = urlsplit(text)
        names = (Path(parts.path).stem, parts.hostname or "")
    except ValueError as error:  # its text may hold the password
        raise InputError(
            f"{_without_password(text)}: is not an address; give one such as rtsp://host/stream"
        ) from error
    safe = (re.sub(r"[^\w.-]+", "_", name).strip("._") for name in names)
    return next(filter(None, safe), "stream")


def _without_password(address: str) -> str:
    # Passwords may hold an @ of their own: the last one before the path ends them.
    return re.sub(r"://[^/]*@", "://", address)


def _expand(text: str) -> Iterator[Input]:
    path = Path(text)
    if path.is_dir():
        yield from (_make(found, path) for found in files_below(path, _is_input, path))
    elif path.exists():
        if not _is_input(path.name):
            raise InputError(f"{text}: is not an image or video file; name files ending in {_ENDINGS}")
        yield _make(path, path.parent)
    elif glob.has_magic(text):
        folders, rest = fixed_folders(path.as_posix(), "*?[")
        fixed = Path("/" if path.is_absolute() else "", *folders)
        for hit in sorted(_matches(fixed, rest)):
            found = files_below(hit, _is_input, fixed) if hit.is_dir() else [hit]
            yield from (_make(path, fixed) for path in found)
    else:
        remedy = f"a camera is named camera:{text}" if text.isdecimal() else _REMEDY
        raise InputError(f"{text}: no such file or folder; {remedy}")


def _matches(base: Path, pattern: str) -> Iterator[Path]:
    """The files and folders below ``base`` that a glob matches; of nested folders the outermost."""
    globbed = Glob(pattern, sets=True)
    deepest = math.inf if "**/" in pattern else pattern.count("/")
    for parent, folders, names in walk(base):
        start = os.path.relpath(parent, base).replace(os.sep, "/") + "/"
        start = "" if start == "./" else start
        shown = [name for name in folders if not name.startswith(".")]
        taken = {name for name in shown if globbed.match(start + name) is not None}
        for name in sorted(taken):
            yield Path(parent, name)
        for name in names:
            if _is_input(name) and globbed.match(start + name) is not None:
                path = Path(parent, name)
                require_below(path, base)
                yield path
        folders[:] = [name for name in shown if name not in taken and start.count("/") < deepest]


def _is_input(name: str) -> bool:
    return is_image_name(name) or _is_video_name(name) or is_other_picture(name)


def _is_video_name(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(VIDEO_SUFFIXES)


def _make(path: Path, base: Path) -> Input:
    name = path.relative_to(base).with_suffix("").as_posix()
    return InputVideo(str(path), name) if _is_video_name(path.name) else InputImage(path, name)
