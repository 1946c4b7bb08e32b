"""Finds the input images and videos, which the user gives as files, glob patterns, folders, cameras or URLs."""

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

from iccld import remote
from iccld.data.folders import Glob, files_below, fixed_folders, require_below, walk
from iccld.data.image_files import IMAGE_SUFFIXES, is_image_name
from iccld.data.manifest import SUFFIX as MANIFEST
from iccld.data.manifest import read_manifest
from iccld.data.picture_header import is_other_picture
from iccld.errors import InputError
from iccld.files import printable
from iccld.locks import CLAIM
from iccld.outputs import is_inside, places_of

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv"),
    *(".flv", ".3gp", ".ogv"),
)
"""Extensions of video files, in lower case."""

_CAMERA = re.compile(r"camera:(\d+)")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_ENDINGS = " ".join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)
_REMEDY = "name images or videos, a glob in quotes or a folder"


@dataclass(frozen=True, slots=True)
class InputImage:
    """An input image file.

    Outputs are written under the path ``name``, which has no extension. For an image in an input folder, ``name`` is
    relative to this folder. For a glob pattern, the folders before the first wildcard are not part of ``name``. For a
    single file, ``name`` is the file name. ``stamp`` identifies the content of a file in object storage. ``source`` is
    the path as text, because millions of ``Path`` objects need three times the memory.
    """

    source: str
    name: str
    stamp: str = ""

    @property
    def path(self) -> Path:
        """Path of the image. A URL is a path too (``iccld.remote``)."""
        return Path(self.source)

    @property
    def address(self) -> str:
        """Path or URL of the image."""
        return remote.shown(self.path)

    @property
    def title(self) -> str:
        """Path or URL of the image, as printed in messages."""
        return printable(self.address)


@dataclass(frozen=True)
class InputVideo:
    """An input video. ``source`` is a path, a stream URL or ``camera:N``. See ``InputImage`` for ``name``."""

    source: str
    name: str

    @property
    def path(self) -> Path:
        """Path of the video file. Must not be used for cameras and streams."""
        return Path(self.source)

    @property
    def camera(self) -> int | None:
        """Number of the camera, or ``None`` for files and streams."""
        match = _CAMERA.fullmatch(self.source)
        return int(match[1]) if match else None

    @property
    def is_file(self) -> bool:
        """Whether the source is a file on disk, not a camera or a stream."""
        return self.camera is None and not _ADDRESS.match(self.source)

    @property
    def title(self) -> str:
        """``source`` as printed in messages. The user name and the password are removed from a URL."""
        return printable(self.source) if self.is_file else _without_password(self.source)


Input = InputImage | InputVideo


def find_inputs(inputs: Sequence[str], out: Path | None = None, *, shared_names: bool = False) -> list[Input]:
    """Returns the images and videos of the inputs, sorted within each input and without duplicates.

    Inputs are image and video files, glob patterns (``**`` matches any number of folders), folders (searched
    recursively), manifests (``iccld.data.manifest``), URLs of images, folders or glob patterns in object storage
    (``iccld.remote``), cameras such as ``camera:0``, and URLs of streams such as ``rtsp://host/stream``. Images of
    unsupported formats on disk are also returned, so that an error with the file name is raised when such an image is
    read.

    So that outputs do not become inputs, ``find_inputs`` skips the folder ``out`` and all subfolders to which an iccld
    command has written. With ``shared_names``, two images may have the same ``name``. Commands that write no outputs
    for images use ``shared_names``.

    Raises ``InputError`` if no input is given, if an input is missing or contains no image or video, or if two inputs
    have the same output path.
    """
    found: dict[str, Input] = {}
    for text in inputs:
        if text.endswith(MANIFEST):
            found |= {
                place: InputImage(str(Path(place)), *rest) for place, *rest in read_manifest(Path(text))
            }
            continue
        if url := remote.url_of(text):
            found |= {item.address: item for item in _expand_url(url, out)}
            continue
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
    """Returns the images and the videos. Cameras and streams come last, because they may never end."""
    images = [item for item in inputs if isinstance(item, InputImage)]
    videos = [item for item in inputs if isinstance(item, InputVideo)]
    return images, sorted(videos, key=lambda video: not video.is_file)


def naming(title: str, error: InputError) -> str:
    """Returns the message of an error. Puts ``title`` in front if the message does not contain ``title``."""
    return str(error) if title in str(error) else f"{title}: {error}"


def _is_left_out(folder: Path, tops: set[Path], out: Path | None) -> bool:
    """Returns whether the files of a folder are skipped because they may be outputs.

    A folder is skipped if the folder is in ``out``. A folder below one of ``tops`` is also skipped if an iccld command
    has written to the folder itself or to a folder between the two.
    """
    if out is not None and is_inside(folder, out):
        return True
    while folder not in tops and folder != folder.parent:
        if (folder / CLAIM).is_file():
            return True
        folder = folder.parent
    return False


def _refuse_clashes(items: Sequence[Input]) -> None:
    """Raises ``InputError`` if two inputs would have the same output file.

    The output of an image is ``NAME.png``. The outputs of a video are ``NAME.mp4`` and the frames ``NAME/000000.png``,
    ``NAME/000001.png`` and so on.
    """
    places: dict[str, Input] = {}
    remedy = "predict them one after the other with two --out folders"
    # Images of unsupported formats cannot be read and therefore have no outputs.
    items = [item for item in items if isinstance(item, InputVideo) or not is_other_picture(item.path.name)]
    for item in items:
        place = f"{item.name}.{'png' if isinstance(item, InputImage) else 'mp4'}"
        other = places.setdefault(place, item)
        if other is not item:
            raise InputError(f"{other.title} and {item.title} would both be written to {place}; {remedy}")
    for item in items:
        folder, _, stem = item.name.rpartition("/")
        video = places.get(f"{folder}.mp4")
        if isinstance(item, InputImage) and video is not None and re.fullmatch(r"\d{6,}", stem):
            raise InputError(f"{item.path} would be written where frames of {video.title} go; {remedy}")


def _stream_name(text: str) -> str:
    """Returns the output name of a camera or URL.

    The name of ``camera:0`` is ``camera_0``. The name of a URL is the last part of the path without extension. If the
    path is empty, the name is the host.
    """
    if _CAMERA.fullmatch(text):
        return text.replace(":", "_")
    try:
        parts = urlsplit(text)
        names = (Path(parts.path).stem, parts.hostname or "")
    except ValueError as error:
        # The message of this error is not shown, because the message can contain the password.
        shown = _without_password(text)
        raise InputError(f"{shown}: is not an address; give one such as rtsp://host/stream") from error
    safe = (re.sub(r"[^\w.-]+", "_", name).strip("._") for name in names)
    return next(filter(None, safe), "stream")


def _without_password(address: str) -> str:
    # All text up to the last @ before the path is removed, because a password may contain @.
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


def _expand_url(url: str, out: Path | None) -> Iterator[InputImage]:
    """Yields the images at the URL of a file, a folder or a glob pattern.

    Files in the folder ``out`` and in folders to which an iccld command has written are skipped.
    """
    parts = url.split("/")
    fixed = next((place for place, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    base, pattern = "/".join(parts[:fixed]), "/".join(parts[fixed:])
    globbed, own = Glob(pattern, sets=True) if pattern else None, remote.url_of(out) if out else None
    is_empty, found = True, remote.find(base)
    written = tuple(name.removesuffix(CLAIM) for name in found if name.endswith(f"/{CLAIM}"))
    for name, facts in found.items():
        address = f"{base.rstrip('/')}/{name}".rstrip("/")
        last = address.rpartition("/")[2]
        if not is_image_name(last) or name.startswith(written) or (globbed and globbed.match(name) is None):
            continue
        if own is None or not address.startswith(f"{own.rstrip('/')}/"):
            is_empty = False
            stamp = f"{facts['size']} {facts['tag']}"
            yield InputImage(str(Path(address)), Path(name or last).with_suffix("").as_posix(), stamp)
    if is_empty:
        raise InputError(
            f"{url}: no image is there (a file ending in {' '.join(IMAGE_SUFFIXES)}); name another"
        )


def _matches(base: Path, pattern: str) -> Iterator[Path]:
    """Yields the images, videos and folders below ``base`` that match a glob pattern.

    Nothing inside a matching folder is yielded.
    """
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
                require_below(Path(parent, name), base)
                yield Path(parent, name)
        folders[:] = [name for name in shown if name not in taken and start.count("/") < deepest]


def _is_input(name: str) -> bool:
    return is_image_name(name) or _is_video_name(name) or is_other_picture(name)


def _is_video_name(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(VIDEO_SUFFIXES)


def _make(path: Path, base: Path) -> Input:
    name = path.relative_to(base).with_suffix("").as_posix()
    return InputVideo(str(path), name) if _is_video_name(path.name) else InputImage(str(path), name)
