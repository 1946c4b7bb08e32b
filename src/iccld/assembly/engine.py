"""The engine that a run computes with."""

from __future__ import annotations

import logging
import os

import torch
from lightning.fabric import Fabric
from lightning_utilities.core import rank_zero

from iccld.compute import choose_device, uses_bf16
from iccld.config import TrainConfig
from iccld.errors import InputError
from iccld.machine import end_with_parent, keep_freed_memory
from iccld.threads import most_threads, set_threads


def build_fabric(config: TrainConfig) -> Fabric:
    """Makes the engine; under ``torchrun`` it joins the other ranks (gloo on CPUs, NCCL on GPUs)."""
    device = choose_device(config.device)
    if device not in ("cpu", "cuda", "mps"):
        raise InputError(f"device {device!r} is unknown; choose auto, cpu, cuda or mps")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device cuda: torch sees no CUDA GPU here; use --device cpu, or install a CUDA build"
        )
    if device == "mps" and not torch.backends.mps.is_available():
        raise InputError("device mps: torch sees no Apple GPU here; use --device cpu")
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    set_threads(config.threads or most_threads(local_ranks))
    if device == "cpu":
        keep_freed_memory()
    bf16 = uses_bf16(device, config.precision)
    # Some weights take no part then: those that feed the links that are off, the label encoder of plain heads, the
    # mask tokens and last norms of other libraries' networks. Distributed training has to be told.
    m = config.model
    some_idle = not (m.context_links and m.detail_links and m.diffusion) or m.backbone.startswith("auto:")
    strategy = "ddp_find_unused_parameters_true" if some_idle else "ddp"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent()  # a launcher that is killed leaves no ranks behind: they save and end
    rank_zero.log.setLevel(logging.WARNING)  # it announces bf16; so do we
    fabric = Fabric(
        accelerator="gpu" if device == "cuda" else device,
        devices=local_ranks,
        num_nodes=max(1, world_size // local_ranks),
        strategy=strategy if world_size > 1 else "auto",
        precision="bf16-mixed" if bf16 else "32-true",
    )
    fabric.launch()
    # The first rank has looked at the run's folder before another one writes to it.
    fabric.barrier()
    return fabric
