"""``iccld data check``: finds what would spoil a run in a data set's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from iccld.commands.flags import JsonFile, OptionalCount, OptionalFile, OptionalName
from iccld.commands.output import human_text, write_result
from iccld.errors import InputError
from iccld.labels import get_label_space
from iccld.outputs import Places

if TYPE_CHECKING:
    from iccld.data.check_report import CheckReport


@dataclass(frozen=True)
class DataCheckArgs:
    """Checks a data set's files, sizes and labels, and prints how much of each class there is.

    Example: iccld data check camvid datasets/camvid --split val --sheet camvid.png

    Exits with 2 if something would spoil a run: labels are missing or unreadable, have another size than
    their image, hold ids without a class, or are all ignored.
    """

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """Data set: gta5, synthia, cityscapes, camvid or folder."""
    root: Annotated[Positional[Path], arg(metavar="ROOT")]
    """Its folder."""
    split: str = "train"
    """Part of the data set."""
    label_space: OptionalName = None
    """Classes to count in: cityscapes19, synthia16 or camvid11. By default the data set's own."""
    limit: OptionalCount = None
    """Read only so many label maps, spread evenly. By default all."""
    images_only: bool = False
    """Check only images, as for a target without labels."""
    json: JsonFile = None
    """Where to write the report with all files concerned."""
    sheet: OptionalFile = None
    """Where to draw some images with their labels laid over them, as a PNG file: every class is seen there if
    possible. Look at it before you train."""

    def run(self) -> int:
        """Prints the report; returns 2 if it holds errors."""
        space = None if self.label_space is None else get_label_space(self.label_space)
        if self.sheet is not None and self.sheet.suffix.lower() != ".png":
            raise InputError(f"--sheet {self.sheet}: the sheet is a PNG file; give a name that ends in .png")

        Places(
            files={"--json": (self.json, "json"), "--sheet": (self.sheet, "png")}, data=[self.root]
        ).check()

        from iccld.data.check import check_dataset

        report = check_dataset(
            self.name,
            self.root,
            split=self.split,
            label_space=space,
            limit=self.limit,
            images_only=self.images_only,
        )
        with human_text(self.json):
            print(report.to_text())
            if self.sheet is not None:
                self._draw_sheet(report)
            elif report.shown and not report.errors:
                print("see the labels over the images: the same command with --sheet FILE.png")
        write_result(self.json, report.to_json())
        return 2 if report.errors else 0

    def _draw_sheet(self, report: CheckReport) -> None:
        from iccld.data.datasets import find_files, native_space
        from iccld.reporting.label_sheet import label_sheet

        assert self.sheet is not None
        layout = find_files(self.name, self.root, self.split, needs_labels=False)
        space = native_space(layout) if self.label_space is None else get_label_space(self.label_space)
        what = "labels over images" if report.shown else "images without labels"
        title = f"{report.name}, split {report.split}: {what}"
        path, count = label_sheet(layout, space, report.shown, self.sheet, title=title)
        print(f"sheet: {path} ({count} of {report.num_images} images)")
