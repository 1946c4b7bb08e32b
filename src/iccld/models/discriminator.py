"""The discriminator of the rivals, on class maps."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class OutputDiscriminator(nn.Module):
    """The discriminator of AdaptSegNet (Tsai et al. 2018) and ADVENT on class maps at the image's size.

    Five convolutions of 4×4 cells and stride 2 end in one number for every patch: source (below 0) or target. Times are
    not looked at.

    Args:
        num_classes: k.
        width: hidden channels of the first layer; doubled by each of the three that follow.
    """

    def __init__(self, num_classes: int, width: int = 64) -> None:
        super().__init__()
        widths = (num_classes, width, 2 * width, 4 * width, 8 * width, 1)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))

    def forward(
        self, maps: Float[Tensor, "b k h w"], time: Float[Tensor, " b"]
    ) -> Float[Tensor, "b 3 h2 w2"]:
        """Gives logits over source, mixed and target for every patch.

        Cross-entropy on them is the published binary one: source has 0, target the network's answer, mixed −∞.

        Args:
            maps: of 32×32 pixels at least.
            time: diffusion time of each.
        """
        x = maps
        for conv in self.convs[:-1]:
            x = F.leaky_relu(conv(x), 0.2)
        target = self.convs[-1](x).float()
        return torch.cat([torch.zeros_like(target), torch.full_like(target, -torch.inf), target], dim=1)
