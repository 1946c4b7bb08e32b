"""The label coder: label map → latent (encoder E) and latent → logits (decoder D, with the detail links)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from iccld.models.layers import OuterConv2d, ResidualBlock, group_norm, light_width, upsample_to

LATENT_STRIDE = 8

# The head's inputs are normalized, so sure answers need weights of order one, which Adam reaches only after about
# one over the learning rate steps. With the gain, reconstruction is as good after 40 steps as without after 200.
_LOGIT_GAIN = 5.0


class LabelEncoder(nn.Module):
    """Equation 1: label map → latent z_0 at stride 8 with unit root mean square in every cell.

    The unit scale gives the noise a known strength and stops the encoder from hiding labels from it.

    Args:
        num_classes: k.
        latent_channels: d.
        width: hidden channels.
    """

    def __init__(self, num_classes: int, latent_channels: int, width: int = 64) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.codes = nn.Conv2d(num_classes, latent_channels, 1, bias=False)
        self.stem = nn.Conv2d(num_classes, width, 3, stride=2, padding=1)
        self.block = ResidualBlock(width, width)
        self.norm = group_norm(width)
        self.out = nn.Conv2d(width, latent_channels, 1)
        # At first a latent is the mean of its classes' codes, which are as far apart as d allows: easy to decode and
        # a goal for the denoiser that stands still. What shape and context add is learned from there.
        nn.init.orthogonal_(self.codes.weight)
        nn.init.zeros_(self.out.weight)
        self.out.bias = nn.Parameter(torch.zeros(latent_channels))

    def forward(self, labels: Int[Tensor, "b h w"], stride: int = 1) -> Float[Tensor, "b d h2 w2"]:
        """Encodes labels; anything outside 0…k−1 (255 = ignore) counts as no class at all.

        Args:
            labels: of the image's pixels, or of every ``stride``-th.
            stride: 1, 2 or 4.
        """
        classes = torch.arange(self.num_classes, device=labels.device)
        one_hot = (labels[..., None] == classes).to(self.stem.weight.dtype)
        shares = one_hot.movedim(-1, 1)  # channels last in memory, as the convolutions want it
        if stride < 4:
            shares = F.avg_pool2d(shares, 4 // stride)
        latent = self.codes(F.avg_pool2d(shares, 2)) + self.out(
            F.silu(self.norm(self.block(self.stem(shares))))
        )
        return unit_rms(latent.float())


def unit_rms(latent: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
    """Scales every cell's vector to root mean square 1."""
    return latent * torch.rsqrt(latent.square().mean(dim=1, keepdim=True) + 1e-6)


class LabelDecoder(nn.Module):
    """Equation 7: latent at stride 8 → logits at the finest stride of the image coder.

    *Detail links*: features of the image coder at strides 4 and 2 (where the backbone has them) join at the
    matching scale, so that thin things survive the coarse latent grid.

    Args:
        num_classes: k.
        latent_channels: d.
        image_channels: stride → channels of the image coder.
        detail_links: False leaves the links out; the decoder then sees the latent alone.
        width: channels at stride 8; halved at each finer stride, but at least 32.
    """

    def __init__(
        self,
        num_classes: int,
        latent_channels: int,
        image_channels: Mapping[int, int],
        *,
        detail_links: bool = True,
        width: int = 96,
    ) -> None:
        super().__init__()
        self.strides = sorted((s for s in image_channels if s < LATENT_STRIDE), reverse=True)
        self.out_stride = self.strides[-1]
        self.stem = nn.Conv2d(latent_channels, width, 3, padding=1)
        self.links = nn.ModuleList()
        self.blocks = nn.ModuleList()
        self.reduce = nn.ModuleList()
        channels = width
        for stride in self.strides:
            out_channels = max(32, channels // 2)
            self.reduce.append(nn.Conv2d(channels, out_channels, 1))
            self.links.append(
                nn.Conv2d(image_channels[stride], out_channels, 1) if detail_links else nn.Identity()
            )
            self.blocks.append(ResidualBlock(out_channels, out_channels))
            channels = out_channels
        self.detail_links = detail_links
        self.norm = group_norm(channels)
        self.head = OuterConv2d(channels, num_classes, 1)

    def project(self, features: Mapping[int, Tensor]) -> list[Tensor]:
        """Prepares the detail links of a batch once, however many latents are decoded with them."""
        if not self.detail_links:
            return []
        return [link(features[s]) for link, s in zip(self.links, self.strides, strict=True)]

    def forward(
        self, latent: Float[Tensor, "b d h w"], details: Sequence[Tensor], size: tuple[int, int]
    ) -> Float[Tensor, "b k h2 w2"]:
        """Decodes a latent.

        Args:
            latent: z.
            details: what ``project`` gave for the same images.
            size: the height and width of the image in pixels.
        """
        x = self.stem(latent)
        for index, stride in enumerate(self.strides):
            x = upsample_to(self.reduce[index](x), (size[0] // stride, size[1] // stride))
            if self.detail_links:
                x = x + details[index]
            x = self.blocks[index](x)
        logits: Tensor = self.head(F.silu(self.norm(x)))
        return _LOGIT_GAIN * logits


class LightDecoder(nn.Module):
    """Equation 7 with the convolutions moved to where they are done once an image.

    The *detail links* are a decoder of their own, from the neck's features at stride 8 to the finest stride, which
    ``project`` runs over the image. A latent joins its result after one convolution at stride 8 and passes pointwise
    layers from there on, so that further steps and noise draws cost little.

    Args:
        num_classes: k.
        latent_channels: d.
        image_channels: stride → channels, of the neck's features at stride 8.
        detail_links: False leaves the image out; the decoder then sees the latent alone.
        width: channels at stride 8 on the image's side, halved at each finer stride, but at least 32; a third of it
            join the latent, at least 16.
    """

    def __init__(
        self,
        num_classes: int,
        latent_channels: int,
        image_channels: Mapping[int, int],
        *,
        detail_links: bool = True,
        width: int = 96,
    ) -> None:
        super().__init__()
        channels = light_width(width)
        self.strides = sorted((s for s in image_channels if s < LATENT_STRIDE), reverse=True)
        self.out_stride = self.strides[-1]
        self.detail_links = detail_links
        self.stem = nn.Conv2d(latent_channels, channels, 3, padding=1)
        self.reduce, self.links, self.blocks = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        if detail_links:
            before = image_channels[LATENT_STRIDE]
            for stride in self.strides:
                after = max(32, before // 2)
                self.reduce.append(nn.Conv2d(before, after, 1))
                self.links.append(nn.Conv2d(image_channels[stride], after, 1))
                self.blocks.append(ResidualBlock(after, after))
                before = after
            self.join = nn.Conv2d(before, channels, 1)
        self.norm1 = group_norm(channels)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.norm2 = group_norm(channels)
        self.head = OuterConv2d(channels, num_classes, 1)

    def project(self, features: Mapping[int, Tensor]) -> list[Tensor]:
        """Runs the image's side of a batch once, however many latents are decoded with it."""
        if not self.detail_links:
            return []
        x = features[LATENT_STRIDE]
        for reduce, link, block, stride in zip(
            self.reduce, self.links, self.blocks, self.strides, strict=True
        ):
            detail = link(features[stride])
            x = block(upsample_to(reduce(x), (detail.shape[-2], detail.shape[-1])) + detail)
        return [self.join(x)]

    def forward(
        self, latent: Float[Tensor, "b d h w"], details: Sequence[Tensor], size: tuple[int, int]
    ) -> Float[Tensor, "b k h2 w2"]:
        """Decodes a latent; arguments as ``LabelDecoder.forward``."""
        x = upsample_to(self.stem(latent), (size[0] // self.out_stride, size[1] // self.out_stride))
        if self.detail_links:
            x = x + details[0]
        # Not SiLU: on CPUs its exponentials would be a tenth of a step.
        x = x + self.mix(F.relu(self.norm1(x)))
        logits: Tensor = self.head(F.relu(self.norm2(x)))
        return _LOGIT_GAIN * logits
