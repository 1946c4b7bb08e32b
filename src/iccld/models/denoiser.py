"""The denoiser: a small U-Net on the latent grid that is conditioned on the image through the context links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from iccld.models.layers import ResidualBlock, TimeEmbedding, group_norm, upsample_to

_CONTEXT_STRIDES = (8, 16, 32)


class Denoiser(nn.Module):
    """Equation 4: (z_t, t; image features) → predicted z_0.

    *Context links*: the image coder's features at strides 8, 16 and 32 join the U-Net at the matching
    scales. Without them the image is known only through its coarsest features, laid over the latent grid
    at the input.

    The image side is prepared once by ``project``; each sampling step costs only the U-Net.

    Args:
        latent_channels: d.
        image_channels: stride → channels of the image coder.
        context_links: False leaves the links out.
        width: channels at stride 8; 4/3 and 5/3 of it at strides 16 and 32.
    """

    def __init__(
        self,
        latent_channels: int,
        image_channels: Mapping[int, int],
        *,
        context_links: bool = True,
        width: int = 96,
    ) -> None:
        super().__init__()
        c8, c16, c32 = width, width * 4 // 3, width * 5 // 3
        time_channels = width
        self.time = TimeEmbedding(time_channels)
        self.stem = nn.Conv2d(latent_channels, c8, 3, padding=1)
        self.link_strides = _CONTEXT_STRIDES if context_links else (32,)
        link_channels = (c8, c16, c32) if context_links else (c8,)
        self.links = nn.ModuleList(
            nn.Sequential(nn.Conv2d(image_channels[s], c, 1), group_norm(c))
            for s, c in zip(self.link_strides, link_channels, strict=True)
        )
        self.context_links = context_links
        self.in8 = ResidualBlock(c8, c8, time_channels=time_channels)
        self.down16 = ResidualBlock(c8, c16, stride=2, time_channels=time_channels)
        self.down32 = ResidualBlock(c16, c32, stride=2, time_channels=time_channels)
        self.middle = ResidualBlock(c32, c32, time_channels=time_channels)
        self.up16 = ResidualBlock(c32 + c16, c16, time_channels=time_channels)
        self.up8 = ResidualBlock(c16 + c8, c8, time_channels=time_channels)
        self.norm = group_norm(c8)
        self.out = nn.Conv2d(c8, latent_channels, 3, padding=1)

    def project(self, features: Mapping[int, Tensor]) -> list[Tensor]:
        """Prepares the context links of a batch once, however many steps are taken with them."""
        return [link(features[s]) for link, s in zip(self.links, self.link_strides, strict=True)]

    def forward(
        self, noisy: Float[Tensor, "b d h w"], time: Float[Tensor, " b"], context: Sequence[Tensor]
    ) -> Float[Tensor, "b d h w"]:
        """Predicts the clean latent.

        Args:
            noisy: z_t.
            time: t in [0, 1].
            context: what ``project`` gave for the same images.
        """
        return self.head(self.features(noisy, time, context))

    def features(
        self, noisy: Float[Tensor, "b d h w"], time: Float[Tensor, " b"], context: Sequence[Tensor]
    ) -> Float[Tensor, "b c h w"]:
        """The last features before the latent is read off; the same arguments as ``forward``."""
        t = self.time(time)
        size8 = (noisy.shape[-2], noisy.shape[-1])
        x8 = self.stem(noisy) + (context[0] if self.context_links else upsample_to(context[0], size8))
        x8 = self.in8(x8, t)
        x16 = self.down16(x8, t)
        if self.context_links:
            x16 = x16 + context[1]
        x32 = self.down32(x16, t)
        if self.context_links:
            x32 = x32 + context[2]
        x32 = self.middle(x32, t)
        size16 = (x16.shape[-2], x16.shape[-1])
        x16 = self.up16(torch.cat([upsample_to(x32, size16), x16], dim=1), t)
        x8 = self.up8(torch.cat([upsample_to(x16, size8), x8], dim=1), t)
        features: Tensor = self.norm(x8)
        return features

    def head(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Features → clean latent."""
        clean: Tensor = self.out(nn.functional.silu(features))
        return clean.float()
