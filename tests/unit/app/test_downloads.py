from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable

import numpy as np
from PIL import Image

from iccld.app.answers import AppModel, answer_image, encode_view, pack_masks
from iccld.drawing import colorize, heat_map
from iccld.inference.rendering import index_to_id
from iccld.labels import CAMVID11, CITYSCAPES19


def _read(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        for name in (n for n in names if n.endswith("classes.json")):
            assert {"id": 0, "name": "road", "color": [128, 64, 128]} in json.loads(archive.read(name))
        return {n: np.asarray(Image.open(io.BytesIO(archive.read(n)))) for n in names if n.endswith(".png")}


def test_masks_are_what_predict_writes(make_model: Callable[..., AppModel]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image[..., 0] %= 11
    model = make_model(CAMVID11)
    answers = answer_image([model], image, "street.jpg", steps=1, draws=1, view_side=10)
    name, content = pack_masks(answers)
    assert name == "street_masks.zip"
    files, wanted = _read(content), model.segmenter.predict(image)
    assert set(files) == {f"{kind}/street.png" for kind in ("labels", "color", "uncertainty")} | {
        "legend.png"
    }
    np.testing.assert_array_equal(
        files["labels/street.png"], index_to_id(CAMVID11, "train")[wanted.labels], "Cityscapes trainIds"
    )
    np.testing.assert_array_equal(files["color/street.png"], colorize(wanted.labels, CAMVID11))
    np.testing.assert_array_equal(files["uncertainty/street.png"], heat_map(wanted.relative_uncertainty))


def test_two_models_have_folders_of_their_own(make_model: Callable[..., AppModel]) -> None:
    models = [make_model(CITYSCAPES19, "../a"), make_model(CITYSCAPES19, "../a")]
    image = np.zeros((8, 8, 3), np.uint8)
    files = _read(pack_masks(answer_image(models, image, "a.b.png", steps=1, draws=1))[1])
    assert len(files) == 8
    assert {name.split("/")[0] for name in files} == {"model1", "model2"}
    assert "model2/labels/a.b.png" in files


def test_pictures_keep_their_colors() -> None:
    colors = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = colors.repeat(8, axis=0).repeat(8, axis=1)
    shown = np.asarray(Image.open(io.BytesIO(encode_view(picture))), np.float32)
    assert np.abs(shown - picture).mean() < 2
