"""Optimizers and the learning-rate schedule, a pure function of the step so that resuming needs no state of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from iccld.config import OptimConfig
from iccld.models.iccld import ICCLD


def build_segmenter_optimizer(model: ICCLD, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW with a rate for the backbone and one for the rest; no decay on biases and normalization."""
    backbone = {id(p) for p in model.image_coder.parameters()}
    groups = []
    for is_backbone, rate in ((True, config.backbone_lr), (False, config.head_lr)):
        own = [p for p in model.parameters() if (id(p) in backbone) == is_backbone and p.requires_grad]
        for decays in (True, False):
            members = [p for p in own if (p.ndim > 1) == decays]
            decay = config.weight_decay if decays else 0.0
            groups.append({"params": members, "lr": rate, "peak_lr": rate, "weight_decay": decay})
    return torch.optim.AdamW([g for g in groups if g["params"]])


def build_discriminator_optimizer(
    discriminator: nn.Module, rate: float, betas: tuple[float, float] = (0.5, 0.99)
) -> torch.optim.AdamW:
    """AdamW without decay, which is Adam."""
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=rate, betas=betas, weight_decay=0.0)
    for group in optimizer.param_groups:
        group["peak_lr"] = rate
    return optimizer


def teacher_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """How the teacher's weights follow the student's: their exponential moving average.

    After n updates of the student the decay is min(1 − 1/n, ``decay``), as in DACS (Tranheden et al. 2021): the plain
    mean until the average is as long as it is to be. Otherwise the first weights would count for most.

    Args:
        decay: in [0, 1).

    Returns:
        The ``multi_avg_fn`` of torch's ``AveragedModel``, which copies the weights after the first update.
    """

    def update(averaged: Any, current: Any, num_averaged: Any) -> None:
        now = min(1 - 1 / (float(num_averaged) + 1), decay)
        get_ema_multi_avg_fn(now)(averaged, current, num_averaged)

    return update


def rate_factor(step: int, num_steps: int, warmup_steps: int, power: float) -> float:
    """Linear warm-up, then polynomial decay to zero at the end.

    Args:
        step: steps done before this one, from 0.
        num_steps: of the whole run.
        warmup_steps: length of the warm-up.
        power: of the decay.
    """
    warmup = min(1.0, (step + 1) / max(1, warmup_steps))
    return warmup * max(0.0, 1 - step / num_steps) ** power


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Sets every group's rate to ``factor`` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
