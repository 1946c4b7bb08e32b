"""Detects picture formats, reads headers (size, number of frames, rotation), and finds truncated and damaged files.

Most headers are parsed here and not by decoders, since decoders allocate as much memory as a header demands.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedIOBase, BytesIO
from pathlib import Path

from PIL.BmpImagePlugin import BmpImageFile
from PIL.WebPImagePlugin import WebPImageFile

from iccld.data import tiff_header as tiff
from iccld.errors import InputError
from iccld.files import open_regular, printable, read_bounded

MOST_PIXELS = 178_956_970
"""Largest number of pixels of a picture, about 13,377 × 13,377. As RGB, such a picture takes half a gigabyte."""
MOST_BYTES = 1 << 30
"""Largest size of a picture file in bytes."""
OTHER_SUFFIXES = (
    ".jp2", ".j2k", ".jpf", ".jpx", ".avif", ".heic", ".heif", ".jxl", ".gif",
    ".pbm", ".pgm", ".ppm", ".pnm", ".pfm", ".exr", ".hdr", ".psd", ".tga",
)  # fmt: skip
"""File extensions of unsupported picture formats, in lower case."""

_OTHER_FORMATS = (
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
_MOST_EXIF = 1 << 16
_MOST_BMP = 1 << 20  # largest number of bytes that are read of a BMP file (enough for header and palette)
_MOST_PARTS = 1 << 18  # largest number of chunks or segments that are read of a file
_MOST_SCANNED = 5_000_000_000  # largest number of pixels of a JPEG, summed over its scans
_TAIL_BYTES = 4096
_JPEG_END = b"\xff\xd9"
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_DAMAGED = "is truncated or damaged; download or copy it again"
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG markers of segments with the picture's size


@dataclass(frozen=True)
class Header:
    """The contents of a picture's header.

    Attributes:
        format: PNG, JPEG, WebP, BMP or TIFF.
        stored: Height and width in pixels, before the EXIF rotation.
        orientation: EXIF orientation, 1 to 8.
        frames: Number of frames (in an animation) or pages (in a TIFF file).
        bits: Bits per channel, always 8 for JPEG, WebP and BMP.
        lossy: Whether the compression changes pixel values.
        tags: Tags (metadata fields) of the first page of a TIFF file.
    """

    format: str
    stored: tuple[int, int]
    orientation: int = 1
    frames: int = 1
    bits: int = 8
    lossy: bool = False
    tags: tiff.Tags = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, after the EXIF rotation."""
        height, width = self.stored
        return (width, height) if self.orientation >= 5 else (height, width)


def is_other_picture(name: str) -> bool:
    """Returns whether a file has the extension of an unsupported picture format and is not hidden."""
    return not name.startswith(".") and name.lower().endswith(OTHER_SUFFIXES)


def read_header(path: Path, file: BufferedIOBase, *, is_label: bool = False) -> Header:
    """Reads a picture's header and refuses pictures that cannot be decoded safely and correctly.

    Args:
        path: Path for messages.
        file: Opened file. After the call, a JPEG file is positioned at the first scan.
        is_label: Whether the picture is a label map. TIFF label maps may have more integer types than images.

    Raises:
        InputError: The format is not supported, the file is empty or damaged, the picture has more than ``MOST_PIXELS``
            pixels, several frames or several pages, or ``iccld.data.tiff_header.find_fault`` refuses the file.
    """
    shown = printable(str(path))
    file.seek(0)
    start = file.read(64)
    formats = (name for name, (signature, _) in _FORMATS.items() if re.match(signature, start, re.DOTALL))
    kind = next(formats, "")
    if not kind:
        raise InputError(f"{shown}: {_describe_unknown(start)}")
    try:
        header = _FORMATS[kind][1](file)
        height, width = header.stored
        if height < 1 or width < 1:
            raise ValueError(f"its size is {width}×{height}")
    except (struct.error, IndexError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{shown}: {kind} {_DAMAGED}") from error
    if height * width > MOST_PIXELS:
        raise InputError(
            f"{shown}: has {width}×{height} pixels, far more than can be read safely "
            f"({MOST_PIXELS:,}); make it smaller, or cut it into tiles"
        )
    if header.frames != 1:
        what = "pages" if kind == "TIFF" else "frames"
        raise InputError(
            f"{shown}: has {header.frames or 'no'} {what}, and only one picture a file is read; "
            f"save each {what[:-1]} as a file of its own"
        )
    if kind == "TIFF" and (fault := tiff.find_fault(header.tags, is_label=is_label, most_pixels=MOST_PIXELS)):
        raise InputError(f"{shown}: is a TIFF {fault}; save it as PNG, of 8 bits and one or three channels")
    return header


def read_whole(path: Path, *, is_label: bool = False) -> tuple[bytes, Header]:
    """Returns the bytes (for PNG, only of the chunks that the pixels need) and the header of a picture file.

    Raises:
        InputError: The file is missing, not a regular file, larger than ``MOST_BYTES``, truncated, damaged, or refused
            by ``read_header``, or the file is a progressive JPEG that would take minutes to decode.
    """
    shown = printable(str(path))
    data = read_bounded(path, MOST_BYTES)
    file = BytesIO(data)
    header = read_header(path, file, is_label=is_label)
    is_whole = True
    if header.format == "PNG":
        data = _needed_chunks(data)
        is_whole = bool(data)
    elif header.format == "JPEG":
        scans = data.count(b"\xff\xda")
        if scans * header.stored[0] * header.stored[1] > _MOST_SCANNED:
            raise InputError(
                f"{shown}: is a JPEG of {scans} scans, which takes too long to decode; save it anew"
            )
        # The search starts behind the header, since thumbnails in the header end with the same marker.
        is_whole = data.find(_JPEG_END, file.tell()) >= 0
    if not is_whole:
        raise InputError(f"{shown}: {header.format} {_DAMAGED}")
    return data, header


def check_ending(path: str | os.PathLike[str]) -> None:
    """Raises ``InputError`` if the file is empty, or is a truncated PNG or JPEG. Usually reads only the last bytes."""
    with open_regular(path) as file:
        end_marker = {b"\x89PN": b"IEND", b"\xff\xd8\xff": _JPEG_END}.get(file.read(3), b"")
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        # Much data behind the end marker is unusual but legal. Without a marker here, the whole file is checked.
        is_whole = size > 0 and end_marker in file.read(_TAIL_BYTES)
    if not is_whole:
        read_whole(Path(path))


def _describe_unknown(start: bytes) -> str:
    names = "PNG, JPEG, WebP, BMP and TIFF"
    if not start:
        return "is empty (0 bytes); download or copy it again"
    for signature, other in _OTHER_FORMATS:
        if re.match(signature, start, re.DOTALL | re.IGNORECASE):
            return f"is {other}; {names} are read, so save it as one of them"
    return f"is not an image that can be read ({names} are); replace or remove the file"


def _needed_chunks(data: bytes) -> bytes:
    """Returns a PNG with only the chunks that the pixels need, or no bytes if the file is truncated or damaged.

    Decoders also unpack the other chunks, such as texts and profiles. Such chunks can be decompression bombs or cause
    warnings.
    """
    kept = [data[:8]]
    for kind, place, length in _png_chunks(BytesIO(data)):
        end = place + length
        if zlib.crc32(memoryview(data)[place - 4 : end]) != int.from_bytes(data[end : end + 4]):
            break
        if kind in _PIXEL_CHUNKS:
            kept.append(data[place - 8 : end + 4])
        if kind == b"IEND":
            return b"".join(kept)
    return b""


def _png_chunks(file: BufferedIOBase) -> Iterator[tuple[bytes, int, int]]:
    """Yields (type, content offset, content length) of each chunk. ``file`` is then positioned at the content."""
    place = 8
    for _ in range(_MOST_PARTS):
        file.seek(place)
        start = file.read(8)
        if len(start) < 8:
            return
        length, kind = struct.unpack(">I4s", start)
        yield kind, place + 8, length
        place += length + 12


def _png(file: BufferedIOBase) -> Header:
    stored, bits, frames, orientation = (0, 0), 8, 1, 1
    for kind, _, length in _png_chunks(file):
        if kind in (b"IDAT", b"IEND"):
            break
        if kind == b"IHDR":
            if stored != (0, 0):  # decoders differ in which of the two sizes they use
                raise ValueError("it states its size twice")
            width, height, bits = struct.unpack(">IIB", file.read(9))
            stored = (height, width)
        elif kind == b"acTL":
            (frames,) = struct.unpack(">I", file.read(4))
        elif kind == b"eXIf":
            orientation = _exif_orientation(file.read(min(length, _MOST_EXIF)))
    return Header("PNG", stored, orientation, frames, bits)


def _jpeg(file: BufferedIOBase) -> Header:
    stored, orientation = (0, 0), 1
    file.seek(2)
    for _ in range(_MOST_PARTS):
        prefix, marker = file.read(2)
        if prefix != 0xFF:
            break
        if marker == 0xFF:  # a fill byte
            file.seek(-1, os.SEEK_CUR)
            continue
        if marker in (0xD9, 0xDA):
            return Header("JPEG", stored, orientation, lossy=True)
        (length,) = struct.unpack(">H", file.read(2))
        following = file.tell() + length - 2
        if marker in _SOF:  # libjpeg refuses files with two sizes, so the last size can be used here
            height, width = struct.unpack(">xHH", file.read(5))
            stored = (height, width)
        elif marker == 0xE1 and orientation == 1:
            orientation = _exif_orientation(file.read(max(0, length - 2)))
        file.seek(following)
    raise ValueError("there is no marker where one should be")


def _webp(file: BufferedIOBase) -> Header:
    file.seek(12)
    for _ in range(_MOST_PARTS):
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind in (b"VP8 ", b"VP8L", b"ANMF"):
            break
        file.seek(length + length % 2, os.SEEK_CUR)
    file.seek(0)
    image = WebPImageFile(BytesIO(file.read(MOST_BYTES)))
    orientation = _exif_orientation(image.info.get("exif", b"")[:_MOST_EXIF])
    return Header("WebP", image.size[::-1], orientation, image.n_frames, lossy=kind == b"VP8 ")


def _bmp(file: BufferedIOBase) -> Header:
    file.seek(0)
    return Header("BMP", BmpImageFile(BytesIO(file.read(_MOST_BMP))).size[::-1])


def _tiff(file: BufferedIOBase) -> Header:
    page, *others = pages = tiff.read_pages(file)
    # Pages that are reduced copies or masks of the first page are not counted.
    frames = 1 + sum(not tiff.first(other, tiff.REDUCED, 0) & 0b101 for other in others)
    size = (tiff.first(page, tiff.HEIGHT, 0), tiff.first(page, tiff.WIDTH, 0))
    bits, lossy = tiff.first(page, tiff.BITS, 1), tiff.first(page, tiff.COMPRESSION, 1) in tiff.LOSSY
    return Header("TIFF", size, tiff.orientation(pages), frames, bits, lossy, page)


def _exif_orientation(exif: bytes) -> int:
    try:
        return tiff.orientation(tiff.read_pages(BytesIO(exif.removeprefix(b"Exif\0\0"))))
    except (ValueError, struct.error):
        return 1


_FORMATS = {
    "PNG": (rb"\x89PNG\r\n\x1a\n", _png),
    "JPEG": (rb"\xff\xd8\xff", _jpeg),
    "WebP": (rb"RIFF.{4}WEBP", _webp),
    "BMP": (rb"BM", _bmp),
    "TIFF": (rb"II\*\0|MM\0\*", _tiff),
}
"""Supported format → (regular expression of the first bytes, function that reads the header)."""
