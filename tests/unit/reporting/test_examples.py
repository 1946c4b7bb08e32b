from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from iccld.labels import CITYSCAPES19
from iccld.reporting.record import error_map, labels_uri, photo_uri


def picture(uri: str, kind: str) -> np.ndarray:
    head, _, data = uri.partition(",")
    assert head == f"data:image/{kind};base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_label_maps_keep_their_colors():
    labels = np.array([[0, 13, 255]], np.uint8).repeat(4, axis=0)
    shown = picture(labels_uri(labels, CITYSCAPES19.palette), "png")
    assert shown[0].tolist() == [list(CITYSCAPES19.palette[0]), list(CITYSCAPES19.palette[13]), [0, 0, 0]]


def test_pictures_are_made_small_and_never_enlarged():
    image = np.full((600, 1200, 3), 90, np.uint8)
    shown = picture(photo_uri(image), "jpeg")
    assert shown.shape == (160, 320, 3)
    assert abs(int(shown.mean()) - 90) <= 2
    assert picture(photo_uri(image[:50, :100]), "jpeg").shape == (50, 100, 3)
    assert picture(labels_uri(image[..., 0] % 19, CITYSCAPES19.palette), "png").shape == (160, 320, 3)


def test_errors_tell_right_wrong_and_uncounted_apart():
    answer, truth = np.array([[1, 2, 255, 3]], np.uint8), np.array([[1, 3, 4, 255]], np.uint8)
    assert error_map(answer, truth).tolist() == [[0, 1, 1, 2]]
