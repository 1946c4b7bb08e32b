"""The discriminator: tells source, mixed and target apart from the denoised latent and the diffusion time."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from iccld.models.layers import TimeEmbedding

DOMAINS = ("source", "mixed", "target")


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
        self.out = nn.Conv2d(2 * width, len(DOMAINS), 1)
        self.film = nn.Linear(width, 2 * width)

    def forward(
        self, latent: Float[Tensor, "b d h w"], time: Float[Tensor, " b"]
    ) -> Float[Tensor, "b 3 h2 w2"]:
        """Gives logits over :data:`DOMAINS` for every patch."""
        x = self.conv1(latent)
        scale, shift = self.film(self.time(time))[:, :, None, None].chunk(2, dim=1)
        x = F.leaky_relu(x * (1 + scale) + shift, 0.2)
        logits: Tensor = self.out(F.leaky_relu(self.conv2(x), 0.2))
        return logits.float()
