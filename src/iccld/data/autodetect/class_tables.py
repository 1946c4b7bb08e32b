"""Tables of classes and colors that come with color-coded label maps: Kaggle's and CamVid's lists, CVAT's label map."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from iccld.data.folders import require_below
from iccld.data.image_files import Color
from iccld.errors import InputError
from iccld.files import read_bounded

_NAMES = ("class_dict.csv", "classes.csv", "labelmap.txt", "label_colors.txt")
_MOST_BYTES = 1_000_000


def find_class_table(root: Path) -> tuple[str, dict[str, Color]] | None:
    """Returns (file name, class name → color) of the first table of classes in a folder, or ``None``.

    The known files are ``class_dict.csv`` and ``classes.csv`` (name, r, g, b: Kaggle), ``labelmap.txt``
    (``name:r,g,b:parts:actions``: masks of CVAT) and ``label_colors.txt`` (``r g b name``: CamVid). A table whose lines
    do not have this form, or with a color for two classes, is not used.
    """
    for name in _NAMES:
        try:
            require_below(root / name, root)
            text = read_bounded(root / name, _MOST_BYTES).decode("utf-8-sig")
        except (InputError, UnicodeDecodeError):
            continue
        table = _parse(name, text)
        if table and len(set(table.values())) == len(table):
            return name, table
    return None


def _parse(name: str, text: str) -> dict[str, Color]:
    """Returns class name → color, or an empty dict if a line has another form."""
    table: dict[str, Color] = {}
    try:
        for title, numbers in _entries(name, text):
            if len(numbers) != 3 or not title or title in table:
                return {}
            if not all(n.isascii() and n.isdigit() and len(n) <= 3 and int(n) < 256 for n in numbers):
                return {}
            red, green, blue = map(int, numbers)
            table[title] = (red, green, blue)
    except csv.Error:
        return {}
    return table


def _entries(name: str, text: str) -> Iterator[tuple[str, list[str]]]:
    """Yields the title and the three numbers of each line, without spaces."""
    if name.endswith(".csv"):
        rows = [row for row in csv.reader(text.splitlines()) if row]
        for row in rows[1:]:  # the first row contains the titles of the columns
            yield ",".join(row[:-3]).strip(), [cell.strip() for cell in row[-3:]]
        return
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if name == "labelmap.txt":
            title, color, *_ = [*line.split(":"), ""]
            yield title.strip(), [number.strip() for number in color.split(",")]
        else:
            *numbers, title = [*line.split(None, 3), "", ""][:4]
            yield title.strip(), numbers
