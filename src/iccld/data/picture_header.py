"""What the header of a picture says, read without decoding it: size, number of frames, rotation.

Headers are read here and not by the decoders, so that a picture is judged before any memory is taken for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from pathlib import Path

from iccld.data.picture_formats import Format, identify
from iccld.data.tiff_header import (
    BLACK_IS_ZERO,
    CMYK,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    TiffPage,
    read_pages,
)
from iccld.errors import InputError
from iccld.files import printable

MOST_PIXELS = 178_956_970
"""Pixels of the largest picture that is read, for instance 13,377 × 13,377: half a gigabyte of RGB."""

_MOST_SCANNED = 5_000_000_000  # pixels that a progressive JPEG may go over, all scans together
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG's markers with the size


@dataclass(frozen=True)
class Header:
    """What a header says.

    Attributes:
        format: of the file.
        stored: height and width of the pixels as they are stored.
        orientation: how they are to be turned, as EXIF numbers it (1 to 8).
        frames: how many pictures the file shows one after the other.
        bits: of a channel; 8 where the format knows no other.
        lossy: whether the exact values of the pixels are lost.
        page: of a TIFF file.
    """

    format: Format
    stored: tuple[int, int]
    orientation: int = 1
    frames: int = 1
    bits: int = 8
    lossy: bool = False
    page: TiffPage | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the upright picture."""
        height, width = self.stored
        return (width, height) if self.orientation >= 5 else (height, width)


def read_header(path: Path, file: BufferedIOBase, *, is_label: bool = False) -> Header:
    """Reads a picture's header and refuses what must not or cannot be decoded rightly.

    Args:
        path: for messages.
        file: the opened file, or its bytes.
        is_label: whether its numbers are ids, of which there may be other kinds than of brightness.

    Raises:
        InputError: the format is not one of those that are read, the picture is damaged, larger than
            ``MOST_PIXELS``, animated or of several pages, or a TIFF of numbers that are no image.
    """
    shown = printable(str(path))
    file.seek(0)
    kind = identify(path, file.read(64))
    try:
        header = {"PNG": _png, "JPEG": _jpeg, "WebP": _webp, "BMP": _bmp, "TIFF": _tiff}[kind](file)
    except (struct.error, IndexError) as error:
        raise InputError(f"{shown}: is truncated or damaged; download or copy it again") from error
    except ValueError as error:
        raise InputError(f"{shown}: {error}; replace or remove the file") from error
    height, width = header.stored
    if height < 1 or width < 1:
        raise InputError(f"{shown}: is damaged (its size is {width}×{height}); replace or remove the file")
    if height * width > MOST_PIXELS:
        raise InputError(
            f"{shown}: has {width}×{height} pixels, far more than can be read safely "
            f"({MOST_PIXELS:,}); make it smaller, or cut it into tiles"
        )
    if header.frames != 1:
        what = "pages" if kind == "TIFF" else "frames"
        raise InputError(
            f"{shown}: has {'no' if not header.frames else f'{header.frames}'} {what}, and only one picture a file "
            f"is read; save each {what[:-1]} as a file of its own"
        )
    if header.page is not None:
        _check_tiff(shown, header.page, is_label)
    return header


def _png(file: BufferedIOBase) -> Header:
    file.seek(8)
    header: Header | None = None
    frames, exif = 1, b""
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if kind in (b"IDAT", b"IEND"):
            break
        following = file.tell() + length + 4
        if kind == b"IHDR":
            if header is not None:
                raise ValueError("is damaged (it states its size twice)")
            width, height, bits = struct.unpack(">IIB", file.read(9))
            header = Header("PNG", (height, width), bits=bits)
        elif kind == b"acTL":
            (frames,) = struct.unpack(">I", file.read(4))
        elif kind == b"eXIf":
            exif = file.read(min(length, 1 << 16))
        file.seek(following)
    if header is None:
        raise ValueError("is a damaged PNG (without a header)")
    return Header("PNG", header.stored, _orientation(exif), frames, header.bits)


def _jpeg(file: BufferedIOBase) -> Header:
    size: tuple[int, int] | None = None
    orientation, bits = 1, 8
    file.seek(2)
    while True:
        prefix = file.read(1)
        if prefix != b"\xff":
            raise ValueError("is a damaged JPEG")
        while (code := file.read(1)) == b"\xff":  # fill bytes
            pass
        marker = code[0]
        if marker == 0xD9 or marker == 0xDA:
            break
        (length,) = struct.unpack(">H", file.read(2))
        following = file.tell() + length - 2
        if marker in _SOF:
            if size is not None:
                raise ValueError("is damaged (it states its size twice)")
            bits, height, width = struct.unpack(">BHH", file.read(5))
            size = (height, width)
        elif marker == 0xE1 and orientation == 1:
            orientation = _orientation(file.read(length - 2))
        file.seek(following)
    if size is None:
        raise ValueError("is a damaged JPEG (without a size)")
    return Header("JPEG", size, orientation, bits=bits, lossy=True)


def _webp(file: BufferedIOBase) -> Header:
    stored: tuple[int, int] | None = None
    picture: tuple[int, int] | None = None
    frames, lossy, orientation, animated = 0, False, 1, False
    for kind, length in _riff_chunks(file):
        if kind == b"VP8X" and stored is None:
            flags, width, height = struct.unpack("<I3s3s", file.read(10))
            stored = (int.from_bytes(height, "little") + 1, int.from_bytes(width, "little") + 1)
            animated = bool(flags & 2)
        elif kind == b"VP8 ":
            width, height = struct.unpack("<HH", file.read(10)[6:])
            picture, lossy = (height & 0x3FFF, width & 0x3FFF), True
        elif kind == b"VP8L":
            (packed,) = struct.unpack("<I", file.read(5)[1:])
            picture = ((packed >> 14 & 0x3FFF) + 1, (packed & 0x3FFF) + 1)
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"EXIF":
            orientation = _orientation(file.read(min(length, 1 << 16)))
    if stored is not None and picture is not None and not animated and stored != picture:
        raise ValueError("is damaged (it states two different sizes)")
    stored = stored or picture
    if stored is None:
        raise ValueError("is a damaged WebP (without a size)")
    # One frame may cover a part of the picture only, so a file of one frame is animated all the same.
    return Header("WebP", stored, orientation, max(2, frames) if animated else 1, lossy=lossy)


def _riff_chunks(file: BufferedIOBase) -> Iterator[tuple[bytes, int]]:
    """Yields the kind and length of every chunk, the file standing at its content."""
    file.seek(12)
    while len(start := file.read(8)) == 8:
        kind, length = struct.unpack("<4sI", start)
        following = file.tell() + length + length % 2
        yield kind, length
        file.seek(following)


def _bmp(file: BufferedIOBase) -> Header:
    file.seek(14)
    (length,) = struct.unpack("<I", file.read(4))
    if length == 12:
        width, height = struct.unpack("<HH", file.read(4))
    elif length >= 40:
        width, height = struct.unpack("<ii", file.read(8))
    else:
        raise ValueError("is a damaged BMP")
    return Header("BMP", (abs(height), width))


def _tiff(file: BufferedIOBase) -> Header:
    pages = read_pages(file)
    if not pages:
        raise ValueError("is a damaged TIFF (without a page)")
    page = pages[0]
    # Overviews and thumbnails repeat the first page.
    frames = 1 + sum(not other.reduced for other in pages[1:])
    return Header("TIFF", page.size, page.orientation, frames, page.bits, page.lossy, page)


def _check_tiff(shown: str, page: TiffPage, is_label: bool) -> None:
    """Refuses TIFF files that the decoders read wrongly or not at all, in words that say why."""
    remedy = "save it as PNG" if is_label else "save it as an ordinary picture of 8 bits, as PNG or JPEG"
    # Ids may be of any integers; pixels of other numbers have no fixed black and white.
    kinds, most_bits = (("unsigned", "signed"), 32) if is_label else (("unsigned",), 16)
    if page.kind not in kinds or page.bits not in (1, 2, 4, 8, 16, most_bits):
        names = {"float": "floating-point numbers", "signed": "signed integers", "unsigned": "integers"}
        bits = f"{page.bits}-bit " if page.bits else ""
        raise InputError(f"{shown}: is a TIFF of {bits}{names.get(page.kind, 'unusual numbers')}; {remedy}")
    usual = {
        WHITE_IS_ZERO: (1, 2),
        BLACK_IS_ZERO: (1, 2),
        RGB: (3, 4),
        PALETTE: (1,),
        CMYK: (4,),
        YCBCR: (3,),
    }
    if page.photometric not in usual:
        raise InputError(f"{shown}: is a TIFF of unusual colors (not RGB, gray, palette or CMYK); {remedy}")
    if page.samples not in usual[page.photometric]:
        raise InputError(
            f"{shown}: is a TIFF of {page.samples} channels that are not declared as RGB or gray; save the three "
            "channels red, green and blue of an image, or the one of a label map, as PNG"
        )
    if is_label and page.photometric == WHITE_IS_ZERO and page.bits > 1:
        raise InputError(
            f"{shown}: is a TIFF in which 0 is white, so its ids may be meant inverted; {remedy}"
        )
    if page.tile[0] * page.tile[1] > MOST_PIXELS:
        raise InputError(f"{shown}: is a TIFF of tiles that are too large to be read; {remedy}")


def check_scans(path: Path, data: bytes, header: Header) -> None:
    """Refuses a progressive JPEG that goes over its pixels so often that decoding would take minutes.

    Raises:
        InputError: it does.
    """
    scans = data.count(b"\xff\xda")
    if header.format == "JPEG" and scans * header.stored[0] * header.stored[1] > _MOST_SCANNED:
        raise InputError(
            f"{printable(str(path))}: is a JPEG of {scans} scans, which takes too long to decode; save it anew"
        )


def _orientation(exif: bytes) -> int:
    """The orientation that EXIF data state, 1 to 8; 1 if there is none. They have the form of a TIFF file."""
    try:
        pages = read_pages(BytesIO(exif.removeprefix(b"Exif\0\0")))
    except ValueError:
        return 1
    return pages[0].orientation if pages else 1
