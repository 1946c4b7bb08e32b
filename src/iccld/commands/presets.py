"""``iccld presets``: lists the presets, or prints the settings of one preset."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tyro.conf import Positional

from iccld.config import to_dict
from iccld.presets import PRESETS, get_preset


@dataclass(frozen=True)
class PresetsArgs:
    """Lists the presets with command, hardware and expected score, or prints the settings of one preset.

    Example: iccld presets scenes_to_camvid
    """

    name: Positional[str | None] = None
    """Preset whose settings are printed. By default, all presets are listed."""
    json: bool = False
    """Print the list as JSON. '--json -', as in other commands, is also accepted."""

    def run(self) -> int:
        """Prints the presets and returns the exit code."""
        facts = ("command", "hardware", "expected")
        if self.name is not None and not (self.json and self.name == "-"):
            print(json.dumps(to_dict(get_preset(self.name).config), indent=2))
        elif self.json:
            listing = {n: {f: getattr(p, f) for f in ("summary", *facts)} for n, p in PRESETS.items()}
            print(json.dumps(listing, indent=2))
        else:
            for name, preset in PRESETS.items():
                lines = [f"  {fact + ':':<9} {getattr(preset, fact)}" for fact in facts]
                print("\n".join([name, f"  {preset.summary}", *lines, ""]))
        return 0
