"""Plans of the bench: small TOML files with methods and switches, tasks, and seeds."""

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

# Fixed values of settings that are not part of a run's identity, because they do not change results or only name
# folders.
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

# Values of settings that are missing in older records.
_DEFAULTS = from_dict({"adaptation": {}})

# Settings that are newer than existing run folders. At their default, they are left out of the folder's name, so that
# interrupted runs are still found.
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
    """Adaptation task: a source and a target with their settings.

    Attributes:
        preset: Name of the preset that the task starts from.
        title: Title in tables.
        settings: Changes to the preset, by dotted name.
        name: Key of the task in the plan.
    """

    preset: str
    title: _Title = ""
    settings: _Settings = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Variant:
    """Method with its settings.

    Attributes:
        method: Method name as in ``iccld train --method``, which includes the recipe.
        title: Title in tables.
        settings: Further changes, by dotted name.
        predictions: Pairs (sampling steps, noise draws) with which the trained model is evaluated. The first pair gives
            the score.
        tasks: Names of the tasks for this variant. Empty means all tasks.
        published: Published mIoU of the method on GTA5 → Cityscapes in percent, or ``None`` if there is no such value.
        name: Key of the variant in the plan.
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
    """One training of a plan: a variant on a task with a seed."""

    plan: str
    task: Task
    variant: Variant
    seed: int
    config: TrainConfig

    @property
    def name(self) -> str:
        """Name of the run, ``task/variant/seed``."""
        return f"{self.task.name}/{self.variant.name}/{self.seed}"

    @property
    def folder(self) -> str:
        """Folder of the run below the work folder. The name changes with every change of a setting."""
        plain = to_dict(identity(self.config))
        # These settings are newer than existing run folders. Without them in the name, interrupted runs are still
        # found.
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

    The results are in a folder with the name of the plan.
    """

    name: str
    title: str
    seeds: tuple[int, ...]
    tasks: Mapping[str, Task]
    variants: Mapping[str, Variant]

    def runs(self, only: Sequence[str] = ()) -> list[Run]:
        """Returns all runs, ordered by seed, so that an unfinished bench has complete columns for the first seeds.

        Args:
            only: Shell glob patterns for ``task/variant/seed``. Empty means all runs.

        Raises:
            InputError: A pattern does not match any run.
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
    """Reads a plan from a TOML file.

    Raises:
        InputError: The file is missing or not TOML, or a part of the plan is missing, unknown or invalid.
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
    """Content of a plan file."""

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
    """Returns the identity of a run: its settings, with fixed values for all settings that do not change results.

    Runs with equal identity are the same run, independent of their plan and of the location of the data. Settings that
    the method does not read get default values too, so results stay valid if such a default changes.
    """
    config = with_settings(config, _NEUTRAL)
    # The location of a cache does not change results. Random scaling of images from a cache can, because these images
    # were already resized.
    used = "used" if cache_changes_images(config.data) else None
    config = replace(config, data=replace(config.data, cache=used))
    return with_settings(config, {name: attrgetter(name)(_DEFAULTS) for name in unread_settings(config)})
