"""``iccld data export``: writes predictions as annotations for labeling tools."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from iccld.commands.flags import JsonFile, OptionalCount, OptionalFile, OptionalFolder
from iccld.commands.output import human_text, write_result
from iccld.documents import Range
from iccld.errors import InputError
from iccld.files import read_bounded, write_atomic
from iccld.locks import claiming
from iccld.outputs import Places

_MOST_OF_RANKING = 1 << 30


@dataclass(frozen=True)
class DataExportArgs:
    """Writes predicted label maps as annotations, which a labeling tool imports and a person corrects.

    Example: iccld data export predictions my_camera --format cvat --out annotations.xml

    Example: iccld data export predictions my_camera --format labelstudio --rank next/rank.csv --top 20 --out tasks.json

    The annotations are polygons (cvat, labelstudio) or masks as run lengths (coco). The classes are written beside
    them, as NAME.labels.json or NAME.labels.xml, in the form that the tool needs for a new project. Export the
    corrected annotations from the tool into the folder of the images, and call iccld data init.
    """

    predictions: Annotated[Positional[Path], arg(metavar="PREDICTIONS")]
    """Output folder of iccld predict."""
    images: Annotated[Positional[Path], arg(metavar="IMAGES")]
    """Folder of the images, as it was given to iccld predict."""
    out: Path
    """File to write: XML for cvat, JSON for labelstudio and coco."""
    format: Literal["cvat", "labelstudio", "coco"] = "cvat"
    """Format: cvat (CVAT for images 1.1), labelstudio (tasks with predictions) or coco."""
    rank: OptionalFile = None
    """Ranking of iccld rank (rank.csv). Only its frames are written, in its order."""
    top: OptionalCount = None
    """Number of frames of the ranking. By default, all frames are written."""
    min_area: Annotated[int, Range(1, 10**9)] = 20
    """Smallest number of pixels of a region. Smaller regions are left out."""
    tolerance: Annotated[float, Range(0, 1000)] = 1.0
    """Largest distance in pixels between a region and its simplified polygon. 0 keeps every corner."""
    url_prefix: str = "/data/local-files/?d="
    """Text before the names of images in Label Studio."""
    copy_images: OptionalFolder = None
    """Folder to which the written images are copied, for example for a task of CVAT."""
    json: JsonFile = None
    """JSON file for the numbers of images and regions."""

    def run(self) -> int:
        """Writes the annotations and returns the exit code."""
        from iccld.data.inputs import find_inputs, split_inputs
        from iccld.inference.annotation_files import (
            classes_path,
            pair_labels,
            read_classes,
            write_annotations,
            write_classes,
        )
        from iccld.progress import track

        if self.top is not None and self.rank is None:
            raise InputError("--top is the number of frames of a ranking; give --rank FILE too")
        kind = "xml" if self.format == "cvat" else "json"
        data = [self.images, self.predictions]
        Places(
            files={
                "--json": (self.json, "json"),
                "--out": (self.out, kind),
                "classes of --out": (
                    classes_path(self.out, self.format),
                    "json" if kind == "xml" else "view",
                ),
            },
            folders={"--copy-images": self.copy_images},
            data=data,
        ).check()
        if not self.images.is_dir():
            raise InputError(f"{self.images}: no such folder; name the folder of the images")
        found, _ = split_inputs(find_inputs([str(self.images)]))  # skips the outputs of other commands
        names = sorted(image.path.relative_to(self.images).as_posix() for image in found)
        if self.rank is not None:
            names = self._ranked(self.rank, names)
        if not names:
            raise InputError(f"{self.images}: holds no image; name the folder of the images")
        space, table = read_classes(self.predictions)
        pairs = pair_labels(self.predictions, names)
        count = write_annotations(
            self.out,
            track(pairs, len(pairs), "writing annotations"),
            space,
            table,
            kind=self.format,
            min_area=self.min_area,
            tolerance=self.tolerance,
            prefix=self.url_prefix,
        )
        classes = write_classes(self.out, space, self.format)
        if self.copy_images is not None:
            self._copy(self.copy_images, names)
        with human_text(self.json):
            print(f"{count} regions of {len(pairs)} images written: {self.out}")
            if classes is not None:
                print(f"classes for a new project: {classes}")
        write_result(self.json, {"out": str(self.out), "images": len(pairs), "regions": count})
        return 0

    def _copy(self, folder: Path, names: list[str]) -> None:
        from iccld.data.picture_header import MOST_BYTES

        with claiming(folder, "data export", "images that 'iccld data export' copied"):
            for name in names:
                copied = partial(Path.write_bytes, data=read_bounded(self.images / name, MOST_BYTES))
                write_atomic(folder / name, copied)

    def _ranked(self, path: Path, names: list[str]) -> list[str]:
        """Returns the first images of a ranking, as relative paths."""
        try:
            text = read_bounded(path, _MOST_OF_RANKING).decode("utf-8")
            files = [str(row["file"] or "") for row in csv.DictReader(text.splitlines())]
        except (KeyError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path}: is no ranking; name the rank.csv of iccld rank") from error
        known = {os.path.realpath(self.images / name): name for name in names}
        ranked = [known.get(os.path.realpath(file)) for file in files[: self.top]]
        lost = next((file for file, name in zip(files, ranked, strict=False) if name is None), None)
        if lost is not None:
            raise InputError(f"{path}: lists {lost}, which is no image of {self.images}; name its folder")
        return [name for name in ranked if name is not None]
