from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from iccld.reporting.figures import contact_sheet

COLORS = [(200, 30, 30), (30, 160, 60), (40, 60, 200), (220, 200, 40), (160, 40, 180)]


def cells(count: int, height: int = 30) -> list[np.ndarray]:
    return [np.full((height + 10 * (i % 2), 60, 3), COLORS[i % 5], np.uint8) for i in range(count)]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def boxes(page: np.ndarray, color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero((page == color).all(-1))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def test_pictures_stand_in_rows_at_their_shape_with_captions_below(tmp_path: Path):
    captions = [f"picture {i}\nand a second line" for i in range(5)]
    (file,) = contact_sheet(cells(5), captions, tmp_path / "sheet.png", columns=3, cell_width=120)
    page = pixels(file)
    found = [boxes(page, color) for color in COLORS]
    assert [(bottom - top, right - left) for top, bottom, left, right in found] == [
        (60 + 20 * (i % 2), 120) for i in range(5)
    ]
    assert found[0][0] == found[1][0] == found[2][0] < found[3][0] == found[4][0]
    assert found[0][3] < found[1][2] < found[1][3] < found[2][2]
    for top, bottom, left, right in found:
        below = page[bottom + 2 : bottom + 45, left:right]
        assert (below < 100).all(-1).sum() > 50, "no caption"
        assert page[:top, left:right].shape[0] > 0
    between = page[found[1][1] : found[3][0]]
    assert (between[-6:] == 255).all(), "the caption reaches into the next row"


def test_many_pictures_take_pages_and_old_pages_go(tmp_path: Path):
    file = tmp_path / "sheet.png"
    pages = contact_sheet(cells(7), map(str, range(7)), file, columns=2, cell_width=120, rows_per_page=1)
    assert [p.name for p in pages] == ["sheet.png", "sheet_2.png", "sheet_3.png", "sheet_4.png"]
    assert pixels(pages[1]).shape == pixels(pages[0]).shape
    pages = contact_sheet(cells(3), map(str, range(3)), file, columns=2, cell_width=120, rows_per_page=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sheet.png", "sheet_2.png"]


def test_long_and_strange_names_stay_in_their_cell(tmp_path: Path):
    name = "a$very^long_name$" * 20 + "街.png"
    (file,) = contact_sheet(cells(1), [name], tmp_path / "sheet.png", columns=1, cell_width=240)
    page = pixels(file)
    assert page.shape[1] == 240 + 20
    assert (page[:, -10:] == 255).all()
