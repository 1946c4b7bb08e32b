"""Class tables of public data sets whose label files hold numbers or colors of their own.

Names that mean what a Cityscapes class means are Cityscapes names, so that labels translate; several ids or
colors may lead to one class. Facts as the data sets' own documentation has them.
"""

from __future__ import annotations

from collections.abc import Mapping

from iccld.data.image_files import Color
from iccld.labels import CITYSCAPES19, CITYSCAPES_ID_TO_TRAIN_ID, IGNORE, SYNTHIA_ID_TO_TRAIN_ID

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train",
    "tv monitor",
)  # fmt: skip

VOC_BORDER: Color = (224, 224, 192)
"""The color of 255, the border around objects, in VOC's palette."""

# IDD's level3Ids. Two of them hold what Cityscapes tells apart (4 person and animal, 25 sky and other background).
IDD_LEVEL3: tuple[str, ...] = (
    "road", "drivable fallback", "sidewalk", "non-drivable fallback", "person", "rider", "motorcycle",
    "bicycle", "autorickshaw", "car", "truck", "bus", "vehicle fallback", "curb", "wall", "fence",
    "guard rail", "billboard", "traffic sign", "traffic light", "pole", "obstacle fallback", "building",
    "bridge", "vegetation", "sky",
)  # fmt: skip

# The numbers of the SegNet split as it was first published (11 is unlabeled); names of the space camvid11.
SEGNET_CAMVID: tuple[str, ...] = (
    "sky", "building", "pole", "road", "sidewalk", "vegetation", "sign", "fence", "car", "person", "bicyclist",
)  # fmt: skip

CAMVID_COLORS: Mapping[str, tuple[Color, ...]] = {
    "road": ((128, 64, 128), (128, 0, 192), (192, 0, 64)),  # road, lane markings
    "sidewalk": ((0, 0, 192), (64, 192, 128), (128, 128, 192)),  # sidewalk, parking block, shoulder
    "building": ((128, 0, 0), (192, 0, 128), (0, 128, 64), (64, 0, 64)),  # building, archway, bridge, tunnel
    "fence": ((64, 64, 128), (64, 192, 0)),  # fence, wall
    "pole": ((192, 192, 128),),
    "sign": ((192, 128, 128), (128, 128, 64), (0, 64, 64)),  # sign, text, traffic light
    "vegetation": ((128, 128, 0), (192, 192, 0)),
    "sky": ((128, 128, 128),),
    "person": ((64, 64, 0), (192, 128, 64)),  # pedestrian, child
    "bicyclist": ((0, 128, 192), (192, 0, 192)),  # bicyclist, motorcycle or scooter
    "car": ((64, 0, 128), (64, 128, 192), (192, 128, 192)),  # car, SUV or pickup, truck or bus
}
"""CamVid's colors by class of ``camvid11``; the first color is the class's own."""

CAMVID_VOID: tuple[Color, ...] = (
    (0, 0, 0), (64, 128, 64), (64, 0, 192), (128, 64, 64), (0, 0, 64), (192, 64, 128),
)  # fmt: skip
"""Void, animal, cart, other moving, traffic cone, train: in none of the 11 classes."""

# Colors of Cityscapes' color maps that belong to none of the 19 classes.
CITYSCAPES_VOID: tuple[Color, ...] = (
    (0, 0, 0), (111, 74, 0), (81, 0, 81), (250, 170, 160), (230, 150, 140), (180, 165, 180), (150, 100, 100),
    (150, 120, 90), (0, 0, 90), (0, 0, 110),
)  # fmt: skip

MAPILLARY_V12: tuple[str, ...] = (
    "Bird", "Ground Animal", "Curb", "Fence", "Guard Rail", "Barrier", "Wall", "Bike Lane", "Crosswalk - Plain",
    "Curb Cut", "Parking", "Pedestrian Area", "Rail Track", "Road", "Service Lane", "Sidewalk", "Bridge",
    "Building", "Tunnel", "Person", "Bicyclist", "Motorcyclist", "Other Rider", "Lane Marking - Crosswalk",
    "Lane Marking - General", "Mountain", "Sand", "Sky", "Snow", "Terrain", "Vegetation", "Water", "Banner",
    "Bench", "Bike Rack", "Billboard", "Catch Basin", "CCTV Camera", "Fire Hydrant", "Junction Box", "Mailbox",
    "Manhole", "Phone Booth", "Pothole", "Street Light", "Pole", "Traffic Sign Frame", "Utility Pole",
    "Traffic Light", "Traffic Sign (Back)", "Traffic Sign (Front)", "Trash Can", "Bicycle", "Boat", "Bus",
    "Car", "Caravan", "Motorcycle", "On Rails", "Other Vehicle", "Trailer", "Truck", "Wheeled Slow",
    "Car Mount", "Ego Vehicle", "Unlabeled",
)  # fmt: skip
"""Mapillary Vistas 1.2: the class of each id, for folders without their config file."""

_MAPILLARY_ROAD = (
    "Road",
    "Crosswalk - Plain",
    "Service Lane",
    "Bike Lane",
    "Manhole",
    "Pothole",
    "Catch Basin",
)
_MAPILLARY = {
    **dict.fromkeys(_MAPILLARY_ROAD, "road"),
    **dict.fromkeys(("Sidewalk", "Curb", "Curb Cut", "Pedestrian Area"), "sidewalk"),
    **dict.fromkeys(("Pole", "Utility Pole"), "pole"),
    **dict.fromkeys(("Bicyclist", "Motorcyclist", "Other Rider"), "rider"),
    "On Rails": "train",
}


def mapillary_class(name: str) -> str | None:
    """The Cityscapes class that a Mapillary class coincides with, None if there is none."""
    if name in _MAPILLARY:
        return _MAPILLARY[name]
    if name.startswith("Lane Marking"):
        return "road"
    if name.startswith("Traffic Light"):
        return "traffic light"
    if name.startswith("Traffic Sign") and "(Front)" in name:
        return "traffic sign"
    return name.lower() if name.lower() in CITYSCAPES19.names else None


def _named(table: Mapping[int, int]) -> tuple[dict[int, str], tuple[int, ...]]:
    names = {raw: CITYSCAPES19.names[label] for raw, label in table.items() if label != IGNORE}
    return names, tuple(sorted(raw for raw, label in table.items() if label == IGNORE))


CITYSCAPES_IDS = _named(CITYSCAPES_ID_TO_TRAIN_ID)
"""Cityscapes labelIds: id → class, and the ids that are ignored."""
SYNTHIA_IDS = _named(SYNTHIA_ID_TO_TRAIN_ID)
"""SYNTHIA's ids, in the same way."""
