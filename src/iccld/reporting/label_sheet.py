"""Label sheets: images with overlaid labels, on which a user can check which classes the label ids stand for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from iccld.data.datasets import remap_table
from iccld.data.image_files import read_image, read_label
from iccld.data.layouts import FilePair, Layout
from iccld.drawing import overlay
from iccld.errors import InputError
from iccld.files import AnyPath
from iccld.labels import LabelSpace
from iccld.reporting.figures import draw_page, scaled
from iccld.resizing import resize_label

_COLUMNS = 4
_CELL_WIDTH = 390  # width of a picture in pixels
# A class is well visible in an image that has at least this fraction of the class's largest pixel count in any image.
_WELL_SEEN = 0.25


def label_sheet(
    layout: Layout,
    space: LabelSpace,
    shown: Mapping[str, Mapping[int, int]],
    path: AnyPath,
    *,
    title: str,
    count: int = 12,
) -> tuple[Path, int]:
    """Writes a PNG file of up to ``count`` images of a data set, overlaid with their labels, and a legend.

    ``shown`` maps image names to the number of pixels of each label. For a data set without labels, ``shown`` is empty.
    If possible, the images are selected so that every class of ``space`` is visible.

    Returns:
        The path of the PNG file and the number of images on the sheet.

    Raises:
        InputError: no image can be read, or the file cannot be written.
    """
    table = remap_table(layout.ids, layout.space, space)
    cells: list[tuple[np.ndarray | None, str]] = []
    seen: set[int] = set()
    for index in choose_images([pair.name for pair in layout.pairs], shown, count):
        pair = layout.pairs[index]
        try:
            picture, found = _overlay(pair, layout, space, table, has_label=pair.name in shown)
        except InputError:
            continue  # unreadable files are reported by the check of the data set
        cells.append((picture, pair.name))
        seen |= found
    if not cells:
        raise InputError(f"{layout.root}: no image of it can be read, so there is nothing to draw")
    columns = min(_COLUMNS, max(2, len(cells)))
    entries = [(c.name, c.color) for index, c in enumerate(space.classes) if index in seen]
    return draw_page(cells, path, columns, _CELL_WIDTH, headings=[title], entries=entries), len(cells)


def choose_images(names: Sequence[str], shown: Mapping[str, Mapping[int, int]], count: int) -> list[int]:
    """Selects up to ``count`` images and returns their indices into ``names`` in ascending order.

    First, images are selected so that every class is well visible if possible, starting with the rarest class. The
    remaining images are spread over the data set. Images without an entry in ``shown`` are used only if no image has
    an entry. See ``label_sheet`` for ``shown``.
    """
    pool = [i for i, name in enumerate(names) if name in shown] or list(range(len(names)))
    totals: Counter[int] = Counter()
    for counts in shown.values():
        totals.update(counts)
    chosen: list[int] = []
    for label in sorted(totals, key=totals.__getitem__):
        best = max(pool, key=lambda i: shown.get(names[i], {}).get(label, 0))
        most = shown[names[best]].get(label, 0)
        seen = any(shown[names[i]].get(label, 0) >= _WELL_SEEN * most for i in chosen)
        if most and not seen and len(chosen) < count:
            chosen.append(best)
    rest = [i for i in pool if i not in chosen]
    while rest and len(chosen) < count:
        ends = chosen or [-1, len(names)]
        rest.sort(key=lambda i: min(abs(i - other) for other in ends))
        chosen.append(rest.pop())  # the image farthest from the chosen images
    return sorted(chosen)


def _overlay(
    pair: FilePair, layout: Layout, space: LabelSpace, table: np.ndarray, *, has_label: bool
) -> tuple[UInt8[np.ndarray, "h w 3"], frozenset[int]]:
    """Returns an image with overlaid labels, scaled to the width of a cell, and the indices of its classes."""
    image = scaled(read_image(pair.image), _CELL_WIDTH)
    if not has_label or pair.label is None:
        return image, frozenset()
    label = table[read_label(pair.label, layout.colors)]
    found = frozenset(int(value) for value in np.unique(label) if value < len(space))
    return overlay(image, resize_label(label, image.shape[:2]), space), found
