"""Named runs. Each says the command, the hardware it is meant for and what to expect, or "not run here".

Presets and the recipes of rivals are tables of ``presets.toml``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iccld.config import TrainConfig, with_settings
from iccld.errors import InputError
from iccld.labels import suggest


@dataclass(frozen=True)
class Preset:
    """A named configuration: what it is for, and the measured target mIoU with its source or "not run here"."""

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
"""What makes a rival the method of its published code, on top of any preset: values by dotted name of the setting."""
PRESETS, RECIPES = _read(tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")))

_GTA5_SIZE = (704, 1280)
_STRETCHED_GTA5 = ("adaptsegnet", "advent", "minent", "fda", "dacs")
"""Methods whose code brings GTA5's 1914×1052 pixels to 1280×720; DAFormer's and MIC's keep the shape: 1280×704."""

_ORACLE = {"data.rare_class_sampling": False}
"""Uniform sampling of the target's labels unless asked for otherwise: all measured figures of the oracle have it."""


def with_method(config: TrainConfig, method: str) -> TrainConfig:
    """The same run by another method; a rival brings its recipe."""
    settings = {"method": method, **(_ORACLE if method == "oracle" else RECIPES.get(method, {}))}
    if config.data.source == "gta5" and config.data.source_size == _GTA5_SIZE and method in _STRETCHED_GTA5:
        settings["data.source_size"] = (720, 1280)
    return with_settings(config, settings)


def get_preset(name: str) -> Preset:
    """Finds a preset.

    Raises:
        InputError: no such preset; suggests the nearest.
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}; {suggest(name, list(PRESETS))}")
    return PRESETS[name]
