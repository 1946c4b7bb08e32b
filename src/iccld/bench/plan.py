"""Plans of the bench. A plan is a TOML file with seeds, tasks and variants. A variant is a method with settings."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

from iccld.config import TrainConfig, from_dict, to_dict, with_settings
from iccld.documents import Length, Range, build, read_toml
from iccld.errors import InputError
from iccld.labels import suggest
from iccld.methods import METHODS
from iccld.plugins import is_outside
from iccld.presets import get_preset, with_method
from iccld.unread import cache_changes_images, refuse_unread, unread_settings

# Settings that do not change results, for example because they only name folders. ``identity`` replaces these settings
# by the values below, so that runs that differ only in these settings count as the same run.
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

# Defaults of all settings. Older results lack the settings in ``iccld.config._BEFORE``. The defaults of these settings
# are therefore the values that reproduce the older results.
_DEFAULTS = from_dict({"adaptation": {}})

# Settings that were added when run folders already existed. The hash in the name of a run's folder never includes the
# settings in ``_NOT_HASHED``. The hash includes the settings in ``_HASHED_IF_CHANGED`` only if they differ from their
# defaults. The folders of older, interrupted runs are therefore still found.
_NOT_HASHED = ("trackers", "checkpoint_minutes", "eval_images")
_HASHED_IF_CHANGED = (
    ("data", "cache"),
    ("data", "global_batch"),
    ("data", "source_stretch"),
    ("data", "cat_max_ratio"),
    ("data", "photometric"),
    ("data", "target_labeled"),
    ("data", "more_sources"),
    ("data", "source_weights"),
    ("model", "init"),
    ("model", "light_steps"),
    ("adaptation", "class_color_transfer"),
)

_Title = Annotated[str, Length(200)]
_Settings = Annotated[Mapping[str, Any], Length(200)]
_Count = Annotated[int, Range(1, 1000)]
_Predictions = Annotated[tuple[tuple[_Count, _Count], ...], Length(50)]


@dataclass(frozen=True)
class Task:
    """Adaptation task: a source data set and a target data set.

    ``preset`` is the name of a preset. ``settings`` are changes to the preset (dotted name → value). ``title`` is the
    title in tables, and ``name`` is the task's key in the plan file.
    """

    preset: str
    title: _Title = ""
    settings: _Settings = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Variant:
    """Method with its settings. Each variant is one row of the tables.

    Attributes:
        method: Name of the method, as in ``iccld train --method``. The method's recipe is applied before ``settings``.
        title: Title in tables.
        settings: Changed settings (dotted name → value).
        predictions: Pairs (sampling steps, noise draws) with which the trained model is evaluated. The first pair gives
            the mIoU of the run.
        tasks: Names of the tasks on which the variant is trained. By default, these are all tasks of the plan.
        published: Published mIoU of the method on GTA5 → Cityscapes in percent.
        name: The variant's key in the plan file.
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
    """One training run of a plan: a variant on a task with a seed."""

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
        """Folder of the run in the work folder. The name ends with a hash of the settings that change results."""
        plain, defaults = to_dict(identity(self.config)), to_dict(_DEFAULTS)
        for name in _NOT_HASHED:
            del plain[name]
        for group, name in _HASHED_IF_CHANGED:
            if plain[group][name] == defaults[group][name]:
                del plain[group][name]
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.plan}/{self.task.name}/{self.variant.name}-seed{self.seed}-{digest}"


@dataclass(frozen=True)
class Plan:
    """A plan: every variant is trained on the tasks that the variant names, with every seed.

    Tables list the variants in the order of the plan file.
    Results are stored in a folder that has the plan's name.
    """

    name: str
    title: str
    seeds: tuple[int, ...]
    tasks: Mapping[str, Task]
    variants: Mapping[str, Variant]

    def runs(self, only: Sequence[str] = ()) -> list[Run]:
        """Returns the runs, ordered by seed, so that an unfinished bench has results of all methods for some seeds.

        ``only`` contains shell glob patterns for the names of the runs, ``task/variant/seed``. If ``only`` is empty,
        all runs are returned. Raises ``InputError`` if a pattern does not match any run.
        """
        runs = [
            Run(self.name, task, variant, seed, _config(task, variant, seed))
            for seed in self.seeds
            for task in self.tasks.values()
            for variant in self.variants.values()
            if task.name in variant.tasks
        ]
        names = [run.name for run in runs]
        matches = [fnmatch.filter(names, pattern) for pattern in only]
        if [] in matches:
            pattern = only[matches.index([])]
            raise InputError(
                f"--only {pattern} fits no run; patterns are TASK/VARIANT/SEED, such as {names[0]} or */iccld/*"
            )
        return [run for run in runs if not only or any(run.name in found for found in matches)]


def read_plan(path: Path) -> Plan:
    """Reads a plan from a TOML file. Raises ``InputError`` if the file or a part of the plan is missing or invalid."""
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
    seeds: Annotated[tuple[Annotated[int, Range(0, 2**31)], ...], Length(100)]
    tasks: Annotated[Mapping[Annotated[str, Length(100)], Task], Length(100)]
    variants: Annotated[Mapping[Annotated[str, Length(100)], Variant], Length(100)]
    title: _Title = ""
    predictions: _Predictions = ((1, 1),)


def _plan(content: _Content, name: str) -> Plan:
    tasks = {key: replace(task, name=key, title=task.title or key) for key, task in content.tasks.items()}
    variants = {}
    for key, entry in content.variants.items():
        if entry.method not in METHODS and not is_outside("method", entry.method):
            known = suggest(entry.method, list(METHODS))
            raise ValueError(f"variant {key}: unknown method {entry.method!r}; {known}")
        predictions = entry.predictions or content.predictions
        if not predictions:
            raise ValueError(f"variant {key} measures nothing: give predictions, such as [[1, 1]]")
        strange = sorted(set(entry.tasks) - tasks.keys())
        if strange:
            raise ValueError(f"variant {key} names the task {strange[0]!r}, which the plan does not have")
        named = replace(entry, name=key, title=entry.title or key)
        variants[key] = replace(named, predictions=predictions, tasks=entry.tasks or tuple(tasks))
    return Plan(name, content.title or name, content.seeds, tasks, variants)


def _config(task: Task, variant: Variant, seed: int) -> TrainConfig:
    config = with_settings(get_preset(task.preset).config, task.settings)
    config = with_settings(with_method(config, variant.method), variant.settings)
    refuse_unread(config, variant.settings)
    return replace(config, seed=seed)


def identity(config: TrainConfig) -> TrainConfig:
    """Returns the identity of a run: its settings, with fixed values for all settings that do not change results.

    Runs with equal identity count as the same run, even if their plans or the folders of their data differ. Settings
    that the method does not read are replaced by their present defaults, in plans and in results. A result therefore
    stays valid if such a default changes.
    """
    config = with_settings(config, _NEUTRAL)
    # The folder of a cache does not change results. The use of a cache can change results (see
    # ``cache_changes_images``). Of the folders of labeled target images and further sources, only the name counts.
    used = "used" if cache_changes_images(config.data) else None
    labeled = config.data.target_labeled and Path(config.data.target_labeled).name
    more = tuple(Path(source).name for source in config.data.more_sources)
    config = replace(config, data=replace(config.data, cache=used, target_labeled=labeled, more_sources=more))
    return with_settings(config, {name: attrgetter(name)(_DEFAULTS) for name in unread_settings(config)})
