"""The files of a model as they are published: weights, configuration without paths of one machine, and the card.

The card, README.md, says what the model was trained on, what was measured, and what it is not for. Every figure comes
from the run's own files; what they do not hold is said to be not measured.
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
from iccld.models.storage import CONFIG, WEIGHTS, find_model, read_config
from iccld.reporting.templates import render
from iccld.training.tracking import read_metrics

_CARD = "README.md"
_FOLDERS = ("source_root", "target_root", "scene_cache", "cache")


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
    """What the card takes from the record of a training."""

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
    """Writes the card: Markdown with YAML front matter, in which names are text, never markup.

    ``config`` is the model's ``config.json``; ``rows`` are those of the run's ``metrics.csv``, none where it is not
    there.

    Raises:
        InputError: what is recorded of the training is incomplete or of other types.
    """
    from markupsafe import Markup

    space = LabelSpace.from_dict(config["label_space"])
    recorded = config.get("training")
    training = build(_Training, recorded, "training", others=True) if recorded else None
    return render(
        "model_card.md.j2",
        repo_id=repo_id,
        code_id=Markup(repo_id),  # code of Markdown shows an escape; the identifier was checked
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
    """The evaluation of the weights themselves: of the step at which they were saved."""
    measured = (r for r in rows if r.get("step") == str(training.step) and "val/miou" in r)
    row: Mapping[str, str] = next(measured, {})
    return {k.removeprefix("val/"): float(v) for k, v in row.items() if k.startswith("val/")}


def write_release(source: str, repo_id: str, *, license: str | None = None) -> Callable[[Path], list[str]]:
    """Makes ready what is published of a model, a folder or hub id, under a name on the hub.

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
    rows = read_metrics(metrics) if metrics.is_file() else []
    card = model_card(config, rows, repo_id=repo_id, license=license)

    def write(out: Path) -> list[str]:
        if out.resolve() == folder.resolve():
            raise InputError(f"{out}: holds the model itself; choose another folder")
        there, old = [name for name in (WEIGHTS, CONFIG, _CARD) if (out / name).exists()], out / _CARD
        is_earlier = old.is_file() and b"library_name: iccld" in read_bounded(old, 1_000_000)
        if there and not is_earlier:
            raise InputError(f"{out / there[0]}: exists and is of no earlier release; choose another folder")
        write_atomic(out / WEIGHTS, lambda temporary: shutil.copyfile(folder / WEIGHTS, temporary))
        write_json(out / CONFIG, config)
        write_text(out / _CARD, card)
        return [WEIGHTS, CONFIG, _CARD]

    return write


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
    # A hub id may look like a relative path; it is one if something is there.
    is_path = re.match(r"[/~.\\]|[A-Za-z]:[/\\]", path) or ("/" in path and os.path.exists(path))
    return kind + re.split(r"[/\\]", path.rstrip("/\\"))[-1] if is_path else value
