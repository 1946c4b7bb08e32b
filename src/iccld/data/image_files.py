"""Reading and writing of image and label files, strict about what other readers let pass in silence.

Images come back as 8-bit RGB, whatever the file holds; label maps come back as the raw numbers of the file,
untouched by any color, gamma or rotation rule. A truncated or damaged file is an
``iccld.errors.InputError`` that names it.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from iccld.data.integrity import read_bytes, verify, without_extras
from iccld.data.picture_header import Header, check_scans, read_header
from iccld.data.softness import advise, alpha_tells
from iccld.errors import InputError
from iccld.files import open_regular, printable, write_atomic

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""The endings, in lower case, of the files that are taken for images."""

LABEL_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix not in (".jpg", ".jpeg"))
"""Those among them that a label map may have."""

Color = tuple[int, int, int]
RawLabel = UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]
_PNG_PALETTE = 3
_CV2_NO_MEMORY = -4  # cv::Error::StsNoMem
_LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "LA", "La", "RGB", "RGBA", "RGBX", "RGBa")
# The readers themselves rather than Image.open, which warns of sizes that are allowed here and may try others.
_PILLOW = threading.Lock()
_READERS = {"PNG": PngImageFile, "WebP": WebPImageFile, "BMP": BmpImageFile, "TIFF": TiffImageFile}

_cv2_log: Any = cv2.utils.logging
_LOG_LEVEL = _cv2_log.getLogLevel()


def is_image_name(name: str) -> bool:
    """Whether a file name ends like an image's and is not a hidden file's."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def is_label_name(name: str) -> bool:
    """Whether a file name ends like a label map's and is not a hidden file's."""
    return not name.startswith(".") and name.lower().endswith(LABEL_SUFFIXES)


def read_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "h w 3"]:
    """Reads an image as 8-bit RGB.

    Gray and palette images become RGB, alpha is dropped, 16 bits are scaled to 8, CMYK is converted, and the
    rotation that a camera notes in the EXIF header is applied.

    Raises:
        InputError: the file is missing, empty, truncated, damaged, too large, or no picture of a format that is
            read: PNG, JPEG, WebP, BMP, and TIFF of integers with one page.
    """
    path = Path(path)
    with _enough_memory(path):
        data, header = _read(path)
        # Versions of OpenCV differ in the formats whose orientation they see; here it is always the same.
        turn = 1 if header.format == "TIFF" else header.orientation
        decoded = _decode(data, cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if turn != 1 else 0))
        if decoded is None:
            raise InputError(f"{_shown(path)}: cannot be decoded as an image; replace or remove the file")
        if decoded.shape[:2] != (header.size if header.format == "TIFF" else header.stored):
            raise InputError(f"{_shown(path)}: is damaged (it states two different sizes); replace the file")
        return _upright(np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8), turn)


def read_label(path: str | os.PathLike[str], colors: Mapping[Color, int] | None = None) -> RawLabel:
    """Reads a label map as the raw ids of the file, shape (h, w), uint8 or uint16.

    Palette files give their indices; 16-bit files with several channels give the first RGB channel (SYNTHIA
    keeps the class there); a gray map that was saved as RGB gives its gray value, and one with red alone its red.

    Args:
        path: the file, in a lossless format.
        colors: for color-coded maps, RGB color → id. A color that is not listed is an error.

    Raises:
        InputError: the file is missing, empty, truncated, no image, lossy, or color-coded without ``colors``, or
            its mask is in the alpha channel. Where colors are not listed since the map was compressed, blurred or
            scaled, the message says so.
    """
    path = Path(path)
    with _enough_memory(path):
        data, header = _read_lossless(path)
        # Pillow keeps 8 bits of a channel where there are several.
        many = header.format == "PNG" or (header.page is not None and header.page.samples > 2)
        if header.bits == 16 and many:
            raw = _decode(data, cv2.IMREAD_UNCHANGED)
            if raw is None or raw.shape[:2] != header.stored:
                raise InputError(
                    f"{_shown(path)}: cannot be decoded as a label map; replace or remove the file"
                )
            # OpenCV orders channels blue, green, red; an alpha channel would come fourth.
            if raw.ndim == 3 and raw.shape[2] == 4:
                _refuse_mask_in_alpha(path, raw[:, :, :3], raw[:, :, 3])
            return raw if raw.ndim == 2 else np.ascontiguousarray(raw[:, :, 2])
        return _label_from_pillow(path, data, header, colors)


@contextlib.contextmanager
def open_label(path: str | os.PathLike[str]) -> Iterator[tuple[Image.Image, Header]]:
    """Opens the file of a label map with Pillow, for its mode, palette and colors, and tells its header.

    Raises:
        InputError: as of ``read_label``, but for what only the decoded pixels show.
    """
    path = Path(path)
    with _enough_memory(path):
        data, header = _read_lossless(path)
        with _opened_by_pillow(path, data, header) as image:
            yield image, header


def label_pixels(path: Path, image: Image.Image) -> np.ndarray:
    """Decodes an opened label map: (h, w) of one channel, (h, w, 3) of colors; alpha is dropped.

    Raises:
        InputError: the alpha channel holds what the others do not, as where a mask was saved as transparency.
    """
    raw = np.asarray(image)
    if image.mode in ("LA", "La", "RGBA", "RGBa"):
        _refuse_mask_in_alpha(path, raw[:, :, :-1], raw[:, :, -1])
    if image.mode in ("LA", "La"):
        return np.ascontiguousarray(raw[:, :, 0])
    return np.ascontiguousarray(raw[:, :, :3]) if raw.ndim == 3 else raw


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Reads an image's (height, width) from its header alone, as ``read_image`` would return it.

    Raises:
        InputError: the file is missing, too large, or its header cannot be read.
    """
    with open_regular(path) as file:
        return read_header(Path(path), file).size


def write_png(
    path: str | os.PathLike[str],
    array: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"],
    palette: Sequence[Color] | None = None,
) -> Path:
    """Writes a gray, palette or RGB PNG atomically.

    Args:
        path: the file, ending in ``.png``.
        array: uint8, (h, w) for label maps and gray images, (h, w, 3) for RGB images.
        palette: RGB colors of the values 0, 1, … of a label map; other values are shown black. The stored
            numbers are those of ``array`` either way.

    Raises:
        InputError: the file cannot be written.
    """
    assert array.dtype == np.uint8, array.dtype
    assert array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3 and palette is None), array.shape
    if palette is None:
        bgr = array if array.ndim == 2 else cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
        done, encoded = cv2.imencode(".png", bgr)
        assert done, "OpenCV could not encode a PNG"
        data = encoded.tobytes()
    else:
        image = Image.fromarray(np.ascontiguousarray(array))
        image.putpalette([channel for color in palette for channel in color] + [0] * 3 * (256 - len(palette)))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        data = buffer.getvalue()
    return write_atomic(path, lambda temporary: temporary.write_bytes(data))


def _read(path: Path, *, is_label: bool = False) -> tuple[bytes, Header]:
    """The bytes of a picture's file, found whole, and its header, found harmless."""
    data = read_bytes(path)
    verify(path, data)
    header = read_header(path, io.BytesIO(data), is_label=is_label)
    check_scans(path, data, header)
    return without_extras(data) if header.format == "PNG" else data, header


def _read_lossless(path: Path) -> tuple[bytes, Header]:
    data, header = _read(path, is_label=True)
    if header.lossy:
        raise InputError(
            f"{_shown(path)}: a label map in {'lossy ' * (header.format != 'JPEG')}{header.format} has lost its "
            "exact ids; save label maps as PNG"
        )
    return data, header


@contextlib.contextmanager
def _enough_memory(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise InputError(
            f"{_shown(path)}: is too large for the memory that is free; make it smaller, or close other programs"
        ) from error


def _shown(path: Path) -> str:
    return printable(str(path))


def _upright(image: UInt8[np.ndarray, "h w 3"], orientation: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Undoes an EXIF orientation: 5 to 8 are transposed, the others mirrored up-down, left-right or both."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _decode(data: bytes, flags: int) -> np.ndarray | None:
    """Decodes without OpenCV's own chatter on stderr; None if it cannot."""
    _cv2_log.setLogLevel(_cv2_log.LOG_LEVEL_SILENT)
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if error.code == _CV2_NO_MEMORY:
            raise MemoryError from error
        return None
    finally:
        _cv2_log.setLogLevel(_LOG_LEVEL)


@contextlib.contextmanager
def _opened_by_pillow(path: Path, data: bytes, header: Header) -> Iterator[Image.Image]:
    try:
        with _PILLOW, warnings.catch_warnings():  # one thread at a time: the filters are those of the process
            warnings.simplefilter("ignore")  # of tags that are damaged and not needed
            opened = _READERS[header.format](io.BytesIO(data))
        with opened as image:
            if image.size not in (header.stored, header.stored[::-1]):
                raise ValueError("the header states two sizes")
            if image.mode not in _LABEL_MODES:
                raise InputError(
                    f"{_shown(path)}: has {image.mode} pixels, which are no ids; save ids as PNG"
                )
            yield image
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, TypeError) as error:
        raise InputError(
            f"{_shown(path)}: cannot be decoded as a label map; replace or remove the file"
        ) from error


def _label_from_pillow(
    path: Path, data: bytes, header: Header, colors: Mapping[Color, int] | None
) -> RawLabel:
    with _opened_by_pillow(path, data, header) as image:
        raw = label_pixels(path, image)
    if raw.ndim == 3:
        return _ids_from_colors(path, raw, colors)
    if raw.dtype == np.bool_:
        return raw.astype(np.uint8)
    if header.format == "PNG" and header.bits < 8 and data[25] != _PNG_PALETTE:
        # Pillow stretches gray values of 2 and 4 bits over 0 to 255.
        step: int = 255 // ((1 << header.bits) - 1)
        return (raw // step).astype(np.uint8)
    if raw.dtype in (np.uint8, np.uint16):
        return raw
    if raw.dtype.kind in "iu" and raw.size and raw.min() >= 0 and raw.max() < 65536:
        return raw.astype(np.uint16)
    raise InputError(f"{_shown(path)}: label map holds {raw.dtype} values; save ids from 0 to 65535 as PNG")


def _ids_from_colors(path: Path, raw: np.ndarray, colors: Mapping[Color, int] | None) -> RawLabel:
    if raw.shape[2] != 3 or raw.dtype != np.uint8:
        raise InputError(
            f"{_shown(path)}: label map has {raw.shape[2]} channels; save one channel of ids as PNG"
        )
    if colors is None:
        if is_gray(raw) or is_red(raw):
            return np.ascontiguousarray(raw[:, :, 0])
        usual = "give one channel of ids, or a dataset.toml with color_coded = true (docs/data.md)"
        raise InputError(
            f"{_shown(path)}: label map is color-coded RGB, but class ids are needed; {advise(raw, usual)}"
        )
    table = np.full(1 << 24, -1, dtype=np.int32)
    for (red, green, blue), label in colors.items():
        table[red << 16 | green << 8 | blue] = label
    ids = np.empty(raw.shape[:2], dtype=np.uint16)
    for row, line in enumerate(
        raw
    ):  # by rows, since the numbers of all colors at once would need much memory
        packed = line @ np.array([65536, 256, 1], dtype=np.int32)
        labels = table[packed]
        if labels.min(initial=0) < 0:
            first = int(packed[labels < 0].min())
            color = (first >> 16, first >> 8 & 255, first & 255)
            raise InputError(
                f"{_shown(path)}: color {color} ({_count(raw, color)} pixels) belongs to no class; "
                + advise(raw, "add it to colors or ignore_colors in dataset.toml")
            )
        ids[row] = labels
    return ids


def is_gray(rgb: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Whether all channels are the same, so that a map of ids was saved as RGB."""
    return bool((rgb[:, :, 0] == rgb[:, :, 1]).all() and (rgb[:, :, 0] == rgb[:, :, 2]).all())


def is_red(rgb: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Whether green and blue are 0 throughout, as where ids are kept in the red channel (CARLA)."""
    return not rgb[:, :, 1:].any()


def _refuse_mask_in_alpha(path: Path, pixels: np.ndarray, alpha: np.ndarray) -> None:
    if alpha_tells(pixels, alpha):
        raise InputError(
            f"{_shown(path)}: its mask is in the alpha channel, which tells apart pixels of one color; "
            "save that channel as a gray PNG (Pillow: image.getchannel('A'))"
        )


def _count(raw: np.ndarray, color: Color) -> int:
    return sum(int((line == np.array(color, dtype=np.uint8)).all(axis=1).sum()) for line in raw)
