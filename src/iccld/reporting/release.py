"""The files of a model as they are published: weights, configuration without paths of one machine, card."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iccld.errors import InputError
from iccld.files import read_bounded, write_atomic, write_json, write_text
from iccld.models.hub import check_repo_id
from iccld.models.iccld import ICCLD
from iccld.models.storage import CONFIG, WEIGHTS, find_model, read_config
from iccld.reporting.model_card import model_card
from iccld.training.tracking import read_metrics

_CARD = "README.md"
_FOLDERS = ("source_root", "target_root", "scene_cache", "cache")


def write_release(source: str, repo_id: str, *, license: str | None = None) -> Callable[[Path], list[str]]:
    """Makes ready what is published of a model.

    Args:
        source: folder of a saved model, or a hub id.
        repo_id: where it will lie.
        license: of the weights; None if none is stated.

    Returns:
        A function that writes the files to a folder and gives their names. It refuses a folder that holds files of
        these names which are no earlier release.

    Raises:
        InputError: there is no such model, it cannot be loaded, or no repository has such a name.
    """
    check_repo_id(repo_id)
    ICCLD.from_pretrained(source)  # what cannot be loaded is not published
    folder = find_model(source)
    config, metrics = _without_paths(read_config(folder)), folder / "metrics.csv"
    card = model_card(
        config,
        read_metrics(metrics) if metrics.is_file() else [],
        repo_id=repo_id,
        license=license,
    )

    def write(out: Path) -> list[str]:
        _refuse_to_overwrite(folder, out)
        write_atomic(out / WEIGHTS, lambda temporary: shutil.copyfile(folder / WEIGHTS, temporary))
        write_json(out / CONFIG, config)
        write_text(out / _CARD, card)
        return [WEIGHTS, CONFIG, _CARD]

    return write


def _refuse_to_overwrite(model: Path, out: Path) -> None:
    if out.resolve() == model.resolve():
        raise InputError(f"{out}: holds the model itself; choose another folder")
    card = out / _CARD
    earlier = card.is_file() and b"library_name: iccld" in read_bounded(card, 1_000_000)
    there = [name for name in (WEIGHTS, CONFIG, _CARD) if (out / name).exists()]
    if there and not earlier:
        raise InputError(
            f"{out / there[0]}: is there already and is of no earlier card; choose another folder"
        )


def _without_paths(value: Any, name: str = "") -> Any:
    """The same settings without folders of this machine; of other paths the last part is left."""
    if isinstance(value, dict):
        return {key: _without_paths(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    if not isinstance(value, str):
        return value
    if name in _FOLDERS:
        return None
    kind, path = ("auto:", value[5:]) if value.startswith("auto:") else ("", value)
    return kind + re.split(r"[/\\]", path.rstrip("/\\"))[-1] if _is_path(path) else value


def _is_path(text: str) -> bool:
    if re.match(r"[/~.\\]|[A-Za-z]:[/\\]", text):
        return True
    # A hub id may look like a relative path; it is one if something is there.
    return "/" in text and os.path.exists(text)
