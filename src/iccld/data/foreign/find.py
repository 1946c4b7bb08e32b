"""Detects annotation files in a folder and reads those of one format."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from iccld.data.annotations import title_of
from iccld.data.autodetect.guess import LABEL_FOLDER, Guess, survey
from iccld.data.folders import files_below
from iccld.data.foreign.class_masks import TITLE as CLASS_MASKS
from iccld.data.foreign.class_masks import find_class_masks, read_class_masks
from iccld.data.foreign.coco import read_coco
from iccld.data.foreign.cvat import read_cvat
from iccld.data.foreign.label_studio import read_label_studio
from iccld.data.foreign.labelme import read_labelme
from iccld.data.foreign.names import ImageIndex
from iccld.data.foreign.shapes import AnnotationSet
from iccld.data.foreign.supervisely import read_supervisely
from iccld.data.foreign.yolo import find_yaml, has_labels, read_yolo

_FEW = 4  # files of a folder whose beginnings are read
_YOLO = "YOLO's text files"
_READERS: dict[str, Callable[[Path, Sequence[Path], ImageIndex], AnnotationSet]] = {
    "COCO's JSON": read_coco,
    "labelme's JSON": read_labelme,
    "CVAT's XML": read_cvat,
    "Label Studio's JSON": read_label_studio,
    "Supervisely's JSON": read_supervisely,
}
_ORDER = ("COCO's JSON", _YOLO, *[title for title in _READERS if title != "COCO's JSON"])


@dataclass(frozen=True)
class Format:
    """A detected annotation format: its title, its files, and the titles of further formats in the folder."""

    root: Path
    title: str
    files: tuple[Path, ...]
    others: tuple[str, ...] = ()

    def is_preferred(self, guess: Guess) -> bool:
        """Returns whether the annotations are used in spite of what was detected from images and label maps.

        Label maps are preferred to annotations. However, PNG files with the segments of COCO's panoptic JSON look like
        label maps of unknown colors.
        """
        meaning = guess.meaning
        is_segments = meaning is not None and meaning.is_guess and "color_coded" in meaning.keys
        return meaning is None or self.title == CLASS_MASKS or (is_segments and self.title == "COCO's JSON")

    def read(self) -> AnnotationSet:
        """Reads the annotation files. Raises ``InputError`` if a file is damaged."""
        names = survey(self.root).images
        if self.title == CLASS_MASKS:
            return read_class_masks(self.root, find_class_masks(self.root, names))
        if self.title == _YOLO:
            found = read_yolo(self.root, self.files[0], names)
        else:
            found = _READERS[self.title](self.root, self.files, ImageIndex(names))
        if self.others:
            found.notes.append(f"There are annotations in {', '.join(self.others)} too, which were not read.")
        return found


def find_format(root: Path) -> Format | None:
    """Returns the annotation format of a folder, or ``None`` if there is none that can be read.

    If there are several, COCO is preferred to YOLO, labelme, CVAT, Label Studio and Supervisely, in this order. The
    formats are detected by the beginnings of a few files of each folder.
    """
    found: dict[str, list[Path]] = {}
    if (yaml := find_yaml(root)) is not None and has_labels(root, survey(root).images):
        found[_YOLO] = [yaml]
    folders: defaultdict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in files_below(root, lambda name: name[0] != "." and name.lower().endswith((".json", ".xml"))):
        if path.relative_to(root).parts[0] != LABEL_FOLDER:
            folders[path.parent, path.suffix.lower()].append(path)
    for files in folders.values():
        titles = Counter(title_of(path) for path in files[:_FEW])
        for title in titles:
            title = "COCO's JSON" if title == "COCO's panoptic JSON" else title
            if title in _READERS:
                found[title] = list(dict.fromkeys([*found.get(title, []), *files]))
    ordered = [title for title in _ORDER if title in found]
    if not ordered:
        return Format(root, CLASS_MASKS, ()) if find_class_masks(root, survey(root).images) else None
    first, *others = ordered
    return Format(root, first, tuple(found[first]), tuple(others))
