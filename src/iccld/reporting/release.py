"""The files of a model as they are published: weights, configuration without folders of one machine, card."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iccld.files import write_atomic, write_json, write_text
from iccld.models.iccld import ICCLD
from iccld.models.storage import CONFIG, WEIGHTS, find_model, read_config
from iccld.reporting.model_card import model_card
from iccld.training.tracking import read_metrics

_FOLDERS = ("source_root", "target_root", "scene_cache")


def write_release(source: str, repo_id: str, *, license: str | None = None) -> Callable[[Path], list[str]]:
    """Makes ready what is published of a model.

    Args:
        source: folder of a saved model, or a hub id.
        repo_id: where it will lie.
        license: of the weights; None if none is stated.

    Returns:
        A function that writes the files to a folder and gives their names.

    Raises:
        InputError: there is no such model, or it cannot be loaded.
    """
    ICCLD.from_pretrained(source)  # what cannot be loaded is not published
    folder = find_model(source)
    config, metrics = read_config(folder), folder / "metrics.csv"
    card = model_card(
        config,
        read_metrics(metrics) if metrics.is_file() else [],
        repo_id=repo_id,
        license=license,
    )

    def write(out: Path) -> list[str]:
        write_atomic(out / WEIGHTS, lambda temporary: shutil.copyfile(folder / WEIGHTS, temporary))
        write_json(out / CONFIG, _without_folders(config))
        write_text(out / "README.md", card)
        return [WEIGHTS, CONFIG, "README.md"]

    return write


def _without_folders(config: dict[str, Any]) -> dict[str, Any]:
    clean = copy.deepcopy(config)
    data = clean.get("training", {}).get("data", {})
    data |= {name: None for name in _FOLDERS if name in data}
    return clean
