"""Bounded reading of annotation files: JSON, XML and single values. XML with a DOCTYPE or entities is refused."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
from jaxtyping import Bool

from iccld.data.picture_header import read_header
from iccld.documents import parse_json
from iccld.errors import InputError, first_line
from iccld.escaping import shortened
from iccld.files import printable, read_bounded

MOST_BYTES = 1 << 29
"""Largest size in bytes of an annotation file, half a gigabyte."""
REMEDY = "export the annotations anew"

_XML_CHUNK = 1 << 16
_DEEPEST = 32
_WORDS: dict[type, str] = {dict: "an object", list: "a list", str: "a text"}


def load_json(path: Path) -> Any:
    """Reads a JSON file with annotations. Raises ``InputError`` as ``iccld.documents.read_json`` does."""
    data = read_bounded(path, MOST_BYTES)
    return parse_json(data, printable(str(path)), longest_text=MOST_BYTES, remedy=REMEDY)


def elements(path: Path) -> Iterator[tuple[tuple[str, ...], ElementTree.Element]]:
    """Yields (names of the elements above, element) for each element of an XML file, when the element ends.

    The caller may clear elements that it does not need any more. The children of an element are yielded before it.

    Raises:
        InputError: The file is too large, is not XML in UTF-8, is nested too deeply, or has a DOCTYPE or entities.
    """
    shown = printable(str(path))
    try:
        text = read_bounded(path, MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{shown}: is no XML in UTF-8; {REMEDY}") from error
    if re.search(r"<!(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise InputError(f"{shown}: has a DOCTYPE or entities, which are not read; {REMEDY}")
    parser: ElementTree.XMLPullParser[Any] = ElementTree.XMLPullParser(["start", "end"])
    above: list[str] = []
    try:
        for place in range(0, len(text), _XML_CHUNK):
            parser.feed(text[place : place + _XML_CHUNK])
            yield from _ended(parser, above, shown)
        parser.close()
        yield from _ended(parser, above, shown)
    except ElementTree.ParseError as error:
        raise InputError(f"{shown}: is no valid XML ({first_line(error)}); {REMEDY}") from error


def _ended(
    parser: ElementTree.XMLPullParser[Any], above: list[str], shown: str
) -> Iterator[tuple[tuple[str, ...], ElementTree.Element]]:
    events: Any = parser.read_events()
    for event, element in events:
        if event == "end":
            above.pop()
            yield tuple(above), element
        elif len(above) < _DEEPEST:
            above.append(element.tag)
        else:
            raise InputError(f"{shown}: is nested too deeply; {REMEDY}")


def field(table: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """Returns a value of a JSON object. Raises ``InputError`` if it is missing or has another type."""
    value = table.get(key) if isinstance(table, dict) else None
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        words = next((_WORDS[each] for each in kinds if each in _WORDS), "a number")
        raise InputError(f"{where}: {key} = {shortened(value)} must be {words}; {REMEDY}")
    return value


def mask_of_base64(text: str, path: Path, where: str) -> Bool[np.ndarray, "h w"]:
    """Returns the nonzero pixels of a gray PNG in base64. Raises ``InputError`` if it cannot be decoded."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{where}: its mask is not base64; {REMEDY}") from error
    return mask_of_png(data, path, where)


def mask_of_png(data: bytes, path: Path, where: str) -> Bool[np.ndarray, "h w"]:
    """Returns the nonzero pixels of a PNG: of its alpha channel if it has one. Raises ``InputError`` for other data."""
    try:
        header = read_header(path, BytesIO(data), is_label=True)
    except InputError as error:
        raise InputError(f"{where}: its mask is not a PNG that can be read; {REMEDY}") from error
    try:
        mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        mask = None
    if header.format != "PNG" or mask is None or mask.shape[:2] != header.stored:
        raise InputError(f"{where}: its mask is not a PNG that can be read; {REMEDY}")
    if mask.ndim == 3:
        mask = mask[:, :, 3] if mask.shape[2] == 4 else mask.max(axis=2)
    return np.asarray(mask > 0)
