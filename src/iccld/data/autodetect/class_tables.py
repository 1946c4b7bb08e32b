"""Tables of classes and colors that come with color-coded label maps: Kaggle's and CamVid's lists, CVAT's label map."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from iccld.data.image_files import Color
from iccld.errors import InputError
from iccld.files import read_bounded

_NAMES = ("class_dict.csv", "classes.csv", "labelmap.txt", "label_colors.txt")
_MOST_BYTES = 1_000_000
_NUMBER = r"\s*(\d{1,3})\s*"


def find_class_table(root: Path) -> tuple[str, dict[str, Color]] | None:
    """Returns (file name, class name → color) of the first table of classes in a folder, or ``None``.

    The known files are ``class_dict.csv`` and ``classes.csv`` (name, r, g, b: Kaggle), ``labelmap.txt``
    (``name:r,g,b:parts:actions``: masks of CVAT) and ``label_colors.txt`` (``r g b name``: CamVid). A table whose lines
    do not have this form, or with a color for two classes, is not used.
    """
    for name in _NAMES:
        try:
            text = read_bounded(root / name, _MOST_BYTES).decode("utf-8-sig")
        except (InputError, UnicodeDecodeError):
            continue
        table = _parse(name, text)
        if table and len(set(table.values())) == len(table):
            return name, table
    return None


def _parse(name: str, text: str) -> dict[str, Color]:
    """Returns class name → color, or an empty dict if a line has another form."""
    if name.endswith(".csv"):
        rows = [row for row in csv.reader(text.splitlines()) if row]
        # The first row contains the titles of the columns.
        lines = [(":".join(row[:-3]), ",".join(row[-3:])) for row in rows[1:] if len(row) > 3]
        is_whole = len(lines) == len(rows) - 1
        matches = [(title, re.fullmatch(f"{_NUMBER},{_NUMBER},{_NUMBER}", rest)) for title, rest in lines]
    else:
        kept = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        form = (
            rf"(?P<name>[^:]+):{_NUMBER},{_NUMBER},{_NUMBER}:.*:.*"
            if name == "labelmap.txt"
            else rf"{_NUMBER}\s{_NUMBER}\s{_NUMBER}\s(?P<name>.+)"
        )
        found = [re.fullmatch(form, line) for line in kept]
        is_whole = True
        matches = [(match["name"] if match else "", match) for match in found]
    table: dict[str, Color] = {}
    for title, match in matches:
        numbers = [int(text) for text in match.groups() if text and text.isdigit()][:3] if match else []
        if len(numbers) != 3 or max(numbers) > 255 or not title.strip() or title.strip() in table:
            return {}
        red, green, blue = numbers
        table[title.strip()] = (red, green, blue)
    return table if is_whole else {}
