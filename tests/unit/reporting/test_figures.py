from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iccld.labels import CITYSCAPES19
from iccld.reporting.figures import prediction_grid

ROAD = np.zeros((20, 40), np.uint8)
CAR = np.full((20, 40), 13, np.uint8)
PHOTO = np.full((20, 40, 3), (10, 200, 30), np.uint8)
SURE, UNSURE = (np.full((20, 40), v, np.float32) for v in (0, 1))


def draw(path: Path, rows: list[list[np.ndarray | None]]) -> np.ndarray:
    columns = [f"column {i}" for i in range(len(rows[0]))]
    assert prediction_grid(rows, columns, path, CITYSCAPES19) == path
    return np.asarray(Image.open(path).convert("RGB"))


def share(picture: np.ndarray, color: tuple[int, int, int]) -> float:
    """The share of the figure that has a color."""
    return float((np.abs(picture.astype(int) - color).max(-1) <= 2).mean())


def test_panels_show_images_class_colors_and_heat(tmp_path: Path):
    picture = draw(tmp_path / "grid.png", [[PHOTO, ROAD, CAR, UNSURE]])
    for color in ((10, 200, 30), CITYSCAPES19.palette[0], CITYSCAPES19.palette[13], (252, 253, 191)):
        assert 0.15 < share(picture, color) < 0.25, color
    assert share(picture, (255, 255, 255)) < 0.4  # margins are thin


def test_panels_stand_in_their_places(tmp_path: Path):
    picture = draw(tmp_path / "grid.png", [[PHOTO, ROAD], [CAR, None], [SURE, UNSURE]])
    height, width = picture.shape[:2]
    centers = [
        [tuple(picture[round(height * y), round(width * x)]) for x in (0.25, 0.75)] for y in (0.2, 0.47, 0.75)
    ]
    white = (255, 255, 255)
    black_of_magma, top_of_magma = (0, 0, 3), (252, 253, 191)
    expected = [
        [(10, 200, 30), CITYSCAPES19.palette[0]],
        [CITYSCAPES19.palette[13], white],
        [black_of_magma, top_of_magma],
    ]
    assert np.abs(np.array(centers, int) - expected).max() <= 1


def test_legend_holds_the_classes_that_occur(tmp_path: Path):
    alone = draw(tmp_path / "a.png", [[PHOTO, ROAD]])
    legend_row = alone[-60:]
    assert share(legend_row, CITYSCAPES19.palette[0]) > 0.001
    assert share(legend_row, CITYSCAPES19.palette[13]) == 0
    with_ignored = ROAD.copy()
    with_ignored[:2] = 255
    picture = draw(tmp_path / "b.png", [[PHOTO, with_ignored]])
    assert share(picture[-60:], (0, 0, 0)) > share(legend_row, (0, 0, 0))


def test_rows_keep_their_own_shape(tmp_path: Path):
    tall = [[np.zeros((80, 40, 3), np.uint8)]]
    flat = [[np.zeros((20, 40, 3), np.uint8)]]
    tall_size, flat_size = (draw(tmp_path / n, r).shape for n, r in (("t.png", tall), ("f.png", flat)))
    assert tall_size[1] == flat_size[1]
    assert tall_size[0] - flat_size[0] == pytest.approx(1.5 * 2.8 * 150, abs=2)


def test_panels_of_a_row_must_agree_in_size(tmp_path: Path):
    with pytest.raises(AssertionError, match="differ in size"):
        draw(tmp_path / "x.png", [[PHOTO, ROAD[:10]]])
    assert list(tmp_path.iterdir()) == []
