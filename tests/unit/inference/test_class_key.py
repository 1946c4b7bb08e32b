from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from iccld.drawing import draw_legend
from iccld.inference.rendering import index_to_id, write_class_key
from iccld.labels import CAMVID11, CITYSCAPES19, LabelSpace


def test_ids_are_those_of_the_label_maps(tmp_path: Path) -> None:
    for kind, wanted in (("train", 8), ("index", CAMVID11.names.index("vegetation")), ("cityscapes", 21)):
        write_class_key(tmp_path, CAMVID11, index_to_id(CAMVID11, kind))
        classes = json.loads((tmp_path / "classes.json").read_text())
        (found,) = (c for c in classes if c["name"] == "vegetation")
        assert found == {"id": wanted, "name": "vegetation", "color": [107, 142, 35]}
        assert [c["name"] for c in classes] == list(CAMVID11.names)


def test_the_legend_shows_every_color(tmp_path: Path) -> None:
    write_class_key(tmp_path, CITYSCAPES19, index_to_id(CITYSCAPES19, "train"))
    picture = np.asarray(Image.open(tmp_path / "legend.png"))
    for color in CITYSCAPES19.palette:
        assert (picture == color).all(-1).sum() > 300
    assert (picture[:, 50:] < 100).all(-1).any(), "names are written"


def test_legends_of_many_and_of_long_names() -> None:
    many = LabelSpace.from_names("many", [f"class {n}" for n in range(254)])
    height, width, _ = draw_legend(many).shape
    assert height < 600
    assert width < 2500
    assert draw_legend(LabelSpace.from_names("long", ["x" * 200])).shape[1] < 700
    assert draw_legend(LabelSpace.from_names("one", ["道路"])).shape[0] < 60
