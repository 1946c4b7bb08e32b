"""Refusing runs that cannot fit into memory, before anything is allocated."""

from __future__ import annotations

import dataclasses
import math

import torch

from iccld.assembly.networks import build_model
from iccld.compute import choose_device
from iccld.config import TrainConfig
from iccld.errors import InputError
from iccld.files import in_bytes
from iccld.labels import LabelSpace
from iccld.machine import free_memory

_COPIES = 5
"""Student, gradients, two moments of the optimizer, teacher."""
_LEAST_PER_PIXEL = 500
"""Bytes that training keeps for the backward pass for each pixel of the batch, in bf16, by the smallest of our coders.
Measured in fp32: 1100 (mit_b0) to 2400 (efficientnet_lite0)."""
_KEPT_MAPS = 8
"""Maps of the width at stride 8 that it keeps, at least."""


def refuse_impossible(config: TrainConfig, space: LabelSpace) -> None:
    """Refuses a run that needs more memory than this process may use, by an estimate from below.

    Raises:
        InputError: names the estimate, what is there, and the flags that matter most.
    """
    needs = {
        "network": (_bytes_of_network(config, space), "--model.width or --model.latent-channels"),
        "batch": (_bytes_of_batch(config, space), "--data.crop or --data.batch-size"),
    }
    scenes = {"scenes": (_bytes_of_scenes(config), "the counts or sizes of the scenes")}
    if choose_device(config.device) == "cuda" and torch.cuda.is_available():
        _compare(needs, torch.cuda.get_device_properties(0).total_memory)
        _compare(scenes, _free())
    else:
        _compare(needs | scenes, _free())


def _free() -> float:
    free = free_memory()
    return math.inf if free is None else free


def _compare(needs: dict[str, tuple[float, str]], limit: float) -> None:
    total = sum(size for size, _ in needs.values())
    if total > limit:
        name, (size, flags) = max(needs.items(), key=lambda need: need[1][0])
        raise InputError(
            f"this run needs at least {in_bytes(int(total))} of memory ({in_bytes(int(size))} of it for the {name}), "
            f"and this process can have {in_bytes(int(limit))}; lower {flags}"
        )


def _bytes_of_network(config: TrainConfig, space: LabelSpace) -> float:
    if config.model.backbone.startswith("auto:"):
        return 0  # its size is known once its files are read
    plain = dataclasses.replace(config.model, pretrained="no")
    with torch.device("meta"):
        model = build_model(dataclasses.replace(config, model=plain), space)
    return _COPIES * 4 * sum(p.numel() for p in model.parameters())


def _bytes_of_batch(config: TrainConfig, space: LabelSpace) -> float:
    d, m = config.data, config.model
    width = m.width // 3 if m.light_steps else m.width
    least = 0 if m.backbone.startswith("auto:") else _LEAST_PER_PIXEL
    per_pixel = 12 + 8 + max(least, 4 * (_KEPT_MAPS * width / 64 + len(space) / 16))
    return d.batch_size * d.crop[0] * d.crop[1] * per_pixel


def _bytes_of_scenes(config: TrainConfig) -> float:
    """The scenes are kept in memory, colors and labels."""
    d, kept = config.data, 0.0
    source_count = 0 if config.method == "oracle" else d.source_count
    for name, size, count in (
        (d.source, d.source_size, source_count),
        (d.target, d.target_size, d.target_count + d.val_count),
    ):
        if name == "street_scenes":
            height, width = size or d.crop
            kept += count * 4 * height * width
    return kept
