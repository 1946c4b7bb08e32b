"""Annotations that are no label maps: which format they are, and how they become label maps."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from iccld.data.folders import walk
from iccld.errors import InputError
from iccld.files import open_regular

_MOST_FILES = 20_000
_FEW = 4
_MOST_BYTES = 4 << 20
_PAINT = "paint its polygons into one PNG file of class ids for each image"
_SAVE = "save one PNG file of class ids for each image"


@dataclass(frozen=True)
class Annotations:
    """A format that was recognized.

    Attributes:
        title: what it is called.
        example: the first of its files.
        remedy: what a user does in order to use it here, without a subject.
    """

    title: str
    example: Path
    remedy: str

    @property
    def text(self) -> str:
        """One clause that names the format, a file and the remedy."""
        return self.worded(str(self.example))

    def worded(self, example: str) -> str:
        """The same with another path of the file."""
        return f"there are annotations in {self.title} ({example}), which are not read: {self.remedy}"


def find_annotations(folder: Path) -> Annotations | None:
    """Looks for annotations in formats other than label maps, by endings and the contents of a few files.

    Files that cannot be read or are none of the formats are passed over.
    """
    looked: Counter[str] = Counter()
    for path in _files(folder):
        ending = _ending(path.name)
        if ending in _BY_ENDING:
            return Annotations(*_with_example(_BY_ENDING[ending], path))
        if path.name.endswith("_polygons.json"):
            return Annotations(*_with_example(_POLYGONS, path))
        if ending in _BY_CONTENT and looked[ending] < _FEW:
            looked[ending] += 1
            found = _BY_CONTENT[ending](_beginning(path))
            if found is not None:
                return Annotations(*_with_example(found, path))
    return None


_Format = tuple[str, str]  # title and remedy


def _with_example(found: _Format, path: Path) -> tuple[str, Path, str]:
    return found[0], path, found[1]


def _files(folder: Path) -> Iterator[Path]:
    count = 0
    for parent, folders, names in walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in sorted(names):
            count += 1
            if count > _MOST_FILES:
                return
            if not name.startswith("."):
                yield Path(parent, name)


def _ending(name: str) -> str:
    name = name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else os.path.splitext(name)[1]


def _beginning(path: Path) -> str:
    try:
        with open_regular(path) as handle:
            return handle.read(_MOST_BYTES).decode("utf-8", "replace")
    except InputError:
        return ""


def _of_json(text: str) -> _Format | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        # It is cut off, or no JSON: the words at its beginning must do.
        keys = set(re.findall(r'"([A-Za-z_ ]{1,40})"\s*:', text[:200_000]))
        return _of_keys(keys)
    if isinstance(value, list):
        first = next((entry for entry in value if isinstance(entry, dict)), {})
        if "data" in first and ("annotations" in first or "completions" in first or "predictions" in first):
            return "Label Studio's JSON", "export them from Label Studio as 'PNG brush labels', then " + _SAVE
        if "image" in first and "annotations" in first:
            return (
                "CreateML's JSON (boxes)",
                "boxes have no outlines; label the images with polygons or brushes",
            )
        if "labels" in first and "name" in first:
            return "Scalabel's JSON (BDD100K)", _PAINT
        return _of_keys(set(first))
    if not isinstance(value, dict):
        return None
    inner = next((entry for entry in value.values() if isinstance(entry, dict)), {})
    return _of_keys(set(value)) or (("VIA's JSON", _PAINT) if {"regions", "filename"} <= set(inner) else None)


def _of_keys(keys: set[str]) -> _Format | None:
    for needed, found in _JSON_KEYS:
        if needed <= keys:
            return found
    return None


_COCO = (
    "COCO's JSON",
    "paint its polygons with pycocotools (COCO.annToMask), one PNG file of class ids per image",
)
_LABELBOX = ("Labelbox' JSON", "export the masks from Labelbox as PNG files")
_POLYGONS = (
    "Cityscapes' polygons",
    "paint them with the data set's tools (createTrainIdLabelImgs of cityscapesScripts, createLabels of IDD)",
)
_PANOPTIC = ("COCO's panoptic JSON", "convert its PNG files of segments to PNG files of class ids")
_JSON_KEYS: tuple[tuple[set[str], _Format], ...] = (
    ({"imgHeight", "imgWidth", "objects"}, _POLYGONS),
    (
        {"shapes", "imagePath"},
        ("labelme's JSON", "run labelme2voc, which comes with labelme and paints PNG files"),
    ),
    ({"segments_info", "annotations"}, _PANOPTIC),
    ({"annotations", "categories"}, _COCO),
    ({"images", "categories"}, _COCO),
    ({"images", "annotations", "segmentation"}, _COCO),
    ({"_via_img_metadata"}, ("VIA's JSON", _PAINT)),
    ({"_via_settings"}, ("VIA's JSON", _PAINT)),
    ({"objects", "size"}, ("Supervisely's JSON", "export the project from Supervisely as PNG masks")),
    ({"Labeled Data"}, _LABELBOX),
    ({"data_row", "projects"}, _LABELBOX),
    (
        {"item", "annotations", "version"},
        ("Darwin's JSON (V7)", "export the data set from V7 as semantic masks"),
    ),
    ({"type", "features"}, ("GeoJSON", _PAINT)),
    ({"frames", "labels"}, ("Scalabel's JSON (BDD100K)", _PAINT)),
)


def _of_xml(text: str) -> _Format | None:
    head = text[:200_000]
    if re.search(r"<annotations\b", head) and re.search(r"<image\b", head):
        return "CVAT's XML", "export the task from CVAT as 'Segmentation mask'"
    if (
        re.search(r"<annotation\b", head)
        and "<object>" in head
        and re.search(r"<(polygon|polygon\b.*)>", head)
    ):
        return "LabelMe's XML", _PAINT
    if re.search(r"<annotation\b", head) and re.search(r"<(object|filename)>", head):
        return (
            "Pascal VOC's XML (boxes)",
            "boxes have no outlines; take SegmentationClass/, or label with polygons",
        )
    return None


def _of_txt(text: str) -> _Format | None:
    lines = [line.split() for line in text.splitlines()[:20] if line.strip()]
    if not lines or not all(re.fullmatch(r"\d{1,4}", line[0]) and len(line) >= 5 for line in lines):
        return None
    try:
        numbers = [float(word) for line in lines for word in line[1:]]
    except ValueError:
        return None
    if not all(-0.01 <= number <= 1.01 for number in numbers):
        return None
    if all(len(line) == 5 for line in lines):
        return (
            "YOLO's text files (boxes)",
            "boxes have no outlines; label the images with polygons or brushes",
        )
    return (
        "YOLO's text files (polygons)",
        "scale its polygons to pixels and paint them into one PNG file of class ids each",
    )


def _of_csv(text: str) -> _Format | None:
    head = text.splitlines()[0].lower() if text else ""
    if any(word in head for word in ("encodedpixels", "rle", "segmentation")):
        return "run lengths in a CSV file", "decode them into one PNG file of class ids for each image"
    if "region_shape_attributes" in head:
        return "VIA's CSV", _PAINT
    return None


_BY_CONTENT: Mapping[str, Callable[[str], _Format | None]] = {
    ".json": _of_json,
    ".geojson": _of_json,
    ".ndjson": lambda text: _of_json(text.split("\n")[0]),
    ".xml": _of_xml,
    ".txt": _of_txt,
    ".csv": _of_csv,
}
_BY_ENDING: Mapping[str, _Format] = {
    ".mat": ("MATLAB's .mat files", f"read them with scipy.io.loadmat and {_SAVE}"),
    ".nii": ("NIfTI", f"read them with nibabel, slice by slice, and {_SAVE}"),
    ".nii.gz": ("NIfTI", f"read them with nibabel, slice by slice, and {_SAVE}"),
    ".nrrd": ("NRRD", f"read them with pynrrd, slice by slice, and {_SAVE}"),
    ".dcm": ("DICOM", f"read them with pydicom and {_SAVE}"),
    ".npy": ("NumPy's .npy files", f"read them with numpy.load and {_SAVE}"),
    ".npz": ("NumPy's .npz files", f"read them with numpy.load and {_SAVE}"),
    ".h5": ("HDF5", f"read them with h5py and {_SAVE}"),
    ".hdf5": ("HDF5", f"read them with h5py and {_SAVE}"),
    ".tfrecord": ("TFRecord", f"read them with TensorFlow and {_SAVE}"),
    ".parquet": ("Parquet", f"read them with pyarrow and {_SAVE}"),
    ".shp": ("shapefiles", _PAINT),
    ".svg": ("SVG", f"render them without anti-aliasing and {_SAVE}"),
}
