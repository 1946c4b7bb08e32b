"""The default image coder: a small residual pyramid that can be trained from scratch on a laptop."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from iccld.models.layers import ImageCoder, OuterConv2d, ResidualBlock, Stages, group_norm


class CompactCoder(ImageCoder):
    """Small residual backbone with features at strides 2, 4, 8, 16 and 32 and about 3.6 million parameters.

    The 3×3 convolutions are dense instead of depthwise, because the matrix units of GPUs and CPUs are most efficient
    with dense convolutions.
    """

    def __init__(self, channels: tuple[int, int, int, int, int] = (32, 64, 128, 192, 256)) -> None:
        super().__init__()
        self.channels = dict(zip((2, 4, 8, 16, 32), channels, strict=True))
        c2, c4, c8, c16, c32 = channels
        self.stem = OuterConv2d(3, c2, 5, stride=2, padding=2)
        self.stages = Stages(
            [
                nn.Sequential(ResidualBlock(c2, c4, stride=2), ResidualBlock(c4, c4)),
                nn.Sequential(ResidualBlock(c4, c8, stride=2), ResidualBlock(c8, c8)),
                nn.Sequential(ResidualBlock(c8, c16, stride=2), ResidualBlock(c16, c16)),
                nn.Sequential(ResidualBlock(c16, c32, stride=2), ResidualBlock(c32, c32)),
            ]
        )
        self.norms = nn.ModuleList([group_norm(c) for c in channels])

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[int, Float[Tensor, "b c h2 w2"]]:
        """Returns features by stride for RGB images in [0, 1] with height and width that are multiples of 32."""
        features = self.stages(self.stem((images - 0.45) / 0.25))
        normed = [norm(f) for norm, f in zip(self.norms, features, strict=True)]
        return dict(zip(self.channels, normed, strict=True))
