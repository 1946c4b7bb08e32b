"""``iccld data check``: finds errors in the files of a data set that would spoil a run."""

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
    """Checks a data set's files, sizes and labels, and prints the frequency of each class.

    Example: iccld data check datasets/mine --sheet mine.png

    Example: iccld data check camvid datasets/camvid --split val

    If only a folder is given, its layout and labels are detected as by 'iccld data init', and printed.

    The exit code is 2 if there are errors that would spoil a run. Such errors are label maps that are missing or
    unreadable, differ in size from their image, contain ids without a class, or have only ignored pixels.
    """

    name: Annotated[Positional[str], arg(metavar="[NAME]")]
    """Data set: gta5, synthia, cityscapes, camvid or folder. Without it, the data set in FOLDER is detected."""
    root: Annotated[Positional[Path | None], arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Folder of the data set."""
    split: OptionalName = None
    """Split of the data set. The default is train, or the first split if there is no split train."""
    label_space: OptionalName = None
    """Classes to count: cityscapes19, synthia16 or camvid11. The default is the data set's own classes."""
    limit: OptionalCount = None
    """Maximum number of label maps to read, evenly spaced over the split. By default, all label maps are read."""
    images_only: bool = False
    """Check only the images, for a target without labels."""
    json: JsonFile = None
    """JSON file for the report, with the names of all affected files."""
    sheet: OptionalFile = None
    """PNG file for some images with overlaid labels, chosen so that every class occurs if possible. Look at this file
    before training."""

    def run(self) -> int:
        """Prints the report and returns the exit code, which is 2 if there are errors."""
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
        """Checks the data set, and returns its description (given or detected) and the report of the check."""
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
        from iccld.reporting.figures import label_sheet

        assert self.sheet is not None
        space = native_space(report.layout) if self.label_space is None else get_label_space(self.label_space)
        what = "labels over images" if report.shown else "images without labels"
        title = f"{report.name}, split {report.split}: {what}"
        path, count = label_sheet(report.layout, space, report.shown, self.sheet, title=title)
        print(f"sheet: {path} ({count} of {report.num_images} images)")
