"""Optimizers."""

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


def build_discriminator_optimizer(
    discriminator: nn.Module, rate: float, betas: tuple[float, float] = (0.5, 0.99)
) -> torch.optim.AdamW:
    """AdamW without decay, which is Adam."""
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=rate, betas=betas, weight_decay=0.0)
    for group in optimizer.param_groups:
        group["peak_lr"] = rate
    return optimizer
