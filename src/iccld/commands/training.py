"""One training run, from the checks of its settings to its report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from iccld.commands import train_checks as checks
from iccld.config import TrainConfig, to_dict
from iccld.errors import RunFailedError
from iccld.files import write_json
from iccld.locks import claiming
from iccld.machine import release_freed_memory
from iccld.outputs import RUN, steps_done
from iccld.plugins import is_reference

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from iccld.models.iccld import ICCLD
    from iccld.run_data import RunData
    from iccld.training.callbacks import Callbacks
    from iccld.training.loop import Trainer

_OF_THE_BENCH = ("job.json", "log.txt", "seconds.json")
"""Names of files that ``iccld bench`` writes into a run's folder before the run starts."""


def train(
    config: TrainConfig,
    out: Path,
    *,
    preset: str,
    data: RunData | None = None,
    json: Path | None = None,
    callbacks: Callbacks | None = None,
) -> str:
    """Starts a training run in a folder, or resumes the run in this folder.

    Args:
        config: Settings of the run.
        out: Folder of the run.
        preset: Name of the preset, for the files of the run.
        data: Data sets of the run, if they are already open.
        json: JSON file that the caller writes after the run. This function only checks the path of the file.
        callbacks: Functions that the run calls after steps, checkpoints and evaluations.

    Returns:
        How the training ended: ``finished``, ``stopped`` (at ``stop_at``), ``interrupted`` (Ctrl-C) or
        ``terminated`` (SIGTERM).

    Raises:
        InputError: Data or settings are invalid, or the folder contains another run.
        RunFailedError: A loss is not finite, the disk is full, a loader process was killed, or another rank has ended.
    """
    checks.check_config(config)
    config = checks.with_rank_batch(config)
    checks.check_places(config, out, json)
    if not checks.is_first_rank():
        return _train(config, out, preset, data, callbacks)
    # All ranks write to one folder. The first rank locks the folder against other runs.
    with claiming(out, "train", "run", record=RUN, besides=_OF_THE_BENCH):
        return _train(config, out, preset, data, callbacks)


def _train(
    config: TrainConfig, out: Path, preset: str, data: RunData | None, callbacks: Callbacks | None
) -> str:
    if checks.is_finished(config, out):
        from iccld.build import reopen_data

        data = data or reopen_data(config)
        if data is not None:
            checks.check_data(out, data)
        print(f"{out}: finished earlier ({config.steps} steps); nothing to do")
        return "finished"
    from iccld.build import build_fabric
    from iccld.commands.run_report import begin_record
    from iccld.training.heartbeat import Heartbeat
    from iccld.training.ranks import explaining_lost_ranks, require_equal_ranks
    from iccld.training.tracking import require_trackers

    require_trackers(config.trackers)
    fabric = build_fabric(config)
    trainer, data = _build_trainer(config, out, preset, data, fabric)
    trainer.callbacks = callbacks or trainer.callbacks
    with Heartbeat(fabric.global_rank, fabric.world_size), explaining_lost_ranks():
        start = trainer.resume()
        require_equal_ranks(fabric, config, data.trained_on, start)
        estimate = checks.estimate_memory(trainer) if fabric.is_global_zero else None
        rehearsal = trainer.rehearse()
        if estimate is not None:
            write_json(out / RUN, {"preset": preset, **to_dict(config)})
            begin_record(out, config, start, threads=rehearsal.threads)
            checks.announce(trainer, data, estimate)
        fabric.barrier()
        outcome = trainer.run()
    if fabric.is_global_zero:
        _conclude(trainer, outcome, data)
    release_freed_memory()
    return outcome


def _build_trainer(
    config: TrainConfig, out: Path, preset: str, data: RunData | None, fabric: Fabric
) -> tuple[Trainer, RunData]:
    from iccld import build, run_data
    from iccld.inference.review import RunEvaluation
    from iccld.labels import protocol_of
    from iccld.training.loop import Trainer
    from iccld.training.rehearsal import refuse_impossible

    # Reading the data takes minutes. The network is built first, because a mistyped backbone is then reported at once.
    space = data.label_space if data else run_data.build_label_space(config.data)
    refuse_impossible(config, lambda settings: build.build_model(settings, space))
    model = build.build_model(config, space)
    note = _prepare_weights(model, config, out, fabric)
    method = build.build_method(config, space)
    data = data or run_data.build_data(config, method)
    if fabric.is_global_zero:
        print(note, end="")
        checks.check_data(out, data)
    loaders = build.build_loaders(config, data, method, fabric, out / "cache")
    evaluation = None if data.val is None else RunEvaluation(data.val, protocol_of(space))
    trainer = Trainer(
        config,
        fabric=fabric,
        model=model,
        discriminator=build.build_discriminator(config, method, space),
        method=method,
        loaders=loaders,
        out=out,
        evaluate=evaluation,
        watch=evaluation and evaluation.of_some(config.eval_images),
        preset=preset,
    )
    return trainer, data


def _prepare_weights(model: ICCLD, config: TrainConfig, out: Path, fabric: Fabric) -> str:
    """Starts a new run from the weights of ``model.init``, and prints a warning if a backbone has no weights.

    Returns a line about the initial weights, or an empty text if ``model.init`` is not used.
    """
    from iccld.models.image_coder import lacks_weights
    from iccld.models.warm_start import warm_start

    m = config.model
    if fabric.is_global_zero and m.init is None and lacks_weights(m.backbone, m.pretrained):
        what = "holds a configuration and no model.safetensors, so the backbone starts from random weights"
        remedy = "(from scratch); say --model.pretrained no if that is meant"
        print(f"warning: {m.backbone}: {what} {remedy}", file=sys.stderr)
    if m.init is not None and not steps_done(out):
        missing = ", ".join(warm_start(model, m.init))
        note = f"; classes without a match, which start from random weights: {missing}" if missing else ""
        return f"initial weights: {m.init}{note}\n"
    return ""


def _conclude(trainer: Trainer, outcome: str, data: RunData) -> None:
    config, out = trainer.config, trainer.out
    if outcome != "finished":
        done = f"after step {trainer.step} and saved" if trainer.step else "before the first step"
        how = "without --stop-at" if outcome == "stopped" else "again"
        print(f"stopped {done}; run the same command {how} to go on", file=sys.stderr)
        return
    from iccld.commands.run_report import finish_run
    from iccld.reporting.curves import curves, draw_adversary
    from iccld.training.tracking import read_metrics

    if not (out / RUN).is_file():  # the folder is not a run any more, so nothing is written to it
        raise RunFailedError(f"{out}: was removed or emptied during the run; run the same command again")
    curves({config.method: out / "metrics.csv"}, out / "curves.png")
    rows = read_metrics(out / "metrics.csv")
    if any("train/adversarial_relief" in row for row in rows):
        draw_adversary(out / "metrics.csv", out / "adversary.png")
    report = finish_run(trainer, data)
    if "val/miou" in rows[-1]:
        miou, on = float(rows[-1]["val/miou"]), f"{config.data.target} {config.data.val_split}"
        print(f"mIoU on {on}: {miou:.2f} (EMA teacher, last step)")
    print(f"model: {out}")
    if report is not None:
        print(f"report: {report}")
    backbone = config.model.backbone
    code = f"ICCLD_IMPORT={backbone} " if is_reference(backbone) else ""
    print(f"predict with: {code}iccld predict {out} IMAGES --out OUT")
