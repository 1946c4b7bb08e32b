"""``iccld data cache PRESET``: decodes and resizes the training images of a run once and stores them on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from iccld.commands.flags import JsonFile, Threads
from iccld.commands.output import human_text, print_usage, write_result
from iccld.commands.train import parse_run
from iccld.commands.train_checks import check_config
from iccld.config import TrainConfig
from iccld.errors import InputError
from iccld.machine import usable_cores

_USAGE = """\
usage: iccld data cache PRESET --data.cache FOLDER [flags of iccld train PRESET]

Decodes and resizes the images and labels that `iccld train` with the same flags trains on, once, so that every epoch
only cuts crops out of them. Training with --data.cache does the same as it goes; this does it beforehand, on all cores.

example:
  iccld data cache gta5_to_cityscapes --data.source-root GTA5 --data.target-root CITYSCAPES --data.cache /fast/cache
"""


@dataclass(frozen=True)
class DataCacheArgs(TrainConfig):
    """Flags of ``iccld data cache``: all settings of the run, the number of processes and the JSON file."""

    jobs: Threads = 0
    """Number of images that are decoded in parallel. 0 means one per core."""
    json: JsonFile = None
    """JSON file for a list of the caches, each with its folder and its number of images."""


def main(rest: Sequence[str]) -> int:
    """Runs ``iccld data cache`` with the given command-line arguments and returns the exit code."""
    if not rest or rest[0].startswith("-"):
        return print_usage(_USAGE, asked=rest[:1] in (["-h"], ["--help"]))
    description = "Decodes and resizes the training images of a run once, to disk. " + " ".join(
        _USAGE.split("example:\n  ")[1].split()
    )
    args, config = parse_run(DataCacheArgs, rest, prog=f"iccld data cache {rest[0]}", description=description)
    if config.data.cache is None:
        raise InputError("--data.cache is missing; give the folder that is to keep the decoded images")
    with human_text(args.json):
        done = fill_caches(config, rest[0], args.jobs or usable_cores())
        print(f"train with the same flags: iccld train {rest[0]} … --data.cache {config.data.cache}")
    write_result(args.json, {"caches": done})
    return 0


def fill_caches(config: TrainConfig, preset: str, jobs: int) -> list[dict[str, Any]]:
    """Decodes the missing images of a run's caches, ``jobs`` at a time, and returns a summary of each cache.

    Raises:
        InputError: Settings or data are invalid, there is nothing to cache, or the disk has too little space.
    """
    from iccld.build import build_caches, build_method
    from iccld.data.cache import check_room
    from iccld.run_data import build_label_space

    check_config(config)
    caches = build_caches(config, build_method(config, build_label_space(config.data)))
    if not caches:
        raise InputError(
            f"preset {preset}: trains on no data set of files; generated scenes have --data.scene-cache"
        )
    check_room(caches)  # checked for all caches before an hour is spent on the first cache
    done = []
    for cache in caches:
        todo = len(cache.missing())
        of = f"{cache.name}: {todo} of {len(cache)} images to decode"
        print(f"{of}, about {cache.bytes_for(todo) / 1e9:.2f} GB: {cache.folder}", flush=True)
        facts = {"data_set": cache.name, "folder": str(cache.folder), "images": len(cache)}
        done.append(facts | {"written": cache.fill(jobs)})
    return done
