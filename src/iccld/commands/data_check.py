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
    from iccld.data.autodetect.detect import Recognized
    from iccld.data.check_report import CheckReport


@dataclass(frozen=True)
class DataCheckArgs:
    """Checks a data set's files, sizes and labels, and prints how much of each class there is.

    Example: iccld data check datasets/mine --sheet mine.png

    Example: iccld data check camvid datasets/camvid --split val

    Given a folder alone, it finds out what the folder holds and says so, as 'iccld data init' does.

    Exits with 2 if something would spoil a run: labels are missing or unreadable, have another size than
    their image, hold ids without a class, or are all ignored.
    """

    name: Annotated[Positional[str], arg(metavar="[NAME]")]
    """Data set: gta5, synthia, cityscapes, camvid or folder; found out where the folder is given alone."""
    root: Annotated[Positional[Path | None], arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Its folder."""
    split: OptionalName = None
    """Part of the data set: train by default, or the first one that there is."""
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
        if self.sheet is not None and self.sheet.suffix.lower() != ".png":
            raise InputError(f"--sheet {self.sheet}: the sheet is a PNG file; give a name that ends in .png")

        root = Path(self.name) if self.root is None else self.root
        Places(files={"--json": (self.json, "json"), "--sheet": (self.sheet, "png")}, data=[root]).check()
        known, report = self._check(root)
        with human_text(self.json):
            if known.text:
                print(f"{root}: taken for {known.text}")
            print(report.to_text())
            if self.sheet is not None:
                self._draw_sheet(report)
            elif report.shown and not report.errors:
                print("see the labels over the images: the same command with --sheet FILE.png")
        write_result(self.json, report.to_json() | ({"taken_for": known.text} if known.text else {}))
        return 2 if report.errors else 0

    def _check(self, root: Path) -> tuple[Recognized, CheckReport]:
        """What the folder is taken for, and what was found in it."""
        from iccld.data.autodetect.detect import Recognized, recognize
        from iccld.data.check import check_dataset
        from iccld.data.datasets import list_splits
        from iccld.data.layouts import DATASET_NAMES, match_split

        space = None if self.label_space is None else get_label_space(self.label_space)
        if self.root is not None:
            known = Recognized(self.name, "")
        elif self.name in DATASET_NAMES and not root.is_dir():
            raise InputError(f"{self.name}: needs its folder too; call 'iccld data check {self.name} FOLDER'")
        else:
            known = recognize(root)
        guessed = known.description
        splits = list_splits(known.name, root) if guessed is None else tuple(guessed.globs)
        if not splits:
            raise InputError(f"{root}: has no split of {known.name}; name the data set's own folder")
        report = check_dataset(
            known.name,
            root,
            split=self.split or match_split("train", splits) or splits[0],
            label_space=space,
            limit=self.limit,
            images_only=self.images_only,
            description=guessed,
        )
        if guessed is not None:
            how = f"'iccld data init {root}' writes it down, for you to correct and for training"
            report.warnings.append(f"nothing in the folder says what it holds, this was guessed; {how}")
            report.warnings += [f"please check: {note}" for note in known.notes]
        return known, report

    def _draw_sheet(self, report: CheckReport) -> None:
        from iccld.data.datasets import native_space
        from iccld.reporting.label_sheet import label_sheet

        assert self.sheet is not None
        space = native_space(report.layout) if self.label_space is None else get_label_space(self.label_space)
        what = "labels over images" if report.shown else "images without labels"
        title = f"{report.name}, split {report.split}: {what}"
        path, count = label_sheet(report.layout, space, report.shown, self.sheet, title=title)
        print(f"sheet: {path} ({count} of {report.num_images} images)")
