"""Detects the format of a picture from the first bytes of its file. Error messages name unsupported formats."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from iccld.errors import InputError
from iccld.files import printable

Format = Literal["PNG", "JPEG", "WebP", "BMP", "TIFF"]

OTHER_SUFFIXES = (
    ".jp2", ".j2k", ".jpf", ".jpx", ".avif", ".heic", ".heif", ".jxl", ".gif",
    ".pbm", ".pgm", ".ppm", ".pnm", ".pfm", ".exr", ".hdr", ".psd", ".tga",
)  # fmt: skip
"""File extensions of unsupported picture formats, in lower case."""

_READ: dict[Format, re.Pattern[bytes]] = {
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "WebP": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    "BMP": re.compile(rb"BM"),
    "TIFF": re.compile(rb"II\*\0|MM\0\*"),
}
_OTHERS = (
    (rb"GIF8", "a GIF picture"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "a JPEG XL picture"),
    (rb"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (rb"8BPS", "a Photoshop document"),
    (rb"II\+\0|MM\0\+", "a BigTIFF picture"),
    (rb".{4}ftyp", "an AVIF or HEIC picture, or a video"),
    (rb"P[1-7fF]\s", "a PNM picture (PBM, PGM, PPM or PFM)"),
    (rb"version https://git-lfs", "a pointer of Git LFS, not the picture itself ('git lfs pull' fetches it)"),
    (rb"(\xef\xbb\xbf)?[\t\r\n -~]+\Z", "a text, perhaps a page of HTML or an SVG drawing"),
)
_NAMES = "PNG, JPEG, WebP, BMP and TIFF"


def is_other_picture(name: str) -> bool:
    """Returns whether a file name is not hidden and has the extension of an unsupported picture format."""
    return not name.startswith(".") and name.lower().endswith(OTHER_SUFFIXES)


def identify(path: Path, start: bytes) -> Format:
    """Returns the format of a picture from ``start``, the first 64 bytes of its file.

    Raises:
        InputError: The file is empty, or not in a supported format. ``path`` is used in the message only.
    """
    for name, pattern in _READ.items():
        if pattern.match(start):
            return name
    shown = printable(str(path))
    if not start:
        raise InputError(f"{shown}: is empty (0 bytes); download or copy it again")
    for signature, other in _OTHERS:
        if re.match(signature, start, re.DOTALL | re.IGNORECASE):
            raise InputError(f"{shown}: is {other}; {_NAMES} are read, so save it as one of them")
    raise InputError(f"{shown}: is not an image that can be read ({_NAMES} are); replace or remove the file")
