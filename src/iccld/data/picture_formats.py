"""Which format a picture has, by its first bytes; those that are not read are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from iccld.errors import InputError
from iccld.files import printable

Format = Literal["PNG", "JPEG", "WebP", "BMP", "TIFF"]

OTHER_SUFFIXES = (
    *(
        ".jp2",
        ".j2k",
        ".jpf",
        ".jpx",
        ".avif",
        ".heic",
        ".heif",
        ".jxl",
        ".gif",
        ".pbm",
        ".pgm",
        ".ppm",
        ".pnm",
    ),
    *(".pfm", ".exr", ".hdr", ".psd", ".tga"),
)
"""The endings, in lower case, of pictures in formats that are not read."""

_SIGNATURES: tuple[tuple[bytes, Format], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0\x08\0\0\0", "TIFF"),
    (b"MM\0+\0\x08\0\0", "TIFF"),
)
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "a GIF picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"#?R", "a Radiance HDR picture"),
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"%PDF", "a PDF document"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the picture itself ('git lfs pull' fetches it)"),
)
_BRANDS = {b"avis": "an AVIF animation"} | dict.fromkeys(
    (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "a HEIC picture"
)
_READ = "PNG, JPEG, WebP, BMP and TIFF"


def is_other_picture(name: str) -> bool:
    """Whether a file name ends like a picture's in a format that is not read, and is not a hidden file's."""
    return not name.startswith(".") and name.lower().endswith(OTHER_SUFFIXES)


def identify(path: Path, start: bytes) -> Format:
    """Tells the format of a picture.

    Args:
        path: for messages.
        start: the first bytes of the file, 64 or more if there are so many.

    Raises:
        InputError: it is none of those that are read; the message names the format if it is known.
    """
    for signature, name in _SIGNATURES:
        if start.startswith(signature):
            return name
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    what = _other(start)
    shown = printable(str(path))
    if what:
        raise InputError(f"{shown}: is {what}; {_READ} are read, so save it as one of them")
    raise InputError(f"{shown}: is not an image that can be read ({_READ} are); replace or remove the file")


def _other(start: bytes) -> str:
    for signature, name in _OTHERS:
        if start.startswith(signature):
            return name
    if start[4:8] == b"ftyp":
        if b"avif" in start:  # behind a general brand
            return "an AVIF picture"
        return _BRANDS.get(start[8:12], "a video or another file of the MP4 family")
    if len(start) > 2 and start[:1] == b"P" and start[1:2] in b"1234567fF" and start[2:3].isspace():
        return "a PNM picture (PBM, PGM, PPM or PFM)"
    words = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if words.startswith((b"<!doctype html", b"<html")):
        return "a page of HTML"
    if words.startswith((b"<svg", b"<?xml")):
        return "an SVG drawing or another XML file"
    if words and all(byte >= 32 or byte in b"\t\r\n" for byte in start) and start.isascii():
        return "a text"
    return ""
