"""Annotations that are no label maps: which format they are, and how they become label maps."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from iccld.data.folders import files_below
from iccld.errors import InputError
from iccld.files import open_regular

_MOST_FILES = 20_000
_FEW = 4
_MOST_BYTES = 1 << 20

_PAINT = "paint its polygons into one PNG file of class ids for each image"
_SAVE = "save one PNG file of class ids for each image"
_BOXES = (
    "boxes have no outlines; take label maps if there are any, or label the images with polygons or brushes"
)
_COCO = "paint its polygons with pycocotools (COCO.annToMask), one PNG file of class ids per image"
_POLYGONS = (
    "Cityscapes' polygons",
    "paint them with the data set's tools (createTrainIdLabelImgs of cityscapesScripts, createLabels of IDD)",
)
_BY_WORDS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "json": (
        ('"imgHeight" "imgWidth" "objects"', *_POLYGONS),
        ('"shapes" "imagePath"', "labelme's JSON", "run labelme2voc, which paints PNG files"),
        ('"segments_info"', "COCO's panoptic JSON", "convert its PNG files of segments to class ids"),
        ('"annotations" "categories"', "COCO's JSON", _COCO),
        ('"images" "file_name"', "COCO's JSON", _COCO),
        ('"images" "segmentation"', "COCO's JSON", _COCO),
        ('"_via_img_metadata"', "VIA's JSON", _PAINT),
        ('"regions" "filename"', "VIA's JSON", _PAINT),
        ('"objects" "size"', "Supervisely's JSON", "export the project from Supervisely as PNG masks"),
        ('"data_row" "projects"', "Labelbox' JSON", "export the masks from Labelbox as PNG files"),
        ('"data" "annotations"', "Label Studio's JSON", f"export them as 'PNG brush labels', then {_SAVE}"),
        ('"FeatureCollection" "features"', "GeoJSON", _PAINT),
    ),
    "xml": (
        ("<annotations <image", "CVAT's XML", "export the task from CVAT as 'Segmentation mask'"),
        ("<annotation <polygon>", "LabelMe's XML", _PAINT),
        ("<annotation <filename>", "Pascal VOC's XML (boxes)", _BOXES),
    ),
    "csv": (
        ("EncodedPixels", "run lengths in a CSV file", f"decode them, and {_SAVE}"),
        ("region_shape_attributes", "VIA's CSV", _PAINT),
    ),
}
"""Ending → words that are all in the beginning of the file, title, remedy."""
_BY_WORDS |= {"geojson": _BY_WORDS["json"], "ndjson": _BY_WORDS["json"]}
_BY_ENDING = {
    "mat": ("MATLAB's .mat files", f"read them with scipy.io.loadmat and {_SAVE}"),
    "nii": ("NIfTI", f"read them with nibabel, slice by slice, and {_SAVE}"),
    "nii.gz": ("NIfTI", f"read them with nibabel, slice by slice, and {_SAVE}"),
    "npy": ("NumPy's .npy files", f"read them with numpy.load and {_SAVE}"),
    "npz": ("NumPy's .npz files", f"read them with numpy.load and {_SAVE}"),
    "h5": ("HDF5", f"read them with h5py and {_SAVE}"),
    "svg": ("SVG", f"render them without anti-aliasing and {_SAVE}"),
}
_YOLO_LINE = re.compile(r"\s*\d{1,4}(\s+(-?0\.0\d*|0(\.\d*)?|1(\.0\d*)?)){4,}\s*")
"""A class and coordinates that are shares of the image: four of a box, more of a polygon."""


@dataclass(frozen=True)
class Annotations:
    """A format that was recognized.

    Attributes:
        title: what it is called.
        remedy: what a user does in order to use it here, without a subject.
        example: the first of its files.
    """

    title: str
    remedy: str
    example: Path

    @property
    def text(self) -> str:
        """One clause that names the format, a file and the remedy."""
        return self.worded(str(self.example))

    def worded(self, example: str) -> str:
        """The same with another path of the file."""
        return f"there are annotations in {self.title} ({example}), which are not read: {self.remedy}"


def find_annotations(folder: Path) -> Annotations | None:
    """Looks for annotations in formats other than label maps, by endings and the beginnings of a few files.

    Files that cannot be read or are none of the formats are passed over.
    """
    looked: Counter[str] = Counter()
    for path in islice(files_below(folder, lambda name: not name.startswith(".")), _MOST_FILES):
        ending = "nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()[1:]
        found = _BY_ENDING.get(ending)
        if path.name.endswith("_polygons.json"):
            found = _POLYGONS
        elif (ending in _BY_WORDS or ending == "txt") and looked[ending] < _FEW:
            looked[ending] += 1
            found = _recognize(ending, _beginning(path))
        if found is not None:
            return Annotations(*found, path)
    return None


def _beginning(path: Path) -> str:
    try:
        with open_regular(path) as handle:
            return handle.read(_MOST_BYTES).decode("utf-8", "replace")
    except InputError:
        return ""


def _recognize(ending: str, text: str) -> tuple[str, str] | None:
    """The title and remedy of a format."""
    if ending == "txt":
        return _recognize_yolo(text)
    for words, title, remedy in _BY_WORDS[ending]:
        if all(word in text for word in words.split()):
            return title, remedy
    return None


def _recognize_yolo(text: str) -> tuple[str, str] | None:
    lines = [line for line in text.splitlines()[:20] if line.strip()]
    if not lines or not all(map(_YOLO_LINE.fullmatch, lines)):
        return None
    if all(len(line.split()) == 5 for line in lines):
        return "YOLO's text files (boxes)", _BOXES
    return "YOLO's text files (polygons)", f"scale them to pixels, and {_PAINT}"
