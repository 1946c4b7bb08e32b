"""Detects annotation files that are not label maps, and gives advice on how to get label maps from them."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from iccld.data.folders import files_below
from iccld.errors import InputError
from iccld.files import open_regular

_MOST_FILES = 20_000
_FEW = 4
_MOST_BYTES = 1 << 20

_SAVE = "save one PNG file of class ids for each image"
_PAINT = f"paint its polygons, and {_SAVE}"
_BOXES = (
    "boxes have no outlines; take label maps if there are any, or label the images with polygons or brushes"
)
_TOOLS = (
    "paint them with the data set's tools (createTrainIdLabelImgs of cityscapesScripts, createLabels of IDD)"
)
READ = "'iccld data init' draws label maps from them"
"""Advice for the formats that ``iccld.data.foreign`` reads."""
_JSON = (".json", ".geojson", ".ndjson")
_FORMATS: tuple[tuple[tuple[str, ...], str, str, str], ...] = (
    (("_polygons.json",), "", "Cityscapes' polygons", _TOOLS),
    (_JSON, '"imgHeight" "imgWidth" "objects"', "Cityscapes' polygons", _TOOLS),
    (_JSON, '"shapes" "imagePath"', "labelme's JSON", READ),
    (_JSON, '"segments_info"', "COCO's panoptic JSON", READ),
    (_JSON, '"annotations" "categories"', "COCO's JSON", READ),
    (_JSON, '"images" "file_name"', "COCO's JSON", READ),
    (_JSON, '"images" "segmentation"', "COCO's JSON", READ),
    (_JSON, '"_via_img_metadata"', "VIA's JSON", _PAINT),
    (_JSON, '"regions" "filename"', "VIA's JSON", _PAINT),
    (_JSON, '"objects" "size"', "Supervisely's JSON", READ),
    (_JSON, '"classes" "title" "shape"', "Supervisely's JSON", READ),
    (_JSON, '"data_row" "projects"', "Labelbox' JSON", "export the masks from Labelbox as PNG files"),
    (_JSON, '"data" "annotations"', "Label Studio's JSON", READ),
    (_JSON, '"annotations" "result" "original_width"', "Label Studio's JSON", READ),
    (_JSON, '"FeatureCollection" "features"', "GeoJSON", _PAINT),
    ((".xml",), "<annotations <image", "CVAT's XML", READ),
    ((".xml",), "<annotation <polygon>", "LabelMe's XML", _PAINT),
    ((".xml",), "<annotation <filename>", "Pascal VOC's XML (boxes)", _BOXES),
    ((".csv",), "EncodedPixels", "run lengths in a CSV file", f"decode them, and {_SAVE}"),
    ((".csv",), "region_shape_attributes", "VIA's CSV", _PAINT),
    ((".mat",), "", "MATLAB's .mat files", f"read them with scipy.io.loadmat, and {_SAVE}"),
    ((".nii", ".nii.gz"), "", "NIfTI", f"read them with nibabel, slice by slice, and {_SAVE}"),
    ((".npy", ".npz"), "", "NumPy's files", f"read them with numpy.load, and {_SAVE}"),
    ((".h5",), "", "HDF5", f"read them with h5py, and {_SAVE}"),
    ((".svg",), "", "SVG", f"render them without anti-aliasing, and {_SAVE}"),
)
"""Known formats: (extensions, words that must all occur at the beginning of the file, title, advice on conversion)."""
_YOLO_LINE = re.compile(r"\s*\d{1,4}(\s+(-?0\.0\d*|0(\.\d*)?|1(\.0\d*)?)){4,}\s*")
"""Matches a line of a YOLO file, which contains a class id and coordinates as fractions of the image size. A box has
four coordinates, and a polygon has more than four."""


class Annotations(NamedTuple):
    """A detected annotation format.

    ``title`` is the name of the format, and ``example`` is the first file in this format. ``text`` is a clause for
    messages, with advice on conversion.
    """

    title: str
    example: Path
    text: str


def find_annotations(folder: Path) -> Annotations | None:
    """Returns the first annotation format that is detected in a folder.

    A format is detected by file extensions and by the beginnings of a few files. Files that cannot be read are skipped.
    If no format is detected, ``None`` is returned.
    """
    seen: Counter[str] = Counter()
    for path in islice(files_below(folder, lambda name: not name.startswith(".")), _MOST_FILES):
        suffix = path.suffix.lower()
        seen[suffix] += 1
        title, remedy = _recognize(path, is_read=seen[suffix] <= _FEW)
        if title:
            example = path.relative_to(folder).as_posix()
            unread = "" if remedy.endswith(READ) else ", which are not read"
            text = f"there are annotations in {title} ({example}){unread}: {remedy}"
            return Annotations(title, path, text)
    return None


def title_of(path: Path) -> str:
    """Returns the title of a file's annotation format, or an empty text. The beginning of the file is read."""
    return _recognize(path, is_read=True)[0]


def _recognize(path: Path, *, is_read: bool) -> tuple[str, str]:
    """Returns the title of a file's format and advice on conversion. Both are empty if the format is not known.

    The beginning of the file is read only if ``is_read`` is true.
    """
    name = path.name.lower()
    formats = [(words, title, remedy) for ends, words, title, remedy in _FORMATS if name.endswith(ends)]
    is_yolo = name.endswith(".txt")
    text = ""
    if is_read and (is_yolo or any(words for words, *_ in formats)):
        try:
            with open_regular(path) as handle:
                text = handle.read(_MOST_BYTES).decode("utf-8", "replace")
        except InputError:
            return "", ""
    lines = [line for line in text.splitlines()[:20] if line.strip()] if is_yolo else []
    if lines and all(map(_YOLO_LINE.fullmatch, lines)):
        if all(len(line.split()) == 5 for line in lines):
            return "YOLO's text files (boxes)", _BOXES
        return "YOLO's text files (polygons)", f"with their data.yaml in the folder, {READ}"
    for words, title, remedy in formats:
        if all(word in text for word in words.split()):
            return title, remedy
    return "", ""
