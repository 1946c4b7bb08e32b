"""Reads and writes image and label files. Files that decoders would misread without an error are refused.

Images are returned as 8-bit RGB. Label maps are returned with the values that the file stores, without conversion of
color, gamma or rotation. A truncated or damaged file raises ``iccld.errors.InputError`` with the file's name.
"""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from iccld.data.picture_header import Header, read_header, read_whole
from iccld.data.softness import advise, alpha_tells
from iccld.data.tiff_header import SAMPLES, first
from iccld.errors import InputError
from iccld.files import AnyPath, open_regular, printable, write_atomic

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""File extensions of images, in lower case."""

LABEL_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix not in (".jpg", ".jpeg"))
"""File extensions of label maps, in lower case. All image extensions except those of JPEG are included."""

Color = tuple[int, int, int]
RawLabel = UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]
_PNG_PALETTE = 3
_CV2_NO_MEMORY = -4  # cv::Error::StsNoMem
_LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "LA", "La", "RGB", "RGBA", "RGBX", "RGBa")
_WARNINGS = threading.Lock()  # held while warnings are off, since all threads share the warning filters
_cv2_log: Any = cv2.utils.logging
_LOG_LEVEL = _cv2_log.getLogLevel()


def is_image_name(name: str) -> bool:
    """Returns whether a file has the extension of an image and is not hidden."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def is_label_name(name: str) -> bool:
    """Returns whether a file has the extension of a label map and is not hidden."""
    return not name.startswith(".") and name.lower().endswith(LABEL_SUFFIXES)


def read_image(path: AnyPath) -> UInt8[np.ndarray, "h w 3"]:
    """Reads an image as 8-bit RGB.

    Gray, palette and CMYK images are converted to RGB, and 16 bits are scaled to 8. The alpha channel is dropped. The
    rotation in the EXIF header is applied. The supported formats are PNG, JPEG, WebP, BMP and TIFF. A TIFF file must
    contain integers and only one page. Raises ``InputError`` if the file is missing, empty, truncated, damaged, too
    large or not in a supported format.
    """
    path = Path(path)
    with _decoding(path, "an image"):
        data, header = read_whole(path)
        # All versions of OpenCV apply the EXIF rotation to TIFF images. Only some versions apply the rotation to other
        # formats.
        turn, size = (1, header.size) if header.format == "TIFF" else (header.orientation, header.stored)
        flags = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if turn != 1 else 0)
        decoded = cv2.cvtColor(_decode(data, flags, size), cv2.COLOR_BGR2RGB)
        return upright(np.asarray(decoded, dtype=np.uint8), turn)


def read_label(path: AnyPath, colors: Mapping[Color, int] | None = None) -> RawLabel:
    """Returns the raw ids of a label file as a uint8 or uint16 array of shape (h, w).

    For palette files, the palette indices are returned. For 16-bit files with several channels, the red channel is
    returned, because the red channel contains the class in SYNTHIA. Without ``colors``, the red channel is also
    returned for RGB files in which all channels are equal or only red is nonzero.

    Args:
        path: Label file in a lossless format.
        colors: RGB color → id, for color-coded maps. A color that is not listed raises ``InputError``.

    Raises:
        InputError: The file is missing, empty, truncated, not an image, or lossy. Also raised if the mask is in the
            alpha channel, or the map is color-coded and ``colors`` is ``None``. If a color is not listed because the
            map was compressed, blurred or scaled, the message names this cause.
    """
    raw, _ = decode_label(path)
    return raw if raw.ndim == 2 else _ids_from_colors(Path(path), raw, colors)


def decode_label(path: AnyPath) -> tuple[RawLabel | UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "n 3"]]:
    """Reads a label file and returns (array, palette).

    The array contains ids with shape (h, w) or RGB colors with shape (h, w, 3). The palette contains the n RGB colors
    of a palette file and has the shape (n, 3). For other files, the palette is empty.
    """
    path = Path(path)
    palette: list[int] = []
    with _decoding(path, "a label map"):
        data, header = read_whole(path, is_label=True)
        if header.lossy:
            kind = "JPEG" if header.format == "JPEG" else f"lossy {header.format}"
            raise _refusal(path, f"a label map in {kind} has lost its exact ids; save label maps as PNG")
        # Pillow reduces 16-bit files with several channels to 8 bits, so OpenCV decodes these files.
        if header.bits == 16 and (header.format == "PNG" or first(header.tags, SAMPLES, 1) > 2):
            raw = _decode(data, cv2.IMREAD_UNCHANGED, header.stored)
            has_alpha = raw.ndim == 3 and raw.shape[2] == 4
            if raw.ndim == 3:
                raw = cv2.cvtColor(raw, cv2.COLOR_BGRA2RGBA if has_alpha else cv2.COLOR_BGR2RGB)
        else:
            with _opened_by_pillow(path, data, header) as image:
                raw, has_alpha = np.asarray(image), image.mode in ("LA", "La", "RGBA", "RGBa")
                palette = (image.getpalette("RGB") or []) if image.mode == "P" else []
            if header.format == "PNG" and 1 < header.bits < 8 and data[25] != _PNG_PALETTE:
                # Pillow scales gray values of 2 and 4 bits to the range from 0 to 255. The scaling is undone here.
                raw = raw // np.uint8(255 // ((1 << header.bits) - 1))
        if has_alpha and alpha_tells(raw[:, :, :-1], raw[:, :, -1]):
            text = (
                "its mask is in the alpha channel, which tells apart pixels of one color; save that channel "
            )
            raise _refusal(path, text + "as a gray PNG (Pillow: image.getchannel('A'))")
        if raw.ndim == 3:
            is_colored = raw.dtype == np.uint8 and raw.shape[2] > 2
            raw = np.ascontiguousarray(raw[:, :, :3] if is_colored else raw[:, :, 0])
        if raw.min() < 0 or raw.max() > 65535:
            raise _refusal(path, f"label map holds {raw.dtype} values; save ids from 0 to 65535 as PNG")
        raw = raw.astype(np.uint8 if raw.dtype.itemsize == 1 else np.uint16, copy=False)
        return raw, np.array(palette, np.uint8).reshape(-1, 3)


def image_size(path: AnyPath) -> tuple[int, int]:
    """Returns the (height, width) of the image that ``read_image`` would return. Only the header is read."""
    with open_regular(path) as file:
        return read_header(Path(path), file).size


def write_png(
    path: AnyPath,
    array: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"],
    palette: Sequence[Color] | None = None,
) -> Path:
    """Writes a gray, palette or RGB PNG atomically, and returns its path.

    ``palette`` lists the RGB colors of the labels 0, 1, … All other labels are shown in black. The file stores
    the values of ``array``, with or without a palette.
    """
    assert array.dtype == np.uint8, array.dtype
    assert array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3 and palette is None), array.shape
    if palette is not None:
        image = _with_palette(array, palette)
        return write_atomic(path, lambda temporary: image.save(temporary, "PNG"))
    bgr = array if array.ndim == 2 else cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".png", bgr)
    assert done, "OpenCV could not encode a PNG"
    return write_atomic(path, lambda temporary: temporary.write_bytes(encoded.tobytes()))


def indexed_png(array: UInt8[np.ndarray, "h w"], palette: Sequence[Color]) -> bytes:
    """Returns the bytes of a palette PNG, as ``write_png`` writes it."""
    target = io.BytesIO()
    _with_palette(array, palette).save(target, "PNG")
    return target.getvalue()


def _with_palette(array: UInt8[np.ndarray, "h w"], palette: Sequence[Color]) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(array))
    # A shorter palette would make Pillow store fewer bits per pixel, too few for the value 255.
    image.putpalette([channel for color in palette for channel in color] + [0] * 3 * (256 - len(palette)))
    return image


@contextlib.contextmanager
def _decoding(path: Path, what: str) -> Iterator[None]:
    """Converts exceptions of decoders to ``InputError`` with the file's name."""
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        text = "is too large for the memory that is free; make it smaller, or close other programs"
        raise _refusal(path, text) from error
    except (OSError, SyntaxError, ValueError, TypeError, cv2.error) as error:
        raise _refusal(path, f"cannot be decoded as {what}; replace or remove the file") from error


def _refusal(path: Path, text: str) -> InputError:
    return InputError(f"{printable(str(path))}: {text}")


def upright(image: UInt8[np.ndarray, "h w *c"], orientation: int) -> UInt8[np.ndarray, "h2 w2 *c"]:
    """Returns an image or a label map, rotated and mirrored as the EXIF orientation (1 to 8) demands."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _decode(data: bytes, flags: int, size: tuple[int, int]) -> np.ndarray:
    """Decodes a picture without OpenCV's log messages. Raises ``ValueError`` if the (height, width) is not ``size``."""
    _cv2_log.setLogLevel(_cv2_log.LOG_LEVEL_SILENT)
    try:
        decoded: np.ndarray | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if error.code == _CV2_NO_MEMORY:
            raise MemoryError from error
        raise
    finally:
        _cv2_log.setLogLevel(_LOG_LEVEL)
    if decoded is None or decoded.shape[:2] != size:
        raise ValueError("it is damaged, or states two sizes")
    return decoded


@contextlib.contextmanager
def _opened_by_pillow(path: Path, data: bytes, header: Header) -> Iterator[Image.Image]:
    with _WARNINGS, warnings.catch_warnings():
        # Warnings are off because Pillow warns about damaged tags (not needed here) and large images (allowed here).
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data), formats=[header.format])
        if image.size not in (header.stored, header.stored[::-1]):
            raise ValueError("it states two sizes")
        if image.mode not in _LABEL_MODES:
            raise _refusal(path, f"has {image.mode} pixels, which are no ids; save ids as PNG")
        if header.format == "TIFF":
            image.load()  # decodes while warnings are off, because Pillow's TIFF reader also warns during decoding
    with image:
        yield image


def _ids_from_colors(path: Path, raw: np.ndarray, colors: Mapping[Color, int] | None) -> RawLabel:
    if colors is None:
        if is_gray(raw) or is_red(raw):
            return np.ascontiguousarray(raw[:, :, 0])
        usual = "give one channel of ids, or a dataset.toml with color_coded = true (docs/data.md)"
        raise _refusal(path, f"label map is color-coded RGB, but class ids are needed; {advise(raw, usual)}")
    table = np.full(1 << 24, -1, dtype=np.int32)
    for (red, green, blue), label in colors.items():
        table[red << 16 | green << 8 | blue] = label
    ids = np.empty(raw.shape[:2], dtype=np.uint16)
    for row, line in enumerate(raw):  # all rows at once would need too much memory
        packed = line @ np.array([65536, 256, 1], dtype=np.int32)
        labels = table[packed]
        if labels.min(initial=0) < 0:
            unknown = line[labels < 0][0]
            count = sum(int((line == unknown).all(axis=1).sum()) for line in raw)
            text = f"color {tuple(unknown.tolist())} ({count} pixels) belongs to no class; "
            raise _refusal(path, text + advise(raw, "add it to colors or ignore_colors in dataset.toml"))
        ids[row] = labels
    return ids


def is_gray(rgb: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Returns whether all channels are equal, as in a map of ids that was saved as RGB."""
    return bool((rgb[:, :, 0] == rgb[:, :, 1]).all() and (rgb[:, :, 0] == rgb[:, :, 2]).all())


def is_red(rgb: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Returns whether green and blue are 0 everywhere, as in maps with ids in the red channel (CARLA)."""
    return not rgb[:, :, 1:].any()
