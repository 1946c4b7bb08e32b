"""``iccld data check``: finds what would spoil a run in a data set's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from iccld.commands.flags import JsonFile, OptionalName, OptionalNumber
from iccld.commands.output import human_text, write_result
from iccld.labels import get_label_space


@dataclass(frozen=True)
class DataCheckArgs:
    """Checks a data set's files, sizes and labels, and prints how much of each class there is.

    Example: iccld data check camvid datasets/camvid --split val

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
    limit: OptionalNumber = None
    """Read only so many label maps, spread evenly. By default all."""
    images_only: bool = False
    """Check only images, as for a target without labels."""
    json: JsonFile = None
    """Where to write the report with all files concerned."""

    def run(self) -> int:
        """Prints the report; returns 2 if it holds errors."""
        space = None if self.label_space is None else get_label_space(self.label_space)

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
        write_result(self.json, report.to_json())
        return 2 if report.errors else 0
