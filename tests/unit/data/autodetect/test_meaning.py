"""Detection of the meaning of ids and colors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fake_data import save_gray, save_rgb
from PIL import Image

from iccld.data.autodetect.evidence import read_evidence
from iccld.data.autodetect.meaning import Meaning, detect_meaning, known_meaning, mapillary, rename
from iccld.errors import InputError
from iccld.labels import CITYSCAPES19


def meaning(tmp_path: Path, *maps: np.ndarray, says: str = "") -> Meaning:
    paths = [
        (save_rgb if values.ndim == 3 else save_gray)(tmp_path / f"{i}.png", values)
        for i, values in enumerate(maps)
    ]
    return detect_meaning(read_evidence(paths), says=says)


LABEL_IDS = known_meaning("label_ids", Path()).keys


def classes(found: Meaning) -> object:
    return found.keys["classes"]


def rows(*ids: int) -> np.ndarray:
    """Returns a label map with one row for each id, from top to bottom."""
    return np.repeat(np.array(ids, np.uint8)[:, None], 4, axis=1)


def pixels(*colors: Sequence[int]) -> np.ndarray:
    return np.repeat(np.array(colors, np.uint8)[:, None], 4, axis=1)


@pytest.mark.parametrize(
    ("ids", "names", "table", "ignore"),
    [
        ((0, 255), ["background", "thing"], {"0": "background", "255": "thing"}, []),
        ((0, 1), ["background", "thing"], None, None),
        ((0, 1, 255), ["background", "thing"], None, None),
        ((0, 128), ["background", "thing"], {"0": "background", "128": "thing"}, None),
        ((0, 1, 2), ["class_0", "class_1", "class_2"], None, None),
        ((3, 7, 255), ["class_3", "class_7"], {"3": "class_3", "7": "class_7"}, None),
        ((10, 10, 2, 8, 11, 13, 0, 0), "cityscapes19", None, None),
        ((23, 23, 11, 26, 7, 7, 3), "cityscapes19", LABEL_IDS["ids"], LABEL_IDS["ignore"]),
        # With id 0 above id 10, this is not a street with Cityscapes trainIds, where 0 is road and 10 is sky.
        ((0, 0, 1, 2, 3, 8, 10, 10), [f"class_{i}" for i in (0, 1, 2, 3, 8, 10)], "own", None),
    ],
)  # fmt: skip
def test_ids(ids: tuple[int, ...], names: object, table: object, ignore: object, tmp_path: Path) -> None:
    found = meaning(tmp_path, rows(*ids))
    expected = {str(i): f"class_{i}" for i in (0, 1, 2, 3, 8, 10)} if table == "own" else table
    keys = found.keys
    assert (keys["classes"], keys.get("ids"), keys.get("ignore")) == (names, expected, ignore)


def test_names_of_files_are_believed_if_the_ids_agree(tmp_path: Path) -> None:
    assert classes(meaning(tmp_path, rows(0, 1, 5), says="x_labeltrainids.png")) == "cityscapes19"
    assert meaning(tmp_path, rows(7, 8, 3), says="x_labelids.png").keys == LABEL_IDS
    assert meaning(tmp_path, rows(0, 1, 99), says="x_labeltrainids.png").is_guess
    assert classes(meaning(tmp_path, rows(0, 10, 255), says="x_gtfine_labeltrainids.png")) == "cityscapes19"
    assert classes(meaning(tmp_path, rows(0, 255), says="x_labeltrainids.png")) == "cityscapes19"
    assert meaning(tmp_path, rows(0, 7), says="x_labelids.png").keys == LABEL_IDS


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ((0, 128, 255), "255 is ignored (33.33% of the pixels); if it is a class"),
        ((0, 1, 255), "255 is ignored (33.33%"),
        ((0, 0, 1, 1, 1, 255), None),  # few pixels of 255 are a border
        ((0, 128), None),
        ((0, 255), None),
    ],
)
def test_ignored_255_beside_two_classes_is_mentioned(
    ids: tuple[int, ...], said: str | None, tmp_path: Path
) -> None:
    checks = " ".join(meaning(tmp_path, rows(*ids)).checks)
    assert ("255 is ignored" in checks) == (said is not None)
    assert said is None or said in checks


def test_palette_with_cityscapes_colors(tmp_path: Path) -> None:
    colors = {13: CITYSCAPES19.palette[13], 0: CITYSCAPES19.palette[0], 10: CITYSCAPES19.palette[10]}
    image = Image.fromarray(rows(0, 13, 10, 255))  # road above sky, so the rows show no street
    image.putpalette([v for i in range(256) for v in colors.get(i, (i, 0, 1))])
    image.save(tmp_path / "0.png")
    assert classes(detect_meaning(read_evidence([tmp_path / "0.png"]))) == "cityscapes19"


def test_palette_with_other_colors_keeps_them(tmp_path: Path) -> None:
    image = Image.fromarray(rows(0, 1, 2))
    image.putpalette([v for i in range(256) for v in (255 - i, i, 7)])
    image.save(tmp_path / "0.png")
    found = detect_meaning(read_evidence([tmp_path / "0.png"]))
    assert classes(found) == ["class_0", "class_1", "class_2"]
    assert found.keys["colors"] == [[255, 0, 7], [254, 1, 7], [253, 2, 7]]


def test_colors_of_ones_own(tmp_path: Path) -> None:
    black = pixels((0, 0, 0), (0, 0, 0))  # a color-coded map with only background is gray
    found = meaning(tmp_path, black, pixels((9, 1, 1), (9, 1, 1), (200, 0, 0)))
    assert classes(found) == ["background", "class_1", "class_2"]
    assert found.keys["colors"] == [[0, 0, 0], [9, 1, 1], [200, 0, 0]]
    assert found.keys["color_coded"]
    assert any("ignore_colors" in check for check in found.checks)


def test_known_colors(tmp_path: Path) -> None:
    city = meaning(tmp_path, pixels((128, 64, 128), (70, 130, 180), (0, 0, 142), (81, 0, 81)))
    assert (classes(city), city.keys["color_coded"], "colors" in city.keys) == ("cityscapes19", True, False)
    camvid = meaning(tmp_path, pixels((128, 64, 128), (0, 64, 64), (64, 0, 128), (0, 0, 0)))
    assert classes(camvid) == "camvid11"
    assert [0, 64, 64] in camvid.keys["more_colors"]["sign"]


@pytest.mark.parametrize(
    ("maps", "said"),
    [
        ((rows(255, 255),), "hold 255 alone"),
        ((rows(0, 1), pixels((1, 2, 3), (4, 5, 6))), "some label maps hold colors and others ids"),
        (
            (np.arange(65536, dtype=np.uint16).reshape(256, 256),),
            "ids, as in photographs, smoothed or instance",
        ),
    ],
)
def test_what_cannot_be_labels(maps: tuple[np.ndarray, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        meaning(tmp_path, *maps)


def test_jpeg_is_no_label_map(tmp_path: Path) -> None:
    Image.fromarray(rows(0, 1)).convert("RGB").save(tmp_path / "0.jpg")
    with pytest.raises(InputError, match="JPEG has lost its exact ids"):
        detect_meaning(read_evidence([tmp_path / "0.jpg"]))


def test_own_names(tmp_path: Path) -> None:
    found = rename(meaning(tmp_path, rows(0, 255)), ["field", "barn"])
    assert (classes(found), found.keys["ids"]) == (["field", "barn"], {"0": "field", "255": "barn"})
    assert not found.is_guess
    with pytest.raises(InputError, match="give 2 different names, in the order background, thing"):
        rename(meaning(tmp_path, rows(0, 255)), ["field"])
    with pytest.raises(InputError, match="the labels are Cityscapes trainIds, whose classes are known"):
        rename(known_meaning("train_ids", tmp_path), ["field"])
    with pytest.raises(InputError, match="none of them a control character"):
        rename(meaning(tmp_path, rows(0, 255)), ["field", "a\udcff"])


def test_mapillary_needs_its_config_beyond_version_1(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs its config_v2\.0\.json"):
        mapillary(tmp_path, "v2.0")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match="is not Mapillary's list of labels"):
        mapillary(tmp_path, "v2.0")


@pytest.mark.parametrize("color", ["[1, 2]", "[1, 2, 256]", "[1, 2, 3.5]", "7"])
def test_mapillary_config_with_a_broken_color(color: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(f'{{"labels": [{{"readable": "Road", "color": {color}}}]}}')
    with pytest.raises(InputError, match="is not Mapillary's list of labels"):
        mapillary(tmp_path, "v2.0")
