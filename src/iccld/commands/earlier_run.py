"""What an earlier call left in a run's folder, and whether a new one may go on with it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iccld.config import TrainConfig, cache_changes_images, from_dict, to_dict
from iccld.documents import read_json, reason
from iccld.errors import InputError
from iccld.files import write_json

if TYPE_CHECKING:
    from iccld.run_data import RunData

DATA = "data.json"
"""What the run's data sets are, as ``iccld.data.identity`` describes them."""

# May differ between the calls of one run, as may data.num_workers, data.scene_cache and, unless images are scaled at
# random, data.cache: none of them changes a number. Nor do the folders of the data: what they hold is compared instead.
_FREE = (
    "stop_at",
    "checkpoint_every",
    "checkpoint_minutes",
    "keep_checkpoints",
    "log_every",
    "eval_every",
    "eval_images",
    "device",
    "threads",
    "trackers",
)


REPORT = "report.html"
"""The page of a run, the last file that training writes."""


def is_finished(config: TrainConfig, out: Path) -> bool:
    """Checks that a folder's earlier run, if any, had the same settings; tells whether it is finished already.

    A run that has saved nothing yet may begin anew with others.

    Raises:
        InputError: it had others, or more steps than are asked for.
    """
    path = out / "run.json"
    if not path.exists():
        return False
    try:
        stored = read_json(path)
        stored.pop("preset", None)
        earlier = from_dict(stored)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read ({reason(error, path)}); choose another --out") from error
    if not _has_progress(out):
        return False
    free = {name: getattr(config, name) for name in (*_FREE, "steps")}
    d = config.data
    same_data = replace(earlier.data, num_workers=d.num_workers, scene_cache=d.scene_cache)
    if cache_changes_images(d) == cache_changes_images(earlier.data):
        same_data = replace(same_data, cache=d.cache)
    if (out / DATA).is_file():
        same_data = replace(same_data, source_root=d.source_root, target_root=d.target_root)
    before, now = to_dict(replace(earlier, data=same_data, **free)), to_dict(config)
    # The method first: others differ with it.
    differing = sorted(
        _flat(before).items() ^ _flat(now).items(), key=lambda item: (item[0] != "method", item)
    )
    if differing:
        flag = differing[0][0]
        raise InputError(
            f"{out}: holds a run with other settings ({flag} was {_flat(before).get(flag)}, "
            f"now {_flat(now).get(flag)}); choose another --out, or the same settings to resume"
        )
    newest = max((out / "checkpoints").glob("step-*.safetensors"), default=None)
    done = int(newest.stem.removeprefix("step-")) if newest else 0
    if earlier.steps != config.steps and newest:
        if done > config.steps:
            raise InputError(
                f"{out}: has {done} steps already, more than --steps {config.steps}; choose another --out"
            )
        print(
            f"warning: {out} was begun for {earlier.steps} steps, now {config.steps}: "
            "learning rate and start of the adaptation follow the new length from here on",
            file=sys.stderr,
        )
    # The report comes last: a run that was killed before it still has pictures to draw.
    return done >= config.steps and (out / "model.safetensors").is_file() and (out / REPORT).is_file()


def _has_progress(out: Path) -> bool:
    return any((out / "checkpoints").glob("step-*.safetensors")) or (out / "model.safetensors").is_file()


def check_data(out: Path, data: RunData) -> None:
    """Compares the data sets of a run with those that it was begun with, and records them.

    Where they are the same and lie elsewhere, the new place is recorded.

    Raises:
        InputError: they differ; says how.
    """
    from iccld.data.identity import ROLES, first_difference

    now = data.describe()
    path = out / DATA
    before = read_json(path, remedy="choose another --out") if path.is_file() and _has_progress(out) else {}
    if not isinstance(before, dict):
        raise InputError(f"{path}: is no record of data; choose another --out")
    what = first_difference(before, now)
    if what is not None:
        raise InputError(
            f"{out}: was begun with other data: {what}; give the data of this run, or choose another --out"
        )
    for role, facts in now.items():
        earlier = before.get(role)
        if isinstance(earlier, dict) and earlier.get("root") != facts["root"]:
            print(
                f"the {ROLES[role]} lie in {facts['root']} now, before in {earlier.get('root')}; they are the same"
            )
    if now != before:
        write_json(path, {**before, **now})


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(value, dict):
        return {prefix: str(value)}
    flat: dict[str, str] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else key)
    return flat
