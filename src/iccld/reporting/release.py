"""Files of a published model: weights, configuration without local paths, and the model card ``README.md``.

All metrics in the model card come from the files of the run. Metrics that are missing there are listed as not measured.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iccld.documents import build
from iccld.errors import InputError
from iccld.files import read_bounded, write_atomic, write_json, write_text
from iccld.labels import LabelSpace, protocol_of
from iccld.models.hub import check_repo_id
from iccld.models.iccld import ICCLD
from iccld.models.storage import CONFIG, FILES, WEIGHTS, find_model, read_config, write_processor
from iccld.reporting.templates import render
from iccld.training.tracking import read_metrics

_CARD = "README.md"


@dataclass(frozen=True)
class _Data:
    source: str
    source_split: str
    source_look: str
    target: str
    target_split: str
    target_look: str
    val_split: str
    crop: tuple[int, int]
    batch_size: int


@dataclass(frozen=True)
class _Model:
    pretrained: str


@dataclass(frozen=True)
class _Training:
    method: str
    preset: str
    step: int
    steps: int
    seed: int
    weights: str
    data: _Data
    model: _Model


def model_card(
    config: Mapping[str, Any], rows: Sequence[Mapping[str, str]], *, repo_id: str, license: str | None = None
) -> str:
    """Returns the model card as Markdown with YAML front matter. Names are escaped, so that they never become markup.

    ``config`` is the model's ``config.json``. ``rows`` are the rows of the run's ``metrics.csv``, or empty if the file
    does not exist. Raises ``InputError`` if the training record is incomplete or has values of wrong types.
    """
    from markupsafe import Markup

    space = LabelSpace.from_dict(config["label_space"])
    recorded = config.get("training")
    training = build(_Training, recorded, "training", others=True) if recorded else None
    return render(
        "model_card.md.j2",
        repo_id=repo_id,
        code_id=Markup(repo_id),  # not escaped, because valid ids need no escaping
        space=space,
        protocol=protocol_of(space),
        training=training,
        source=training and _name(training.data.source, training.data.source_look),
        target=training and _name(training.data.target, training.data.target_look),
        backbone=config["model"]["backbone"],
        figures=_figures(training, rows) if training else {},
        license=license,
    )


def _name(dataset: str, look: str) -> str:
    return f"{dataset}, {look} look (generated)" if dataset == "street_scenes" else dataset


def _figures(training: _Training, rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Returns the evaluation metrics that were logged at the step of the saved weights, or an empty dict."""
    for row in rows:
        if row.get("step") == str(training.step) and "val/miou" in row:
            return {k.removeprefix("val/"): float(v) for k, v in row.items() if k.startswith("val/")}
    return {}


def write_release(source: str, repo_id: str, *, license: str | None = None) -> Callable[[Path], list[str]]:
    """Prepares the files with which a model (folder or hub id) is published under the hub id ``repo_id``.

    Raises ``InputError`` if the model cannot be loaded, or if ``repo_id`` is not a valid hub id. Returns a function
    that writes the files to a folder and returns their names. The returned function raises ``InputError`` if the folder
    is that of the model, or if the folder contains files with these names that are not from an earlier release.
    """
    check_repo_id(repo_id)
    ICCLD.from_pretrained(source)  # raises an error if the model cannot be loaded
    folder = find_model(source)
    config, metrics = without_paths(read_config(folder)), folder / "metrics.csv"
    rows = read_metrics(metrics) if metrics.is_file() else []
    card = model_card(config, rows, repo_id=repo_id, license=license)

    def write(out: Path) -> list[str]:
        if out.resolve() == folder.resolve():
            raise InputError(f"{out}: holds the model itself; choose another folder")
        there, old = [name for name in (*FILES, _CARD) if (out / name).exists()], out / _CARD
        is_earlier = old.is_file() and b"library_name: iccld" in read_bounded(old, 1_000_000)
        if there and not is_earlier:
            raise InputError(f"{out / there[0]}: exists and is of no earlier release; choose another folder")
        write_atomic(out / WEIGHTS, lambda temporary: shutil.copyfile(folder / WEIGHTS, temporary))
        write_json(out / CONFIG, config)
        write_processor(out)
        write_text(out / _CARD, card)
        return [*FILES, _CARD]

    return write


def without_paths(value: Any, name: str = "") -> Any:
    """Returns settings without local paths.

    Data folders and cache folders become ``None``. Of other paths, only the last part is kept.
    """
    if isinstance(value, dict):
        return {key: without_paths(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    if not isinstance(value, str):
        return value
    if name in ("source_root", "target_root", "target_labeled", "scene_cache", "cache"):
        return None
    kind, path = ("auto:", value[5:]) if value.startswith("auto:") else ("", value)
    # A hub id can look like a relative path. Therefore, such a text is treated as a path only if the path exists.
    is_path = re.match(r"[/~.\\]|[A-Za-z]:[/\\]", path) or ("/" in path and os.path.exists(path))
    return kind + re.split(r"[/\\]", path.rstrip("/\\"))[-1] if is_path else value
