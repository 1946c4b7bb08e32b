from __future__ import annotations

import numpy as np

from iccld.drawing import colorize, heat_map, overlay
from iccld.labels import CITYSCAPES19

LABELS = np.array([[0, 13], [255, 10]], np.uint8)


def test_classes_get_their_colors_and_the_rest_is_black():
    picture = colorize(LABELS, CITYSCAPES19)
    assert picture.dtype == np.uint8
    assert picture[0].tolist() == [[128, 64, 128], [0, 0, 142]]
    assert picture[1].tolist() == [[0, 0, 0], [70, 130, 180]]


def test_overlay_is_the_mean_of_image_and_color():
    image = np.full((2, 2, 3), 100, np.uint8)
    picture = overlay(image, LABELS, CITYSCAPES19)
    assert picture[0, 0].tolist() == [114, 82, 114]
    assert picture[1, 0].tolist() == [100, 100, 100]  # no class: the image alone
    assert np.array_equal(overlay(image, LABELS, CITYSCAPES19, opacity=0), image)


def test_heat_grows_brighter_with_uncertainty_and_is_rgb():
    levels = heat_map(np.linspace(0, 1, 16, dtype=np.float32)[None])[0].astype(int)
    assert levels[0].max() < 10
    brightness = levels.sum(-1)
    assert (np.diff(brightness) > 0).all()
    red, _, blue = levels[10]
    assert red > blue  # magma is orange there; blue in BGR order


def test_heat_keeps_to_its_scale():
    assert np.array_equal(heat_map(np.array([[-1, 2]], np.float32)), heat_map(np.array([[0, 1]], np.float32)))
