"""Layers and blocks that several networks share."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ImageCoder(nn.Module):
    """Base class of backbones, which map RGB images in [0, 1] to a dictionary of feature maps by stride.

    Height and width of the images are multiples of 32.

    Attributes:
        channels: Number of channels by stride. The strides are 8, 16 and 32, and at least one of 2 and 4.
        backbone_config: ``transformers`` configuration to store with the model. ``None`` if no configuration is stored.
    """

    channels: dict[int, int]
    backbone_config: dict[str, Any] | None = None


class OuterConv2d(nn.Conv2d):
    """First or last convolution of the network. In prediction, it runs in fp32 even under autocast.

    Rounding to bf16 in the first and last layers changes more predicted labels than rounding in all other layers
    (docs/export.md). In training, autocast applies.
    """

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h2 w2"]:
        """Returns the convolution of the input."""
        with full_precision(x):
            return super().forward(x.float() if torch.is_inference_mode_enabled() else x)


def full_precision(x: Tensor) -> torch.autocast | contextlib.nullcontext[None]:
    """Returns a context that disables autocast in prediction and does nothing in training."""
    if torch.is_inference_mode_enabled():
        return torch.autocast(x.device.type, enabled=False)
    return contextlib.nullcontext()


def group_norm(channels: int) -> nn.GroupNorm:
    """Returns a group normalization with about 16 channels per group.

    Unlike batch normalization, group normalization has no running statistics, which could differ between ranks.
    """
    groups = max(1, channels // 16)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding of the diffusion time, followed by a small MLP."""

    frequencies: Tensor

    def __init__(self, channels: int, num_frequencies: int = 16) -> None:
        super().__init__()
        # Without the explicit device, torch would import its compiler when a network is built on the device "meta".
        exponents = torch.linspace(0, math.log(100.0), num_frequencies, device="cpu")
        self.register_buffer("frequencies", torch.exp(exponents) * math.pi, persistent=False)
        self.mlp = nn.Sequential(
            nn.Linear(2 * num_frequencies, channels), nn.SiLU(), nn.Linear(channels, channels), nn.SiLU()
        )

    def forward(self, time: Float[Tensor, " b"]) -> Float[Tensor, "b c"]:
        """Returns the embeddings of times in [0, 1]."""
        angles = time.float()[:, None] * self.frequencies
        return self.mlp(torch.cat([angles.sin(), angles.cos()], dim=1))


class ResidualBlock(nn.Module):
    """Pre-activation residual block (He et al. 2016).

    If ``time_channels`` is not 0, the time embedding determines a scale and a shift of each channel (FiLM, Perez et al.
    2018). The scale and the shift are applied after the second normalization.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, time_channels: int = 0
    ) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.norm2 = group_norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        # Initially, the output is that of the shortcut. This makes deep networks trainable.
        nn.init.zeros_(self.conv2.weight)
        self.conv2.bias = nn.Parameter(torch.zeros(out_channels))
        self.stride = stride
        self.film = nn.Linear(time_channels, 2 * out_channels) if time_channels else None
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b e"] | None = None
    ) -> Float[Tensor, "b k h2 w2"]:
        """Returns the output of the block. The output size is the input size divided by the stride, rounded up."""
        residual = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.film is not None and time is not None:
            scale, shift = self.film(time)[:, :, None, None].chunk(2, dim=1)
            residual = residual * (1 + scale) + shift
        residual = self.conv2(F.silu(residual))
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        return self.shortcut(x) + residual


def upsample_to(x: Float[Tensor, "b c h w"], size: tuple[int, ...]) -> Float[Tensor, "b c h2 w2"]:
    """Interpolates feature maps bilinearly to the given height and width in cells (``align_corners=False``)."""
    # In exports, the interpolation is never skipped, because a graph must also work for other sizes.
    if not torch.compiler.is_exporting() and x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class Stages(nn.ModuleList):
    """Consecutive stages of an image coder."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b c2 h2 w2"]]:
        """Returns a list that starts with ``x``, followed by the output of each stage."""
        features = [x]
        for stage in self:
            features.append(stage(features[-1]))
        return features


class UNet(nn.Module):
    """U-Net over strides 8, 16 and 32. The inputs are image features (context links) and optionally a noisy latent.

    Args:
        image_channels: Number of channels of the image coder's features by stride.
        context_links: Whether image features enter at strides 8, 16 and 32. If ``False``, only the features at stride
            32 are used. These features are interpolated to stride 8 and enter at the input.
        width: Number of channels at stride 8. Strides 16 and 32 have 4/3 and 5/3 times this number.
        latent_channels: Number of channels of the latent. With 0, neither a latent nor a time enters the U-Net.
    """

    def __init__(
        self, image_channels: Mapping[int, int], *, context_links: bool, width: int, latent_channels: int = 0
    ) -> None:
        super().__init__()
        c8, c16, c32 = width, width * 4 // 3, width * 5 // 3
        time_channels = width if latent_channels else 0
        if latent_channels:
            self.time = TimeEmbedding(time_channels)
            self.stem = nn.Conv2d(latent_channels, c8, 3, padding=1)
        self.context_links = context_links
        self.link_channels = {8: c8, 16: c16, 32: c32} if context_links else {32: c8}
        self.links = nn.ModuleList(
            nn.Sequential(nn.Conv2d(image_channels[s], c, 1), group_norm(c))
            for s, c in self.link_channels.items()
        )
        self.in8 = ResidualBlock(c8, c8, time_channels=time_channels)
        self.down16 = ResidualBlock(c8, c16, stride=2, time_channels=time_channels)
        self.down32 = ResidualBlock(c16, c32, stride=2, time_channels=time_channels)
        self.middle = ResidualBlock(c32, c32, time_channels=time_channels)
        self.up16 = ResidualBlock(c32 + c16, c16, time_channels=time_channels)
        self.up8 = ResidualBlock(c16 + c8, c8, time_channels=time_channels)
        self.norm = group_norm(c8)

    def project(self, features: Mapping[int, Tensor]) -> list[Tensor]:
        """Projects image features for the context links. One call per batch is enough for all sampling steps."""
        return [link(features[s]) for link, s in zip(self.links, self.link_channels, strict=True)]

    def run(
        self,
        links: Sequence[Tensor],
        size8: tuple[int, ...],
        latent: Tensor | None = None,
        time: Tensor | None = None,
    ) -> Tensor:
        """Returns features at stride 8.

        Args:
            links: Output of ``project``.
            size8: Height and width of the result in cells.
            latent: Output of ``stem`` for the noisy latents. ``None`` in a U-Net without latents.
            time: Diffusion times in [0, 1]. ``None`` in a U-Net without latents.
        """
        time = None if time is None else self.time(time)
        x8 = links[0] if self.context_links else upsample_to(links[0], size8)
        x8 = self.in8(x8 if latent is None else latent + x8, time)
        x16 = self.down16(x8, time)
        if self.context_links:
            x16 = x16 + links[1]
        x32 = self.down32(x16, time)
        if self.context_links:
            x32 = x32 + links[2]
        x32 = self.middle(x32, time)
        x16 = self.up16(torch.cat([upsample_to(x32, x16.shape[-2:]), x16], dim=1), time)
        x8 = self.up8(torch.cat([upsample_to(x16, size8), x8], dim=1), time)
        return self.norm(x8)
