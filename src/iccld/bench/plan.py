"""Plans: which methods and switches are run on which tasks with which seeds. A plan is a small TOML file."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, get_args

from iccld.config import Method, TrainConfig, cache_changes_images, from_dict, to_dict, with_settings
from iccld.documents import Length, Range, build, read_toml
from iccld.errors import InputError
from iccld.labels import suggest
from iccld.presets import get_preset, with_method
from iccld.unread import refuse_unread, unread_settings

# What changes no figure, or only where files lie, is no part of what a run is.
_NEUTRAL = {
    "checkpoint_every": 500,
    "checkpoint_minutes": 10.0,
    "keep_checkpoints": 1,
    "log_every": 20,
    "eval_every": 0,
    "eval_images": 0,
    "trackers": ["csv", "tensorboard"],
    "stop_at": None,
    "device": "auto",
    "threads": 0,
    "data.num_workers": 1,
    "data.scene_cache": None,
    "data.source_root": None,
    "data.target_root": None,
}

# The values that older records stand for where they do not name a setting.
_DEFAULTS = from_dict({"adaptation": {}})

# Settings younger than folders that are there: a run that was interrupted is to be found again.
_YOUNGER = (
    ("data", "cache"),
    ("data", "source_stretch"),
    ("data", "cat_max_ratio"),
    ("model", "light_steps"),
    ("adaptation", "class_color_transfer"),
)


_Title = Annotated[str, Length(200)]
_Settings = Annotated[Mapping[str, Any], Length(200)]
_Predictions = Annotated[
    tuple[tuple[Annotated[int, Range(1, 1000)], Annotated[int, Range(1, 1000)]], ...], Length(50)
]


@dataclass(frozen=True)
class Task:
    """A transfer to be learned.

    Attributes:
        preset: the run that it starts from.
        title: for tables.
        settings: changes to it, by dotted name.
        name: its key in the plan.
    """

    preset: str
    title: _Title = ""
    settings: _Settings = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Variant:
    """A method with its switches.

    Attributes:
        method: as ``iccld train --method`` has it, with its recipe.
        title: for tables.
        settings: further changes, by dotted name.
        predictions: (sampling steps, noise draws) that the trained model is measured with; the first is its score.
        tasks: names of the tasks that it is run on; all if empty.
        published: mIoU of the method on GTA5 → Cityscapes in its paper, in percent; None where there is none.
        name: its key in the plan.
    """

    method: str
    title: _Title = ""
    settings: _Settings = field(default_factory=dict)
    predictions: _Predictions = ()
    tasks: tuple[str, ...] = ()
    published: Annotated[float, Range(0, 100)] | None = None
    name: str = ""


@dataclass(frozen=True)
class Run:
    """One training of a plan."""

    plan: str
    task: Task
    variant: Variant
    seed: int
    config: TrainConfig

    @property
    def name(self) -> str:
        """``task/variant/seed``."""
        return f"{self.task.name}/{self.variant.name}/{self.seed}"

    @property
    def folder(self) -> str:
        """Where it trains, below the work folder: another name as soon as a setting changes."""
        plain = to_dict(identity(self.config))
        # Younger than folders that are there: a run that was interrupted is to be found again.
        del plain["trackers"], plain["checkpoint_minutes"], plain["eval_images"]
        fresh = to_dict(_DEFAULTS)
        for group, name in _YOUNGER:
            if plain[group][name] == fresh[group][name]:
                del plain[group][name]
        settings = json.dumps(plain, sort_keys=True)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
        return f"{self.plan}/{self.task.name}/{self.variant.name}-seed{self.seed}-{digest}"


@dataclass(frozen=True)
class Plan:
    """A whole bench: every variant, in the order of the tables, on its tasks with every seed.

    Its results lie in a folder of its name.
    """

    name: str
    title: str
    seeds: tuple[int, ...]
    tasks: Mapping[str, Task]
    variants: Mapping[str, Variant]

    def runs(self, only: Sequence[str] = ()) -> list[Run]:
        """All runs, seed by seed, so that an unfinished bench has whole columns.

        Args:
            only: patterns of ``task/variant/seed``, as in the shell; none takes all.

        Raises:
            InputError: a pattern that no run fits.
        """
        runs = [
            Run(self.name, task, variant, seed, _config(task, variant, seed))
            for seed in self.seeds
            for task in self.tasks.values()
            for variant in self.variants.values()
            if task.name in variant.tasks
        ]
        for pattern in only:
            if not any(fnmatch.fnmatch(run.name, pattern) for run in runs):
                raise InputError(
                    f"--only {pattern} fits no run; patterns are TASK/VARIANT/SEED, such as {runs[0].name} or */iccld/*"
                )
        return [run for run in runs if not only or any(fnmatch.fnmatch(run.name, p) for p in only)]


def read_plan(path: Path) -> Plan:
    """Reads a plan.

    Raises:
        InputError: no such file, no TOML, or a part that is missing, unknown or cannot work.
    """
    content = build(_Content, read_toml(path), str(path), thing="entry")
    try:
        plan = _plan(content, path.stem)
        if not plan.runs():
            raise ValueError("has no runs: give seeds, tasks and variants")
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return plan


@dataclass(frozen=True)
class _Content:
    """A plan as it is written."""

    seeds: Annotated[tuple[Annotated[int, Range(0, 2**31)], ...], Length(100)]
    tasks: Annotated[Mapping[Annotated[str, Length(100)], Task], Length(100)]
    variants: Annotated[Mapping[Annotated[str, Length(100)], Variant], Length(100)]
    title: _Title = ""
    predictions: _Predictions = ((1, 1),)


def _plan(content: _Content, name: str) -> Plan:
    tasks = {key: replace(task, name=key, title=task.title or key) for key, task in content.tasks.items()}
    variants = {}
    for key, entry in content.variants.items():
        if entry.method not in get_args(Method):
            known = suggest(entry.method, get_args(Method))
            raise ValueError(f"variant {key}: unknown method {entry.method!r}; {known}")
        predictions = entry.predictions or content.predictions
        if not predictions:
            raise ValueError(f"variant {key} measures nothing: give predictions, such as [[1, 1]]")
        strange = sorted(set(entry.tasks) - tasks.keys())
        if strange:
            raise ValueError(f"variant {key} names the task {strange[0]!r}, which the plan does not have")
        of_tasks = entry.tasks or tuple(tasks)
        variants[key] = replace(
            entry, name=key, title=entry.title or key, predictions=predictions, tasks=of_tasks
        )
    return Plan(name, content.title or name, content.seeds, tasks, variants)


def _config(task: Task, variant: Variant, seed: int) -> TrainConfig:
    config = with_settings(get_preset(task.preset).config, task.settings)
    config = with_settings(with_method(config, variant.method), variant.settings)
    refuse_unread(config, variant.settings)
    return replace(config, seed=seed)


def identity(config: TrainConfig) -> TrainConfig:
    """What a run is: the settings that change its figures, all others at fixed values.

    Two runs with the same identity are the same run, whatever plan they stand in and wherever the data lie. Settings
    that the method does not read are put aside too: a change of their defaults leaves results valid.
    """
    config = with_settings(config, _NEUTRAL)
    # Where a cache lies is nobody's business; that images are resampled twice is.
    used = "used" if cache_changes_images(config.data) else None
    config = replace(config, data=replace(config.data, cache=used))
    return with_settings(config, {name: attrgetter(name)(_DEFAULTS) for name in unread_settings(config)})
