"""Checks of settings, paths, data and memory before a run starts or resumes, and the summary that is then printed."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from iccld.commands.flags import check_values
from iccld.config import DATA_FOLDERS, TrainConfig, read_settings
from iccld.documents import read_json
from iccld.errors import InputError
from iccld.files import in_bytes, write_json
from iccld.machine import free_memory, own_memory
from iccld.methods import METHODS
from iccld.outputs import REPORT, RUN, Places, steps_done
from iccld.plugins import Kind, find_class, import_class, is_reference
from iccld.unread import cache_changes_images, changed_settings, refuse_unread

if TYPE_CHECKING:
    from iccld.run_data import RunData
    from iccld.training.loop import Trainer
    from iccld.training.rehearsal import Estimate

DATA = "data.json"
"""Name of the file in a run's folder that identifies the run's data sets (see ``iccld.data.identity``)."""

# Settings that may be changed when a run is resumed, because they do not change its results.
_FREE = {
    *("stop_at", "checkpoint_every", "checkpoint_minutes", "keep_checkpoints", "log_every", "eval_every"),
    *("eval_images", "device", "threads", "trackers", "data.num_workers", "data.scene_cache"),
}

_MARGIN = 1.3
"""Factor by which the memory estimate may exceed the available memory, because the estimate can be wrong (by 15 % on
CPUs, docs/performance.md)."""


def check_config(config: TrainConfig) -> None:
    """Raises ``InputError`` for invalid settings. The message names the flag and the allowed values."""
    check_values(config)
    d, m, a = config.data, config.model, config.adaptation
    if d.ignore_top + d.ignore_bottom >= 1:
        raise InputError("--data.ignore-top and --data.ignore-bottom leave nothing; give a sum below 1")
    if d.scale[0] > d.scale[1]:
        raise InputError(f"--data.scale is {d.scale[0]} {d.scale[1]}; give a range of factors, low first")
    if m.diffusion and a.denoising_weight == 0 and a.reconstruction_weight == 0:
        raise InputError(
            "--model.diffusion needs a label coder that learns: give --adaptation.denoising-weight or "
            "--adaptation.reconstruction-weight above 0, or --model.no-diffusion"
        )
    if d.source_weights and len(d.source_weights) != len(d.sources):
        given = f"{len(d.source_weights)} weights for {len(d.sources)} sources"
        raise InputError(
            f"--data.source-weights gives {given}; give one for each, in the order of the sources"
        )
    if config.method in ("dacs", "daformer", "mic") and a.mixing == "none":
        give = "give --adaptation.mixing classmix or cutmix"
        raise InputError(f"--method {config.method} learns from mixed images: {give}")


def refuse_ignored(chosen: TrainConfig, default: TrainConfig, named: Iterable[str]) -> None:
    """Imports the classes of other packages that the user chose, and checks that the run reads the chosen settings.

    ``named`` are the dotted names of the settings that the user gave. Settings that differ from ``default`` also count
    as chosen. Raises ``InputError`` for the first chosen setting that the run would not read.
    """
    chosen_classes: tuple[tuple[Kind, str], ...] = (
        ("method", chosen.method),
        ("backbone", chosen.model.backbone),
        ("dataset", chosen.data.source),
        ("dataset", chosen.data.target),
    )
    for kind, name in chosen_classes:
        if is_reference(name):
            import_class(kind, name)
    refuse_unread(chosen, [*named, *changed_settings(chosen, default)])


def with_rank_batch(config: TrainConfig) -> TrainConfig:
    """Returns the settings with the batch size of a rank that follows from ``data.global_batch``, if that is set.

    Raises ``InputError`` if the global batch cannot be divided among the ranks of ``torchrun`` and micro-batches.
    """
    total, ranks = config.data.global_batch, int(os.environ.get("WORLD_SIZE", "1"))
    parts = ranks * config.optim.accumulation
    if total % parts:
        of = f"{ranks} ranks × {config.optim.accumulation} micro-batches"
        raise InputError(f"--data.global-batch {total}: cannot be divided by {parts} ({of}); give a multiple")
    return replace(config, data=replace(config.data, batch_size=total // parts)) if total else config


def is_first_rank() -> bool:
    """Returns whether this process is the only process of its run, or the first rank of ``torchrun``."""
    return os.environ.get("RANK", "0") == "0"


def data_folders(config: TrainConfig) -> list[str]:
    """Returns the folders of data that the settings name."""
    d = config.data
    return [f for f in (*(s.source_root for s in d.sources), d.target_root, d.target_labeled) if f]


def check_places(config: TrainConfig, out: Path, json: Path | None) -> None:
    """Checks the run's folder, the cache folders and the JSON file.

    Raises ``InputError`` if one of these outputs lies in a data folder, contains a data folder or would replace an
    input.
    """
    d, m = config.data, config.model
    caches = {"--data.cache": d.cache, "--data.scene-cache": d.scene_cache}
    Places(
        files={"--json": (json, "json")},
        folders={"--out": out, **{flag: Path(name) for flag, name in caches.items() if name is not None}},
        data=[root for root in data_folders(config) if os.path.exists(root)],
        models=[m.pretrained, m.backbone.removeprefix("auto:"), m.init],
    ).check()


def is_finished(config: TrainConfig, out: Path) -> bool:
    """Returns whether a folder contains a finished run. Also checks that the run has the settings of ``config``.

    If the folder contains neither a checkpoint nor a model yet, the settings are not checked.

    Raises:
        InputError: The run has other settings, or has done more steps than ``config`` requests.
    """
    if not (out / RUN).exists():
        return False
    earlier = read_settings(out / RUN, remedy="choose another --out")
    done = steps_done(out)
    has_model = (out / "model.safetensors").is_file()
    if not done and not has_model:
        return False
    free = _FREE | {"steps"}
    if cache_changes_images(config.data) == cache_changes_images(earlier.data):
        free.add("data.cache")
    # With a global batch, the images of a step do not depend on the number of ranks, except for labeled target images.
    if config.data.global_batch and config.data.target_labeled is None:
        free |= {"data.batch_size", "optim.accumulation"}
    if (out / DATA).is_file():  # data.json identifies the data sets, so the folders may change
        free |= {f"data.{name}" for name in DATA_FOLDERS}
        if len(earlier.data.sources) != len(config.data.sources):
            free.remove("data.more_sources")
    differing = [name for name in changed_settings(earlier, config) if name not in free]
    if differing:
        name = min(
            differing, key=lambda name: name != "method"
        )  # the message names one setting: the method, if it differs
        change = f"{name} was {attrgetter(name)(earlier)}, now {attrgetter(name)(config)}"
        remedy = "choose another --out, or the same settings to resume"
        raise InputError(f"{out}: holds a run with other settings ({change}); {remedy}")
    if done > config.steps:
        has = f"has {done} steps already, more than --steps {config.steps}"
        raise InputError(f"{out}: {has}; choose another --out")
    if done and earlier.steps != config.steps:
        what = "learning rate and start of the adaptation follow the new length from here on"
        change = f"was begun for {earlier.steps} steps, now {config.steps}"
        print(f"warning: {out} {change}: {what}", file=sys.stderr)
    # The report is written last. If it is missing, the run was killed before all files were written.
    return done >= config.steps and has_model and (out / REPORT).is_file()


def check_data(out: Path, data: RunData) -> None:
    """Checks that a run has the same data sets as at its start, and writes their descriptions to ``data.json``.

    If a data set has the same content but another folder, both folders are printed.

    Raises:
        InputError: The data sets differ. The message names the first difference.
    """
    from iccld.data.identity import first_difference, role_title

    now = data.describe()
    path = out / DATA
    has_progress = bool(steps_done(out)) or (out / "model.safetensors").is_file()
    before = read_json(path, remedy="choose another --out") if path.is_file() and has_progress else {}
    if not isinstance(before, dict):
        raise InputError(f"{path}: is no record of data; choose another --out")
    what = first_difference(before, now)
    if what is not None:
        remedy = "give the data of this run, or choose another --out"
        raise InputError(f"{out}: was begun with other data: {what}; {remedy}")
    for role, facts in now.items():
        earlier = before.get(role)
        if isinstance(earlier, dict) and earlier.get("root") != facts["root"]:
            places = f"{facts['root']} now, before in {earlier.get('root')}"
            print(f"the {role_title(role)} lie in {places}; they are the same")
    if now != before:
        write_json(path, {**before, **now})


def estimate_memory(trainer: Trainer) -> Estimate:
    """Estimates the peak memory of a training step.

    Raises:
        InputError: The estimate is more than 1.3 times the memory that is available to the process.
    """
    from iccld.progress import busy
    from iccld.training.rehearsal import estimate_step

    config, fabric = trainer.config, trainer.fabric
    with fabric.autocast(), busy("estimating memory"):
        estimate = estimate_step(
            trainer.update.model,
            batch_size=config.data.batch_size,
            num_branches=num_branches_of(config),
            crop=config.data.crop,
        )
    if fabric.device.type == "cuda":
        import torch

        limit: float = torch.cuda.get_device_properties(fabric.device).total_memory
    else:
        free = free_memory()
        # The estimate includes the memory that the process already uses. The limit must therefore include it too.
        limit = math.inf if free is None else free + own_memory()
    if estimate.peak_bytes > _MARGIN * limit:
        raise InputError(
            f"this run needs about {in_bytes(estimate.peak_bytes)} of memory, and this process can have "
            f"{in_bytes(int(limit))}; lower --data.batch-size (--optim.accumulation makes up for it) or --data.crop"
        )
    return estimate


def announce(trainer: Trainer, data: RunData, estimate: Estimate) -> None:
    """Prints a summary of the run, and a warning on stderr if the run has no evaluation images."""
    from iccld.progress import format_seconds

    config, fabric, start = trainer.config, trainer.fabric, trainer.step
    d, target, few, val = config.data, data.target, data.target_labeled, data.val
    sources = [f"{len(source)} images of {source.name}" for source in data.sources]
    branches = num_branches_of(config)
    of_branches = f"{branches} branch{'es' * (branches > 1)}"
    ranks = f", {fabric.world_size} ranks" if fabric.world_size > 1 else ""
    begun = f"{start} → " if start else ""
    rows = {
        "run": f"{trainer.preset}, method {config.method}, seed {config.seed} → {trainer.out}",
        "labeled": f"{' and '.join(sources)}, {len(data.label_space)} classes",
        "target": f"{len(target)} images of {target.name}, unlabeled" if target else "not used",
        **({"also labeled": f"{len(few)} images of the target"} if few else {}),
        "evaluation": f"{len(val)} images of {val.name}" if val else f"none ({data.missing_val})",
        "model": f"{config.model.backbone}, {estimate.num_parameters / 1e6:.1f} M parameters",
        "batch": f"{d.batch_size} per branch at {d.crop[0]}×{d.crop[1]}, {of_branches}{ranks}",
        "device": f"{fabric.device}, {'bf16' if 'bf16' in str(fabric._precision.precision) else 'fp32'}",
        "threads": trainer.rehearse().threads,
        "peak memory": f"about {estimate.peak_bytes / 2**30:.1f} GiB",
        "steps": f"{begun}{config.steps}, about {format_seconds(trainer.outlook().seconds_left())}",
    }
    print("\n".join(f"{name:>12}: {value}" for name, value in rows.items()), flush=True)
    if data.val is None:
        what = f"nothing is evaluated in this run ({data.missing_val}); it trains and saves its model all the same"
        print(f"iccld: warning: {what}", file=sys.stderr)
    if start:
        print(f"resuming from step {start}", flush=True)


def num_branches_of(config: TrainConfig) -> int:
    """Returns the number of image batches that the student processes per step after the start of the adaptation."""
    a = config.adaptation
    if config.method == "iccld":
        return 1 + (a.mixing != "none") + a.masked + (a.adversarial_weight > 0)
    if config.method in METHODS:
        return {"source_only": 1, "oracle": 1, "mic": 3}.get(config.method, 2)
    from iccld.adaptation.method import Method

    return find_class("method", config.method, Method).num_branches
