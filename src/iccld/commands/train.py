"""``iccld train PRESET`` and ``iccld data cache PRESET``. The flags of both commands change settings of the preset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

from tyro.conf import arg

from iccld.commands import train_checks as checks
from iccld.commands.flags import Jobs, JsonFile, ShardFlag, parse
from iccld.commands.output import human_text, print_usage, write_result
from iccld.commands.training import train
from iccld.config import TrainConfig
from iccld.errors import InputError
from iccld.exits import OUTCOMES
from iccld.machine import usable_cores
from iccld.methods import METHODS
from iccld.presets import PRESETS, get_preset, with_method
from iccld.shards import WHOLE, Shard, parse_shard
from iccld.unread import typed_settings

_USAGE = """\
usage: iccld train PRESET --out RUN [flags]

Trains a run. The same command again resumes it, or says that it is finished.

presets (see `iccld presets`):
{presets}

example:
  iccld train scenes_to_camvid --data.target-root data/camvid --out runs/camvid --steps 1500 --seed 0
  iccld train PRESET --help     every flag, with the preset's value
"""
_CACHE_EXAMPLE = """\
  iccld data cache gta5_to_cityscapes --data.source-root GTA5 --data.target-root CITYSCAPES --data.cache /fast/cache
"""
_CACHE_USAGE = f"""\
usage: iccld data cache PRESET --data.cache FOLDER [flags of iccld train PRESET]

Decodes and resizes the images and labels that `iccld train` with the same flags trains on, once, so that every epoch
only cuts crops out of them. Training with --data.cache does the same as it goes; this does it beforehand, on all cores.

example:
{_CACHE_EXAMPLE}"""


@dataclass(frozen=True)
class TrainArgs(TrainConfig):
    """Flags of ``iccld train``: the run's folder, the JSON file, and every setting."""

    out: Path | None = None
    """Folder of the run. The default is runs/PRESET."""
    json: JsonFile = None
    """JSON file for the outcome (such as finished or interrupted) and the last metrics of the run."""


@dataclass(frozen=True)
class DataCacheArgs(TrainConfig):
    """Flags of ``iccld data cache``: all settings of a training run, parallel decoding and the JSON file."""

    jobs: Jobs = 0
    """Number of images that are decoded in parallel. 0 means one image per core."""
    shard: ShardFlag = None
    """Decode only part I of N parts of the images. A hash of an image's name decides its part."""
    json: JsonFile = None
    """JSON file for a list of the caches, with the folder and the number of images of each cache."""


Args = TypeVar("Args", bound=TrainConfig)


def main(rest: Sequence[str]) -> int:
    """Runs ``iccld train`` with the given command-line arguments and returns the exit code."""
    if not rest or rest[0].startswith("-"):
        listing = "\n".join(f"  {name:<22} {preset.summary}" for name, preset in PRESETS.items())
        return print_usage(_USAGE.format(presets=listing), asked=rest[:1] in (["-h"], ["--help"]))
    name = rest[0]
    about = f"{get_preset(name).summary}. Example: {get_preset(name).command}"
    return run_preset(name, get_preset(name).config, rest[1:], program=f"iccld train {name}", about=about)


def run_preset(name: str, config: TrainConfig, flags: Sequence[str], *, program: str, about: str) -> int:
    """Trains a preset, writes the JSON file if there is one, and returns the exit code. See ``parse_run``."""
    args, chosen = parse_run(TrainArgs, config, flags, program, about)
    out = args.out or Path("runs") / name
    with human_text(args.json):
        outcome = train(chosen, out, preset=name, json=args.json)
    if args.json is not None and checks.is_first_rank():
        write_result(args.json, _result(chosen, out, name, outcome))
    return OUTCOMES[outcome]


def main_cache(rest: Sequence[str]) -> int:
    """Runs ``iccld data cache`` with the given command-line arguments and returns the exit code."""
    if not rest or rest[0].startswith("-"):
        return print_usage(_CACHE_USAGE, asked=rest[:1] in (["-h"], ["--help"]))
    name = rest[0]
    about = f"Decodes and resizes the training images of a run once, to disk. {_CACHE_EXAMPLE.strip()}"
    preset = get_preset(name).config
    args, config = parse_run(DataCacheArgs, preset, rest[1:], f"iccld data cache {name}", about)
    if config.data.cache is None:
        raise InputError("--data.cache is missing; give the folder that is to keep the decoded images")
    shard = WHOLE if args.shard is None else parse_shard(args.shard)
    with human_text(args.json):
        done = fill_caches(config, name, args.jobs or usable_cores(), shard)
        print(f"train with the same flags: iccld train {name} … --data.cache {config.data.cache}")
    write_result(args.json, {"caches": done})
    return 0


def parse_run(
    shape: type[Args], config: TrainConfig, flags: Sequence[str], program: str, about: str
) -> tuple[Args, TrainConfig]:
    """Parses flags that change settings.

    Args:
        shape: Dataclass of all flags: a subclass of ``TrainConfig`` with the command's own flags.
        config: Settings before the change. If ``--method`` is among the flags, the method's own settings (recipe)
            replace settings in ``config``.
        flags: Command-line arguments.
        program: Command before the flags, for ``--help``.
        about: Description in ``--help``.

    Returns:
        An instance of ``shape``, and the same settings as a ``TrainConfig`` without the command's own flags.

    Raises:
        InputError: A flag is invalid or would be ignored by the run.
    """
    method = last_value(flags, "--method")
    if method is not None and method in METHODS:
        config = with_method(config, method)
    default = shape(**{f: getattr(config, f) for f in TrainConfig.__dataclass_fields__})
    shaped = Annotated[shape, arg(name="")]  # type: ignore[valid-type]
    args: Any = parse(shaped, flags, prog=program, default=default, description=about)
    chosen = TrainConfig(**{f: getattr(args, f) for f in TrainConfig.__dataclass_fields__})
    checks.refuse_ignored(chosen, config, typed_settings(flags))
    return args, chosen


def last_value(flags: Sequence[str], name: str) -> str | None:
    """Returns the last value of a flag in ``--flag value`` or ``--flag=value``, or ``None`` if there is none."""
    words = [word for flag in flags for word in flag.split("=", 1)]
    values = [after for word, after in pairwise(words) if word == name]
    return values[-1] if values else None


def _result(config: TrainConfig, out: Path, preset: str, outcome: str) -> dict[str, Any]:
    """Returns the content of the JSON file: facts about the run, the ``outcome``, and the last step and its metrics."""
    from iccld.training.tracking import read_metrics

    path = out / "metrics.csv"
    rows = read_metrics(path) if path.is_file() else []
    last = {name: float(value) for name, value in rows[-1].items() if name != "step"} if rows else {}
    run = {"run": str(out), "preset": preset, "method": config.method, "seed": config.seed}
    return {**run, "outcome": outcome, "step": int(rows[-1]["step"]) if rows else 0, "figures": last}


def fill_caches(config: TrainConfig, preset: str, jobs: int, shard: Shard = WHOLE) -> list[dict[str, Any]]:
    """Decodes the shard's missing images of a run's caches, ``jobs`` at a time, and returns a summary of each cache.

    Raises ``InputError`` if settings or data are invalid, nothing can be cached, or the disk has too little space.
    """
    from iccld.build import build_caches, build_method
    from iccld.data.cache import check_room
    from iccld.run_data import build_label_space

    checks.check_config(config)
    caches = build_caches(config, build_method(config, build_label_space(config.data)))
    if not caches:
        what = "trains on no data set of files; generated scenes have --data.scene-cache"
        raise InputError(f"preset {preset}: {what}")
    check_room(caches, shard)  # checked for all caches before an hour is spent on the first cache
    done = []
    for cache in caches:
        todo = len(cache.missing(shard))
        of = f"{cache.name}: {todo} of {len(cache)} images to decode"
        print(f"{of}, about {cache.bytes_for(todo) / 1e9:.2f} GB: {cache.folder}", flush=True)
        facts = {"data_set": cache.name, "folder": str(cache.folder), "images": len(cache)}
        done.append(facts | {"written": cache.fill(jobs, shard)})
    return done
