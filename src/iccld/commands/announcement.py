"""Memory estimate and summary of a run, which ``iccld train`` prints before the first step."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

from iccld.config import TrainConfig
from iccld.errors import InputError
from iccld.files import in_bytes
from iccld.machine import free_memory, own_memory

if TYPE_CHECKING:
    from iccld.run_data import RunData
    from iccld.training.loop import Trainer
    from iccld.training.rehearsal import Estimate


_MARGIN = 1.3
"""Factor by which the memory estimate may exceed the available memory, because the estimate can be wrong (by 15 % on
CPUs, docs/performance.md)."""


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
    d = config.data
    branches, target, val = num_branches_of(config), data.target, data.val
    of_branches = f"{branches} branch{'es' * (branches > 1)}"
    ranks = f", {fabric.world_size} ranks" if fabric.world_size > 1 else ""
    begun = f"{start} → " if start else ""
    rows = {
        "run": f"{trainer.preset}, method {config.method}, seed {config.seed} → {trainer.out}",
        "labeled": f"{len(data.labeled)} images of {data.labeled.name}, {len(data.label_space)} classes",
        "target": f"{len(target)} images of {target.name}, unlabeled" if target else "not used",
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
    return {"source_only": 1, "oracle": 1, "mic": 3}.get(config.method, 2)
