"""Presets, which are named configurations of runs, and recipes, which are the settings of published methods.

Both are tables in ``presets.toml``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iccld.config import TrainConfig, with_settings
from iccld.labels import look_up


@dataclass(frozen=True)
class Preset:
    """Named configuration with its purpose, command and hardware.

    ``expected`` is a text about the expected mIoU on the target data set and the measurement of this mIoU. If no mIoU
    was measured, the text gives the reason.
    """

    summary: str
    command: str
    hardware: str
    expected: str
    config: TrainConfig


def _read(tables: Mapping[str, Any]) -> tuple[dict[str, Preset], dict[str, Mapping[str, Any]]]:
    settings: dict[str, dict[str, Any]] = {}
    presets: dict[str, Preset] = {}
    for name, table in tables["presets"].items():
        inherited = settings.get(table.pop("like", ""), {})
        unset = table.pop("unset", ())
        own = table.pop("settings")
        settings[name] = {key: value for key, value in inherited.items() if key not in unset} | own
        presets[name] = Preset(**table, config=with_settings(TrainConfig(), settings[name]))
    recipes: dict[str, Mapping[str, Any]] = {}
    for name, table in tables["recipes"].items():
        recipes[name] = recipes.get(table.pop("like", ""), {}) | table
    return presets, {name: recipe for name, recipe in recipes.items() if not name.startswith("_")}


PRESETS: Mapping[str, Preset]
RECIPES: Mapping[str, Mapping[str, Any]]
"""Recipes by method: the settings (by dotted name) that turn a preset into the published recipe of the method."""
PRESETS, RECIPES = _read(tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")))

_GTA5_SIZE = (704, 1280)
_STRETCHED_GTA5 = ("adaptsegnet", "advent", "minent", "fda", "dacs")
"""Methods whose published code resizes GTA5 images from 1914×1052 to 1280×720 pixels. The code of DAFormer and MIC
keeps the aspect ratio and resizes to 1280×704 pixels."""

_ORACLE = {"data.rare_class_sampling": False}
"""Settings of the oracle: uniform sampling of target images, as in all reported oracle results."""


def with_method(config: TrainConfig, method: str) -> TrainConfig:
    """Returns a copy of the configuration with the given method and the recipe of this method."""
    settings = {"method": method, **(_ORACLE if method == "oracle" else RECIPES.get(method, {}))}
    if config.data.source == "gta5" and config.data.source_size == _GTA5_SIZE and method in _STRETCHED_GTA5:
        settings["data.source_size"] = (720, 1280)
    return with_settings(config, settings)


def get_preset(name: str) -> Preset:
    """Returns a preset by name. Raises ``InputError`` for an unknown name."""
    return look_up(name, PRESETS, "preset")
