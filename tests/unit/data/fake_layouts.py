"""Small copies of public layouts, painted from class names, so that the expected class of each pixel is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from fake_data import random_image, save_gray, save_palette, save_rgb, save_synthia_label

Code = Mapping[str | None, int | tuple[int, int, int]]
"""Class name → id or color in the label files. ``None`` is an unlabeled pixel."""
Save = Callable[[Path, np.ndarray], Path]
SIZE = (18, 24)

TRAIN: Code = {
    "road": 0, "sidewalk": 1, "building": 2, "vegetation": 8, "sky": 10, "person": 11, "car": 13, None: 255,
}  # fmt: skip
LABEL: Code = {"road": 7, "sidewalk": 8, "building": 11, "sky": 23, "car": 26, "bicycle": 33, None: 4}
CITY_COLORS: Code = {"road": (128, 64, 128), "sky": (70, 130, 180), "car": (0, 0, 142), None: (0, 0, 0)}
CAMVID_COLORS: Code = {
    "road": (128, 0, 192), "sky": (128, 128, 128), "sign": (0, 64, 64), "car": (64, 0, 128), None: (0, 0, 0),
}  # fmt: skip
SEGNET: Code = {"sky": 0, "building": 1, "road": 3, "sign": 6, "bicyclist": 10, None: 11}
SYNTHIA: Code = {"sky": 1, "building": 2, "road": 3, "car": 8, "bicycle": 11, "wall": 21, None: 22}
IDD: Code = {"road": 0, "sidewalk": 2, "autorickshaw": 8, "car": 9, "traffic sign": 18, "sky": 25, None: 255}
VOC: Code = {"background": 0, "person": 15, "tv monitor": 20, None: 255}
MAPILLARY: Code = {"bird": 0, "sidewalk": 1, "rider": 2, "sky": 3, "car": 4, "road": 5, None: 6}
MAPILLARY2: Code = {"bird": 0, "road": 1, "traffic sign": 2, None: 3}
BINARY: Code = {"background": 0, "thing": 255}
_CONFIG = [
    ("Bird", (165, 42, 42)),
    ("Curb", (196, 196, 196)),
    ("Motorcyclist", (255, 0, 200)),
    ("Sky", (70, 130, 180)),
    ("Car", (0, 0, 142)),
    ("Lane Marking - General", (255, 255, 255)),
    ("Ego Vehicle", (120, 10, 10)),
]
_CONFIG2 = [
    ("Bird", (165, 42, 42)),
    ("Lane Marking - Dashed Line", (255, 255, 255)),
    ("Traffic Sign - Direction (Front)", (220, 220, 0)),
    ("Unlabeled", (0, 0, 0)),
]


def paint(code: Code, seed: int) -> np.ndarray:
    """Returns class names of a street's pixels: sky above, road below, random squares of 3×3 pixels in between."""
    rng = np.random.default_rng(seed)
    squares = rng.choice(np.array([*code, *code], dtype=object), (SIZE[0] // 3, SIZE[1] // 3))
    names = squares.repeat(3, axis=0).repeat(3, axis=1)
    if "sky" in code and "road" in code:
        names[:6], names[-6:] = "sky", "road"
    return names


def encode(names: np.ndarray, code: Code) -> np.ndarray:
    return np.array([code[name] for name in names.ravel()], np.uint8).reshape(
        *SIZE, *np.shape(code[None if None in code else "thing"])
    )


@dataclass(frozen=True)
class Copy:
    """A layout: files by split, ids or colors of the label files, and the expected guess."""

    layout: str
    files: Mapping[str, Sequence[tuple[str, str]]]
    code: Code
    save: Save = save_gray
    builtin: str | None = None
    extra: Callable[[Path], object] = field(default=lambda root: None)

    def write(self, root: Path) -> dict[str, dict[str, np.ndarray]]:
        """Writes the files, and returns split → image file → class names of the pixels."""
        truth: dict[str, dict[str, np.ndarray]] = {}
        for split, pairs in self.files.items():
            for number, (image, label) in enumerate(pairs):
                save_rgb(root / image, random_image(np.random.default_rng(number), SIZE))
                names = paint(self.code, number)
                self.save(root / label, encode(names, self.code))
                truth.setdefault(split, {})[image] = names
        self.extra(root)
        return truth


def spread(
    image: str, label: str, splits: Mapping[str, str], frames: Sequence[str]
) -> dict[str, list[tuple[str, str]]]:
    """Replaces ``{split}`` and ``{frame}`` in two paths. ``{frame}`` may contain a folder."""
    return {
        split: [(image.format(split=s, frame=f), label.format(split=s, frame=f)) for f in frames]
        for split, s in splits.items()
    }


def voc_lists(root: Path) -> None:
    for split, stem in (("train", "2007_000032"), ("val", "2007_000039")):
        file = root / f"ImageSets/Segmentation/{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(stem + "\n")
    save_rgb(root / "JPEGImages/2008_000001.jpg", random_image(np.random.default_rng(0)))  # boxes only


def mapillary_config(
    name: str, classes: Sequence[tuple[str, tuple[int, int, int]]]
) -> Callable[[Path], object]:
    labels = [{"name": "x", "readable": readable, "color": color} for readable, color in classes]
    return lambda root: (root / name).write_text(json.dumps({"labels": labels}))


_SPLITS = {"train": "train", "val": "val"}
_CITY = ("aachen/aachen_000000_000019", "ulm/ulm_000001_000019")
_LEFT = "leftImg8bit/{split}/{frame}_leftImg8bit.png"
_CAMVID = ("0001TP_006690", "Seq05VD_f00000")
_MAPILLARY = {"train": "training", "val": "validation"}

COPIES = {
    "cityscapes": Copy(
        "Cityscapes",
        spread(_LEFT, "gtFine/{split}/{frame}_gtFine_labelIds.png", _SPLITS, _CITY),
        LABEL,
        builtin="cityscapes",
        extra=lambda root: save_rgb(
            root / "gtFine/train/ulm/ulm_000001_000019_gtFine_color.png", random_image(np.random.default_rng(0))
        ),
    ),
    "cityscapes_train_ids": Copy(
        "Cityscapes",
        spread(_LEFT, "gtFine/{split}/{frame}_gtFine_labelTrainIds.png", {"val": "val"}, _CITY),
        TRAIN,
        builtin="cityscapes",
    ),
    "gta5": Copy(
        "GTA5",
        spread("images/{frame}.png", "labels/{frame}.png", {"train": ""}, ("00001", "00002")),
        LABEL,
        save_palette,
        builtin="gta5",
    ),
    "synthia": Copy(
        "SYNTHIA (RAND-CITYSCAPES)",
        spread("RGB/{frame}.png", "GT/LABELS/{frame}.png", {"train": ""}, ("0000000", "0000001")),
        SYNTHIA,
        save_synthia_label,
        builtin="synthia",
    ),
    "camvid": Copy(
        "CamVid (trainIds)",
        spread("{split}/images/{frame}.jpg", "{split}/labels/{frame}.png", _SPLITS, _CAMVID),
        TRAIN,
        builtin="camvid",
    ),
    "camvid_colors": Copy(
        "CamVid (32 colors)",
        spread("701_StillsRaw_full/{frame}.png", "LabeledApproved_full/{frame}_L.png", {"train": ""}, _CAMVID),
        CAMVID_COLORS,
        save_rgb,
    ),
    "camvid_segnet": Copy(
        "CamVid (SegNet split, its own numbers)",
        spread("{split}/{frame}.png", "{split}annot/{frame}.png", _SPLITS, _CAMVID),
        SEGNET,
    ),
    "voc": Copy(
        "Pascal VOC",
        {
            "train": [("JPEGImages/2007_000032.jpg", "SegmentationClass/2007_000032.png")],
            "val": [("JPEGImages/2007_000039.jpg", "SegmentationClass/2007_000039.png")],
        },
        VOC,
        save_palette,
        extra=voc_lists,
    ),
    "bdd100k": Copy(
        "BDD100K",
        spread("images/10k/{split}/{frame}.jpg", "labels/sem_seg/masks/{split}/{frame}.png", _SPLITS, ("0a0", "0b1")),
        TRAIN,
    ),
    "bdd100k_first": Copy(
        "BDD100K (first release)",
        spread("images/{split}/{frame}.jpg", "labels/{split}/{frame}_train_id.png", _SPLITS, ("0a0-1", "0b1-2")),
        TRAIN,
    ),
    "mapillary": Copy(
        "Mapillary Vistas",
        spread("{split}/images/{frame}.jpg", "{split}/v1.2/labels/{frame}.png", _MAPILLARY, ("a_b", "c-d")),
        MAPILLARY,
        save_palette,
        extra=mapillary_config("config.json", _CONFIG),
    ),
    "mapillary_2": Copy(
        "Mapillary Vistas",
        spread("{split}/images/{frame}.jpg", "{split}/v2.0/labels/{frame}.png", _MAPILLARY, ("a_b", "c-d")),
        MAPILLARY2,
        save_palette,
        extra=mapillary_config("config_v2.0.json", _CONFIG2),
    ),
    "idd": Copy(
        "IDD",
        spread(_LEFT, "gtFine/{split}/{frame}_gtFine_labellevel3Ids.png", _SPLITS, ("201/frame0029", "7/024541")),
        IDD,
    ),
    "idd_train_ids": Copy(
        "IDD",
        spread(_LEFT, "gtFine/{split}/{frame}_gtFine_labelcsTrainIds.png", _SPLITS, ("201/frame0029",)),
        TRAIN,
    ),
    "acdc": Copy(
        "ACDC",
        spread(
            "rgb_anon/{frame}_rgb_anon.png".replace("{frame}", "fog/{split}/{frame}"),
            "gt/{frame}_gt_labelTrainIds.png".replace("{frame}", "fog/{split}/{frame}"),
            _SPLITS,
            ("GOPR0475/GOPR0475_frame_000041", "GP010475/GP010475_frame_000001"),
        ),
        TRAIN,
    ),
    "own_train_ids": Copy(
        "images and label maps",
        spread("images/{frame}.jpg", "labels/{frame}.png", {"train": ""}, ("day1/7", "day2/7")),
        TRAIN,
    ),
    "own_label_ids": Copy(
        "images and label maps",
        spread(
            "{split}/images/{frame}.jpg",
            "{split}/labels/{frame}_labelIds.png",
            {"train": "train", "val": "valid"},
            ("7", "8"),
        ),
        LABEL,
    ),
    "own_colors": Copy(
        "images and label maps",
        spread("images/{frame}_rgb.png", "masks/{frame}_color.png", {"train": ""}, ("7", "8")),
        CITY_COLORS,
        save_rgb,
    ),
    "binary": Copy(
        "images and label maps",
        spread("{split}/img/{frame}.jpg", "{split}/mask/{frame}_mask.png", {**_SPLITS, "test": "test"}, ("x_7", "x_8")),
        BINARY,
    ),
}  # fmt: skip
