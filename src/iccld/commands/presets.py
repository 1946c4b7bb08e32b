"""``iccld presets``: lists the named runs, or shows one in full."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tyro.conf import Positional

from iccld.config import to_dict
from iccld.presets import PRESETS, get_preset


@dataclass(frozen=True)
class PresetsArgs:
    """Lists the named runs with command, hardware and expected score. Example: iccld presets scenes_to_camvid."""

    name: Positional[str | None] = None
    """Shows this preset's settings in full."""
    json: bool = False
    """Prints JSON; --json - says the same."""

    def run(self) -> int:
        """Prints; returns the exit code."""
        if self.name is not None and not (self.json and self.name == "-"):
            print(json.dumps(to_dict(get_preset(self.name).config), indent=2))
            return 0
        if self.json:
            facts = ("summary", "command", "hardware", "expected")
            print(json.dumps({n: {f: getattr(p, f) for f in facts} for n, p in PRESETS.items()}, indent=2))
            return 0
        for name, preset in PRESETS.items():
            print(f"{name}\n  {preset.summary}")
            print(
                f"  command:  {preset.command}\n  hardware: {preset.hardware}\n  expected: {preset.expected}\n"
            )
        return 0
