"""``iccld data scenes``: write generated street scenes to disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from iccld.commands.flags import Count, JsonFile, Seed
from iccld.commands.output import human_text, write_result
from iccld.config import Look
from iccld.documents import Range
from iccld.errors import InputError
from iccld.locks import claiming
from iccld.outputs import Places


@dataclass(frozen=True)
class DataScenesArgs:
    """Writes generated street scenes with labels, laid out like Cityscapes.

    Example: iccld data scenes datasets/scenes --look game --count 500

    The images are OUT/leftImg8bit/SPLIT/LOOK/*_leftImg8bit.png, the labels (Cityscapes labelIds)
    OUT/gtFine/SPLIT/LOOK/*_gtFine_labelIds.png. Scenes that are there already are kept: the same command
    with a greater --count adds to them, and an interrupted one goes on where it was.
    """

    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """Folder to write to."""
    look: Look = "both"
    """game is crisp and vivid, camera imitates photographs, night those by street light; both: game and camera."""
    count: Count = 100
    """Number of scenes."""
    height: Annotated[int, Range(48, 16_000)] = 512
    """Height in pixels."""
    width: Annotated[int, Range(48, 16_000)] = 1024
    """Width in pixels."""
    seed: Seed = 0
    """Chooses the scenes; two seeds share none."""
    split: str = "train"
    """Name of the split's folder, such as train or val."""
    json: JsonFile = None
    """Where to write what was done."""

    def run(self) -> int:
        """Renders and writes what is missing."""
        if not re.fullmatch(r"[A-Za-z0-9][\w-]*", self.split):
            raise InputError(
                f"--split {self.split!r} is no name of a folder; give letters and digits, as in train"
            )
        from iccld.data.street_scenes import StreetScenes, write_scenes

        Places(files={"--json": (self.json, "json")}, folders={"OUT": self.out}).check()
        scenes = StreetScenes(self.look, self.count, self.height, self.width, self.seed)
        with claiming(self.out, "data scenes", "scenes of iccld", record="scenes_*.json"):
            rendered = write_scenes(scenes, self.out, self.split)
        kept = self.count - rendered
        with human_text(self.json):
            print(f"{rendered} scenes written, {kept} kept: {self.out}/ (split {self.split})")
        facts = {"out": str(self.out), "split": self.split, "written": rendered, "kept": kept}
        write_result(self.json, facts)
        return 0
