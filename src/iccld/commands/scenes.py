"""``iccld data scenes``: writes generated street scenes to disk."""

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
    """Writes generated street scenes with labels in the layout of Cityscapes.

    Example: iccld data scenes datasets/scenes --look game --count 500

    Images are written to OUT/leftImg8bit/SPLIT/LOOK/*_leftImg8bit.png. Labels (Cityscapes labelIds) are written
    to OUT/gtFine/SPLIT/LOOK/*_gtFine_labelIds.png. Existing scenes are kept. To add scenes, repeat the command with a
    greater --count. After an interruption, repeat the command to write the missing scenes.
    """

    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """Output folder."""
    look: Look = "both"
    """Style: game (crisp, vivid), camera (like photos), night (like photos by street light), or both (game and
    camera)."""
    count: Count = 100
    """Number of scenes."""
    height: Annotated[int, Range(48, 16_000)] = 512
    """Height of the images in pixels."""
    width: Annotated[int, Range(48, 16_000)] = 1024
    """Width of the images in pixels."""
    seed: Seed = 0
    """Seed of the scenes. Different seeds give different scenes."""
    split: str = "train"
    """Name of the split's folder, such as train or val."""
    json: JsonFile = None
    """JSON file for the numbers of written and kept scenes."""

    def run(self) -> int:
        """Renders and writes the missing scenes, and returns the exit code."""
        if not re.fullmatch(r"[A-Za-z0-9][\w-]*", self.split):
            fault = f"--split {self.split!r} is no name of a folder"
            raise InputError(f"{fault}; give letters and digits, as in train")
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
