"""The denoiser: a small U-Net on the latent grid that is conditioned on the image through the context links.

It comes in two forms: ``Denoiser`` runs its U-Net over image and latent together at every sampling step. With light
steps ``ImageNeck`` runs it over the image alone, once, and a step of ``LightDenoiser`` is a few narrow layers that
read the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from iccld.models.layers import ResidualBlock, TimeEmbedding, group_norm, light_width, upsample_to

_CONTEXT_STRIDES = (8, 16, 32)


class _UNet(nn.Module):
    """The U-Net over strides 8, 16 and 32, which the context links join, with or without a latent and its time."""

    def __init__(
        self,
        image_channels: Mapping[int, int],
        *,
        context_links: bool,
        width: int,
        latent_channels: int = 0,
    ) -> None:
        super().__init__()
        c8, c16, c32 = width, width * 4 // 3, width * 5 // 3
        time_channels = width if latent_channels else 0
        if latent_channels:
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

    def project(self, features: Mapping[int, Tensor]) -> list[Tensor]:
        """Prepares the context links of a batch once, however many steps are taken with them."""
        return [link(features[s]) for link, s in zip(self.links, self.link_strides, strict=True)]

    def run(
        self, links: Sequence[Tensor], size8: tuple[int, int], latent: Tensor | None, time: Tensor | None
    ) -> Tensor:
        """Links and, if there is one, the latent after its stem with its embedded time → features at stride 8."""
        x8 = links[0] if self.context_links else upsample_to(links[0], size8)
        x8 = self.in8(x8 if latent is None else latent + x8, time)
        x16 = self.down16(x8, time)
        if self.context_links:
            x16 = x16 + links[1]
        x32 = self.down32(x16, time)
        if self.context_links:
            x32 = x32 + links[2]
        x32 = self.middle(x32, time)
        size16 = (x16.shape[-2], x16.shape[-1])
        x16 = self.up16(torch.cat([upsample_to(x32, size16), x16], dim=1), time)
        x8 = self.up8(torch.cat([upsample_to(x16, size8), x8], dim=1), time)
        features: Tensor = self.norm(x8)
        return features


class _Readout(nn.Module):
    """What both denoisers do alike: features first, then the latent is read off."""

    out: nn.Conv2d

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
        raise NotImplementedError

    def head(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Features → clean latent."""
        clean: Tensor = self.out(nn.functional.silu(features))
        return clean.float()


class Denoiser(_Readout, _UNet):
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
        super().__init__(
            image_channels, context_links=context_links, width=width, latent_channels=latent_channels
        )
        self.out = nn.Conv2d(width, latent_channels, 3, padding=1)

    def features(
        self, noisy: Float[Tensor, "b d h w"], time: Float[Tensor, " b"], context: Sequence[Tensor]
    ) -> Float[Tensor, "b c h w"]:
        """The last features before the latent is read off; the same arguments as ``forward``."""
        embedded = self.time(time)
        return self.run(context, (noisy.shape[-2], noisy.shape[-1]), self.stem(noisy), embedded)


class ImageNeck(_UNet):
    """The U-Net over the image alone: new features at stride 8 that know the coarser ones.

    Args:
        image_channels: stride → channels of the image coder.
        context_links: False: they know the coarsest alone.
        width: channels of the new features.
    """

    def __init__(
        self, image_channels: Mapping[int, int], *, context_links: bool = True, width: int = 96
    ) -> None:
        super().__init__(image_channels, context_links=context_links, width=width)
        self.channels = {**image_channels, 8: width}

    def forward(self, features: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """The image coder's features by stride, with new ones at stride 8."""
        size8 = (features[8].shape[-2], features[8].shape[-1])
        return {**features, 8: nn.functional.silu(self.run(self.project(features), size8, None, None))}


class LightDenoiser(_Readout):
    """Equation 4 in a third of the channels, on features that ``ImageNeck`` has prepared once an image.

    Args:
        latent_channels: d.
        image_channels: stride → channels, of the neck's features at stride 8.
        width: of the model; a step has a third of it at stride 8, at least 16, and twice as many at stride 16.
    """

    def __init__(self, latent_channels: int, image_channels: Mapping[int, int], *, width: int = 96) -> None:
        super().__init__()
        c8 = light_width(width)
        c16 = 2 * c8
        self.context8 = nn.Conv2d(image_channels[8], c8, 1)
        self.context16 = nn.Conv2d(image_channels[8], c16, 3, stride=2, padding=1)
        self.time = TimeEmbedding(width)
        self.stem = nn.Conv2d(latent_channels, c8, 3, padding=1)
        self.down16 = ResidualBlock(c8, c16, stride=2, time_channels=width)
        self.middle = ResidualBlock(c16, c16, time_channels=width)
        self.reduce = nn.Conv2d(c16, c8, 1)
        self.norm = group_norm(c8)
        self.out = nn.Conv2d(c8, latent_channels, 3, padding=1)

    def project(self, features: Mapping[int, Tensor]) -> list[Tensor]:
        """Prepares the context of a batch once, however many steps are taken with it."""
        return [self.context8(features[8]), self.context16(features[8])]

    def features(
        self, noisy: Float[Tensor, "b d h w"], time: Float[Tensor, " b"], context: Sequence[Tensor]
    ) -> Float[Tensor, "b c h w"]:
        """The last features before the latent is read off; the same arguments as ``forward``."""
        t = self.time(time)
        x8 = self.stem(noisy) + context[0]
        x16 = self.middle(self.down16(x8, t) + context[1], t)
        features: Tensor = self.norm(x8 + upsample_to(self.reduce(x16), (x8.shape[-2], x8.shape[-1])))
        return features
