"""Optimizers and the learning-rate schedule, a pure function of the step so that resuming needs no state of it."""

from __future__ import annotations

import torch
from torch import nn

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


def build_discriminator_optimizer(discriminator: nn.Module, rate: float) -> torch.optim.AdamW:
    """AdamW with the betas usual for adversaries (0.5, 0.99)."""
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=rate, betas=(0.5, 0.99), weight_decay=0.0)
    for group in optimizer.param_groups:
        group["peak_lr"] = rate
    return optimizer


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
