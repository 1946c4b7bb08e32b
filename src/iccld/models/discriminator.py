"""Discriminators: tell source, mixed and target apart, from latents or from class maps."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from iccld.models.layers import TimeEmbedding

NUM_DOMAINS = 3  # source, mixed, target


class LatentDiscriminator(nn.Module):
    """A time-conditioned patch discriminator on latents (equation 9).

    Each output cell sees a patch of 5×5 latent cells (40×40 pixels): layouts and contexts, not
    whole scenes, so that differing scene statistics alone give it less to hold on to.

    Args:
        latent_channels: d.
        width: hidden channels.
    """

    def __init__(self, latent_channels: int, width: int = 64) -> None:
        super().__init__()
        self.time = TimeEmbedding(width)
        self.conv1 = nn.Conv2d(latent_channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.out = nn.Conv2d(2 * width, NUM_DOMAINS, 1)
        self.film = nn.Linear(width, 2 * width)

    def forward(
        self, latent: Float[Tensor, "b d h w"], time: Float[Tensor, " b"]
    ) -> Float[Tensor, "b 3 h2 w2"]:
        """Gives logits over source, mixed and target for every patch."""
        x = self.conv1(latent)
        scale, shift = self.film(self.time(time))[:, :, None, None].chunk(2, dim=1)
        x = F.leaky_relu(x * (1 + scale) + shift, 0.2)
        logits: Tensor = self.out(F.leaky_relu(self.conv2(x), 0.2))
        return logits.float()


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
