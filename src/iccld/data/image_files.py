"""Reading and writing of image and label files, strict about what other readers let pass in silence.

Images come back as 8-bit RGB, whatever the file holds; label maps come back as the raw numbers of the file,
untouched by any color, gamma or rotation rule. A truncated or damaged file is an
``iccld.errors.InputError`` that names it.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from iccld.data.integrity import JPEG_SIGNATURE, PNG_SIGNATURE, read_bytes, verify
from iccld.errors import InputError
from iccld.files import write_atomic

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""The endings, in lower case, of the files that are taken for images."""

Color = tuple[int, int, int]
RawLabel = UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]
TOO_LARGE = "has far more pixels than can be read safely; make it smaller"
"""What is said of an image that Pillow refuses for its size."""
_EXIF_ORIENTATION = 274
_PNG_PALETTE = 3

_cv2_log: Any = cv2.utils.logging
_LOG_LEVEL = _cv2_log.getLogLevel()


def is_image_name(name: str) -> bool:
    """Whether a file name ends like an image's and is not a hidden file's."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def read_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "h w 3"]:
    """Reads an image as 8-bit RGB.

    Gray and palette images become RGB, alpha is dropped, 16 bits are scaled to 8, CMYK is converted, and the
    rotation that a camera notes in the EXIF header is applied.

    Raises:
        InputError: the file is missing, empty, truncated, damaged or no image.
    """
    path = Path(path)
    data = read_bytes(path)
    verify(path, data)
    # Versions of OpenCV differ in the formats whose orientation they see; here it is always the same.
    turn = _orientation_of(data)
    decoded = _decode(data, cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if turn else 0))
    if decoded is None:
        raise InputError(f"{path}: cannot be decoded as an image; replace or remove the file")
    return _upright(np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8), turn)


def read_label(path: str | os.PathLike[str], colors: Mapping[Color, int] | None = None) -> RawLabel:
    """Reads a label map as the raw ids of the file, shape (h, w), uint8 or uint16.

    Palette files give their indices; 16-bit files with several channels give the first RGB channel (SYNTHIA
    keeps the class there); a gray map that was saved as RGB gives its gray value.

    Args:
        path: the file, in a lossless format.
        colors: for color-coded maps, RGB color → id. A color that is not listed is an error.

    Raises:
        InputError: the file is missing, empty, truncated, no image, lossy, or color-coded without ``colors``.
    """
    path = Path(path)
    data = read_bytes(path)
    verify(path, data)
    if data.startswith(JPEG_SIGNATURE):
        raise InputError(f"{path}: a label map in JPEG has lost its exact ids; save label maps as PNG")
    if data.startswith(PNG_SIGNATURE) and data[24] == 16:
        raw = _decode(data, cv2.IMREAD_UNCHANGED)
        if raw is None:
            raise InputError(f"{path}: cannot be decoded as a label map; replace or remove the file")
        # OpenCV orders channels blue, green, red; an alpha channel would come fourth.
        return raw if raw.ndim == 2 else np.ascontiguousarray(raw[:, :, 2])
    return _label_from_pillow(path, data, colors)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Reads an image's (height, width) from its header alone, as ``read_image`` would return it.

    Raises:
        InputError: the file is missing, too large, or its header cannot be read.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = _orientation(image) >= 5
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {TOO_LARGE}") from error
    except (OSError, SyntaxError, ValueError, TypeError) as error:
        raise InputError(f"{path}: is not an image that can be read; replace or remove the file") from error
    return (width, height) if turned else (height, width)


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


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of an opened image, 1 to 8, from its header; 0 if the decoders see to it."""
    if image.format == "TIFF":  # an ordinary tag of the format, which both libraries obey
        return 0
    try:
        if image.format == "PNG":  # here getexif() would decode all pixels, in order to look behind them
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))
        else:
            exif = image.getexif()
        value = exif.get(_EXIF_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1
    return value if value in range(1, 9) else 1


def _orientation_of(data: bytes) -> int:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _orientation(image)
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError):
        return 1


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
    except cv2.error:
        return None
    finally:
        _cv2_log.setLogLevel(_LOG_LEVEL)


def _label_from_pillow(path: Path, data: bytes, colors: Mapping[Color, int] | None) -> RawLabel:
    raw: np.ndarray
    try:
        with Image.open(io.BytesIO(data)) as image:
            lossy = image.format == "WEBP" and b"VP8L" not in data[:64]
            if image.mode in ("LA", "La"):
                image.load()
                raw = np.asarray(image.getchannel(0))
            else:
                raw = np.asarray(image.convert("RGB") if image.mode in ("RGBA", "RGBX") else image)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {TOO_LARGE}") from error
    except (OSError, SyntaxError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be decoded as a label map; replace or remove the file") from error
    if lossy:
        raise InputError(f"{path}: a label map in lossy WebP has lost its exact ids; save label maps as PNG")
    if raw.ndim == 3:
        return _ids_from_colors(path, raw, colors)
    if raw.dtype == np.bool_:
        return raw.astype(np.uint8)
    if data.startswith(PNG_SIGNATURE) and data[24] < 8 and data[25] != _PNG_PALETTE:
        # Pillow stretches gray values of 2 and 4 bits over 0 to 255.
        step: int = 255 // ((1 << data[24]) - 1)
        return (raw // step).astype(np.uint8)
    if raw.dtype in (np.uint8, np.uint16):
        return raw
    if raw.dtype.kind in "iu" and raw.size and raw.min() >= 0 and raw.max() < 65536:
        return raw.astype(np.uint16)
    raise InputError(f"{path}: label map holds {raw.dtype} values; save ids from 0 to 65535 as PNG")


def _ids_from_colors(path: Path, raw: np.ndarray, colors: Mapping[Color, int] | None) -> RawLabel:
    if raw.shape[2] != 3 or raw.dtype != np.uint8:
        raise InputError(f"{path}: label map has {raw.shape[2]} channels; save one channel of ids as PNG")
    if colors is None:
        if (raw[:, :, 0] == raw[:, :, 1]).all() and (raw[:, :, 0] == raw[:, :, 2]).all():
            return np.ascontiguousarray(raw[:, :, 0])
        raise InputError(
            f"{path}: label map is color-coded RGB, but class ids are needed; "
            "give one channel of ids, or a dataset.toml with color_coded = true (docs/data.md)"
        )
    packed = raw.astype(np.int32) @ np.array([65536, 256, 1], dtype=np.int32)
    found, inverse = np.unique(packed, return_inverse=True)
    known = {red * 65536 + green * 256 + blue: label for (red, green, blue), label in colors.items()}
    unknown = [int(value) for value in found if int(value) not in known]
    if unknown:
        first = unknown[0]
        color = (first >> 16, first >> 8 & 255, first & 255)
        raise InputError(
            f"{path}: color {color} ({int((packed == first).sum())} pixels) belongs to no class; "
            "add it to colors or ignore_colors in dataset.toml"
        )
    table = np.array([known[int(value)] for value in found], dtype=np.uint16)
    ids: UInt16[np.ndarray, "h w"] = table[inverse].reshape(packed.shape)
    return ids
