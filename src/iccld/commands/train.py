"""``iccld train PRESET``: trains a named run; every setting of it can be changed by a flag."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from iccld.commands.arguments import parse
from iccld.commands.flags import JsonFile
from iccld.commands.output import human_text, write_result
from iccld.config import DataConfig, TrainConfig, cache_changes_images, from_dict, to_dict
from iccld.errors import InputError
from iccld.files import write_json
from iccld.presets import PRESETS, RECIPES, get_preset, with_method

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from iccld.build import RunData
    from iccld.models.iccld import ICCLD
    from iccld.training.loop import Trainer

_USAGE = """\
usage: iccld train PRESET --out RUN [flags]

Trains a run. The same command again resumes it, or says that it is finished.

presets (see `iccld presets`):
{presets}

example:
  iccld train scenes_to_camvid --data.target-root data/camvid --out runs/camvid --steps 1500 --seed 0
  iccld train PRESET --help     every flag, with the preset's value
"""

# May differ between the calls of one run, as may data.num_workers, data.scene_cache and, unless images are scaled at
# random, data.cache: none of them changes a number.
_FREE = (
    "stop_at",
    "checkpoint_every",
    "keep_checkpoints",
    "log_every",
    "eval_every",
    "device",
    "threads",
    "trackers",
)


@dataclass(frozen=True)
class TrainArgs(TrainConfig):
    """Flags of ``iccld train``: the run's folder, then every setting."""

    out: Path | None = None
    """The run's folder; runs/PRESET if not given."""
    json: JsonFile = None
    """Where to write how it ended and the last figures."""


Args = TypeVar("Args", bound=TrainConfig)


def main(rest: Sequence[str]) -> int:
    """Runs ``iccld train`` with the words after it; returns the exit code."""
    if not rest or rest[0].startswith("-"):
        wants_help = bool(rest) and rest[0] in ("-h", "--help")
        listing = "\n".join(f"  {name:<22} {preset.summary}" for name, preset in PRESETS.items())
        (sys.stdout if wants_help else sys.stderr).write(_USAGE.format(presets=listing))
        return 0 if wants_help else 2
    name = rest[0]
    description = f"{get_preset(name).summary}. Example: {get_preset(name).command}"
    args, config = parse_run(TrainArgs, rest, prog=f"iccld train {name}", description=description)
    out = args.out or Path("runs") / name
    with human_text(args.json):
        outcome = train(config, out, preset=name)
    if args.json is not None and os.environ.get("RANK", "0") == "0":
        write_result(args.json, _result(config, out, name, outcome))
    if outcome == "interrupted" and not config.stop_at:
        return 130
    return 0


def parse_run(
    shape: type[Args], rest: Sequence[str], *, prog: str, description: str
) -> tuple[Args, TrainConfig]:
    """Reads a preset's name and flags that change its settings.

    Args:
        shape: a dataclass of settings with flags of the command's own.
        rest: the preset, then the flags.
        prog: the command, for messages.
        description: for its help.

    Returns:
        All flags, and the settings among them.

    Raises:
        InputError: no such preset, or a flag that cannot be read.
    """
    import tyro

    config = _with_recipe(get_preset(rest[0]).config, rest[1:])
    default = shape(**{f: getattr(config, f) for f in TrainConfig.__dataclass_fields__})
    shaped = Annotated[shape, tyro.conf.arg(name="")]  # type: ignore[valid-type]
    args: Any = parse(shaped, rest[1:], prog=prog, default=default, description=description)
    return args, TrainConfig(**{f: getattr(args, f) for f in TrainConfig.__dataclass_fields__})


def _result(config: TrainConfig, out: Path, preset: str, outcome: str) -> dict[str, Any]:
    """What a run came to, for ``--json``."""
    from iccld.training.tracking import read_metrics

    path = out / "metrics.csv"
    rows = read_metrics(path) if path.is_file() else []
    last = {name: float(value) for name, value in rows[-1].items() if name != "step"} if rows else {}
    run = {"run": str(out), "preset": preset, "method": config.method, "seed": config.seed}
    return {**run, "outcome": outcome, "step": int(rows[-1]["step"]) if rows else 0, "figures": last}


def _with_recipe(config: TrainConfig, rest: Sequence[str]) -> TrainConfig:
    """A rival's recipe changes the defaults of the other flags, so the method is looked for first."""
    words = [word for flag in rest for word in flag.split("=", 1)]
    named = [after for word, after in pairwise(words) if word == "--method"]
    return with_method(config, named[-1]) if named and named[-1] in RECIPES else config


def train(config: TrainConfig, out: Path, *, preset: str, data: RunData | None = None) -> str:
    """Trains into a folder, or resumes what is there.

    Args:
        config: the settings.
        out: the run's folder.
        preset: where the settings came from, for messages.
        data: data sets that are open already.

    Returns:
        ``finished`` or ``interrupted``.

    Raises:
        InputError: bad data or settings, another run in the folder, a loss that is not finite, a full disk.
    """
    check_config(config)
    finished = _compare_with_earlier(config, out)
    if finished:
        print(f"{out}: finished earlier ({config.steps} steps); nothing to do")
        return "finished"
    from iccld import build
    from iccld.commands.run_report import begin_record
    from iccld.training.loop import Trainer
    from iccld.training.trackers import require_trackers

    require_trackers(config.trackers)
    fabric = build.build_fabric(config)
    # The network first: a mistyped backbone shows before minutes of reading data.
    space = data.label_space if data else build.build_label_space(config.data)
    model = build.build_model(config, space)
    method = build.build_method(config, space)
    data = data or build.build_data(config, method)
    loaders = build.build_loaders(config, data, method, fabric, out / "cache")
    trainer = Trainer(
        config,
        fabric=fabric,
        model=model,
        discriminator=build.build_discriminator(config, method, space),
        method=method,
        loaders=loaders,
        out=out,
        evaluate=build.build_evaluation(config, data),
        preset=preset,
    )
    if fabric.is_global_zero:
        write_json(out / "run.json", {"preset": preset, **to_dict(config)})
        start = trainer.resume()
        begin_record(out, config, start)
        _announce(config, out, preset, data, model, fabric, start)
    fabric.barrier()
    if not fabric.is_global_zero:
        trainer.resume()
    outcome = trainer.run()
    if fabric.is_global_zero:
        _conclude(trainer, outcome, config, out, data)
    return outcome


def check_config(config: TrainConfig) -> None:
    """Refuses settings that cannot work.

    Raises:
        InputError: names the flag and what it takes.
    """
    d, m, o, a = config.data, config.model, config.optim, config.adaptation
    above_zero = {
        "--steps": config.steps,
        "--checkpoint-every": config.checkpoint_every,
        "--log-every": config.log_every,
        "--keep-checkpoints": config.keep_checkpoints,
        "--data.batch-size": d.batch_size,
        "--data.source-count": d.source_count,
        "--data.target-count": d.target_count,
        "--data.val-count": d.val_count,
        "--data.rare-class-temperature": d.rare_class_temperature,
        "--model.latent-channels": m.latent_channels,
        "--model.width": m.width,
        "--optim.accumulation": o.accumulation,
        "--optim.grad-clip": o.grad_clip,
        "--adaptation.teacher-steps": a.teacher_steps,
        "--adaptation.teacher-draws": a.teacher_draws,
        "--adaptation.mask-patch": a.mask_patch,
    }
    not_below_zero = {
        "--seed": config.seed,
        "--eval-every": config.eval_every,
        "--threads": config.threads,
        "--data.num-workers": d.num_workers,
        "--optim.head-lr": o.head_lr,
        "--optim.backbone-lr": o.backbone_lr,
        "--optim.weight-decay": o.weight_decay,
        "--optim.warmup-steps": o.warmup_steps,
        "--optim.poly-power": o.poly_power,
        "--adaptation.adversarial-weight": a.adversarial_weight,
        "--adaptation.discriminator-lr": a.discriminator_lr,
        "--adaptation.denoising-weight": a.denoising_weight,
        "--adaptation.reconstruction-weight": a.reconstruction_weight,
        "--adaptation.color-jitter": a.color_jitter,
        "--adaptation.trust": a.trust,
        "--adaptation.entropy-weight": a.entropy_weight,
        "--adaptation.feature-distance": a.feature_distance,
    }
    shares = {
        "--data.ignore-top": d.ignore_top,
        "--data.ignore-bottom": d.ignore_bottom,
        "--adaptation.start": a.start,
        "--adaptation.adversarial-warmup": a.adversarial_warmup,
        "--adaptation.teacher-decay": a.teacher_decay,
        "--adaptation.threshold": a.threshold,
        "--adaptation.keep": a.keep,
        "--adaptation.color-transfer": a.color_transfer,
        "--adaptation.share-at-one": a.share_at_one,
        "--adaptation.self-aligned": a.self_aligned,
        "--adaptation.mask-ratio": a.mask_ratio,
        "--adaptation.fda-band": a.fda_band,
    }
    for flag, value in above_zero.items():
        if not value > 0:
            raise InputError(f"{flag} is {value}; give a number above 0")
    for flag, value in not_below_zero.items():
        if not value >= 0:
            raise InputError(f"{flag} is {value}; give 0 or more")
    for flag, value in shares.items():
        if not 0 <= value <= 1:
            raise InputError(f"{flag} is {value}; give a share between 0 and 1")
    _check_geometry(d)
    if m.diffusion and a.denoising_weight == 0 and a.reconstruction_weight == 0:
        raise InputError(
            "--model.diffusion needs a label coder that learns: give --adaptation.denoising-weight or "
            "--adaptation.reconstruction-weight above 0, or --model.no-diffusion"
        )
    if config.method in ("dacs", "daformer", "mic") and a.mixing == "none":
        raise InputError(
            f"--method {config.method} learns from mixed images: give --adaptation.mixing classmix or cutmix"
        )
    if config.stop_at is not None and config.stop_at < 1:
        raise InputError(f"--stop-at is {config.stop_at}; give a step, from 1 on")


def _check_geometry(d: DataConfig) -> None:
    if d.ignore_top + d.ignore_bottom >= 1:
        raise InputError(
            "--data.ignore-top and --data.ignore-bottom leave nothing; their sum must be below 1"
        )
    sizes = {"--data.crop": d.crop, "--data.source-size": d.source_size, "--data.target-size": d.target_size}
    for flag, size in sizes.items():
        if size is not None and min(size) < 32:
            raise InputError(f"{flag} is {size[0]} {size[1]}; give at least 32 32")
    low, high = d.scale
    if not 0 < low <= high:
        raise InputError(f"--data.scale is {low} {high}; give a range of positive factors, low first")


def _compare_with_earlier(config: TrainConfig, out: Path) -> bool:
    """Checks that a folder's earlier run had the same settings; tells whether it is finished already."""
    path = out / "run.json"
    if not path.is_file():
        return False
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        stored.pop("preset", None)
        earlier = from_dict(stored)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); choose another --out") from error
    free = {name: getattr(config, name) for name in (*_FREE, "steps")}
    d = config.data
    same_data = replace(earlier.data, num_workers=d.num_workers, scene_cache=d.scene_cache)
    if cache_changes_images(d) == cache_changes_images(earlier.data):
        same_data = replace(same_data, cache=d.cache)
    before, now = to_dict(replace(earlier, data=same_data, **free)), to_dict(config)
    differing = sorted(_flat(before).items() ^ _flat(now).items())
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
    return done >= config.steps and (out / "model.safetensors").is_file()


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(value, dict):
        return {prefix: str(value)}
    flat: dict[str, str] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else key)
    return flat


def _num_branches(config: TrainConfig) -> int:
    """How many batches of images go through the student in a step, once the adaptation has started."""
    a = config.adaptation
    match config.method:
        case "source_only" | "oracle":
            return 1
        case "mic":
            return 3
        case "iccld":
            return 1 + (a.mixing != "none") + a.masked + (a.adversarial_weight > 0)
        case _:
            return 2


def _announce(
    config: TrainConfig, out: Path, preset: str, data: RunData, model: ICCLD, fabric: Fabric, start: int
) -> None:
    """Prints what is about to happen."""
    from iccld.progress import busy, format_seconds
    from iccld.training.estimate import estimate_step

    d = config.data
    num_branches = _num_branches(config)
    model.to(fabric.device)
    with fabric.autocast(), busy("estimating time and memory"):
        estimate = estimate_step(model, batch_size=d.batch_size, num_branches=num_branches, crop=d.crop)
    # Until the adaptation starts only the first branch is computed.
    early = max(0, round(config.adaptation.start * config.steps) - start)
    steps_in_full = config.steps - start - early + early / num_branches
    eta = format_seconds(steps_in_full * estimate.seconds_per_step * config.optim.accumulation)
    target = f"{len(data.target)} images of {data.target.name}, unlabeled" if data.target else "not used"
    val = f"{len(data.val)} images of {data.val.name}" if data.val else f"none ({data.missing_val})"
    branches = "1 branch" if num_branches == 1 else f"{num_branches} branches"
    rows = {
        "run": f"{preset}, method {config.method}, seed {config.seed} → {out}",
        "labeled": f"{len(data.labeled)} images of {data.labeled.name}, {len(data.label_space)} classes",
        "target": target,
        "evaluation": val,
        "model": f"{config.model.backbone}, {estimate.num_parameters / 1e6:.1f} M parameters",
        "batch": f"{d.batch_size} per branch at {d.crop[0]}×{d.crop[1]}, {branches}"
        + (f", {fabric.world_size} ranks" if fabric.world_size > 1 else ""),
        "device": f"{fabric.device}, {'bf16' if 'bf16' in str(fabric._precision.precision) else 'fp32'}",
        "peak memory": f"about {estimate.peak_bytes / 2**30:.1f} GiB",
        "steps": f"{start} → {config.steps}, about {eta}" if start else f"{config.steps}, about {eta}",
    }
    for name, value in rows.items():
        print(f"{name:>12}: {value}")
    if start:
        print(f"resuming from step {start}")
    sys.stdout.flush()


def _conclude(trainer: Trainer, outcome: str, config: TrainConfig, out: Path, data: RunData) -> None:
    if outcome == "interrupted":
        print(
            f"stopped after step {trainer.step} and saved; run the same command again to go on",
            file=sys.stderr,
        )
        return
    from iccld.commands.run_report import finish_run
    from iccld.reporting.adversary import draw_adversary
    from iccld.reporting.curves import curves
    from iccld.training.tracking import read_metrics

    curves({config.method: out / "metrics.csv"}, out / "curves.png")
    rows = read_metrics(out / "metrics.csv")
    if any("train/adversarial_relief" in row for row in rows):
        draw_adversary(out / "metrics.csv", out / "adversary.png")
    report = finish_run(out, config, trainer.update.teacher_model, data, trainer.evaluate)
    miou = rows[-1].get("val/miou")
    if miou is not None:
        print(
            f"mIoU on {config.data.target} {config.data.val_split}: {float(miou):.2f} (EMA teacher, last step)"
        )
    print(f"model: {out}")
    if report is not None:
        print(f"report: {report}")
    print(f"predict with: iccld predict {out} IMAGES --out OUT")
