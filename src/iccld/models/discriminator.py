"""Discriminators: tell source, mixed and target apart, from latents or from class maps."""

from __future__ import annotations

from itertools import pairwise

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
    """A patch discriminator on class maps, as output-space methods use it (Tsai et al. 2018).

    Deviation: three strided convolutions instead of five, for smaller images. Times are not looked at.

    Args:
        num_classes: k.
        width: hidden channels of the first layer; doubled by each further one.
    """

    def __init__(self, num_classes: int, width: int = 32) -> None:
        super().__init__()
        widths = (num_classes, width, 2 * width, 4 * width)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))
        self.out = nn.Conv2d(widths[-1], NUM_DOMAINS, 3, padding=1)

    def forward(
        self, maps: Float[Tensor, "b k h w"], time: Float[Tensor, " b"]
    ) -> Float[Tensor, "b 3 h2 w2"]:
        """Gives logits over source, mixed and target for every patch."""
        x = maps
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
        logits: Tensor = self.out(x)
        return logits.float()
