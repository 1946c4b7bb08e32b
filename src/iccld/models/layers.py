"""Building blocks that several networks share."""

from __future__ import annotations

import contextlib
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class OuterConv2d(nn.Conv2d):
    """The first or the last convolution of the network: prediction computes it in fp32 under autocast too.

    Rounding the image or the logits costs more labels than all rounding in between (docs/export.md). Training keeps
    what autocast says.
    """

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h2 w2"]:
        """Convolves."""
        with full_precision(x):
            return super().forward(x.float() if torch.is_inference_mode_enabled() else x)


def full_precision(x: Tensor) -> torch.autocast | contextlib.nullcontext[None]:
    """In prediction, a context without autocast; elsewhere one that changes nothing."""
    if torch.is_inference_mode_enabled():
        return torch.autocast(x.device.type, enabled=False)
    return contextlib.nullcontext()


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalization with groups of about 16 channels.

    It keeps no running statistics, so ranks cannot diverge and resuming is exact.
    """
    groups = max(1, channels // 16)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


def light_width(width: int) -> int:
    """Channels of what a light sampling step does at stride 8 and finer, in a model of some width."""
    return max(16, width // 3)


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding of the diffusion time followed by a small perceptron."""

    frequencies: Tensor

    def __init__(self, channels: int, num_frequencies: int = 16) -> None:
        super().__init__()
        # On a named device: the sketch of a network, on "meta", would load torch's compiler for this.
        exponents = torch.linspace(0, math.log(100.0), num_frequencies, device="cpu")
        frequencies = torch.exp(exponents) * math.pi
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(
            nn.Linear(2 * num_frequencies, channels), nn.SiLU(), nn.Linear(channels, channels), nn.SiLU()
        )

    def forward(self, time: Float[Tensor, " b"]) -> Float[Tensor, "b c"]:
        """Embeds times in [0, 1]."""
        angles = time.float()[:, None] * self.frequencies
        embedded: Tensor = self.mlp(torch.cat([angles.sin(), angles.cos()], dim=1))
        return embedded


class ResidualBlock(nn.Module):
    """Pre-activation residual block (He et al. 2016) with optional time conditioning (FiLM).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; where they differ, the shortcut is a 1×1 convolution.
        stride: spatial stride of the first convolution.
        time_channels: size of the time embedding; 0 for none.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, time_channels: int = 0
    ) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.norm2 = group_norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)  # every block starts as its shortcut: deep stacks train at once
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
        """Runs the block."""
        residual = self.conv1(F.silu(self.norm1(x)))
        residual = self.norm2(residual)
        if self.film is not None and time is not None:
            scale, shift = self.film(time)[:, :, None, None].chunk(2, dim=1)
            residual = residual * (1 + scale) + shift
        residual = self.conv2(F.silu(residual))
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        out: Tensor = self.shortcut(x) + residual
        return out


def upsample_to(x: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c h2 w2"]:
    """Bilinear interpolation to a size in cells (corners not aligned)."""
    # An exported graph takes all sizes: it may not depend on two of them being equal in the example it was traced with.
    if not torch.compiler.is_exporting() and x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
