"""The networks beside the image coder: denoiser U, label encoder E, label decoder D and discriminators C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from iccld.models.layers import OuterConv2d, ResidualBlock, TimeEmbedding, UNet, group_norm

NUM_DOMAINS = 3  # source, mixed, target
LATENT_STRIDE = 8

# The head's inputs are normalized, so sure answers need weights of order one, which Adam reaches only after about
# one over the learning rate steps. With the gain, reconstruction is as good after 40 steps as without after 200.
LOGIT_GAIN = 5.0


class Denoiser(UNet):
    """Equation 4: (z_t, t; image features) → predicted z_0.

    *Context links*: the image coder's features at strides 8, 16 and 32 join the U-Net at the matching scales. Without
    them the U-Net sees only the coarsest ones, at its input. ``project`` prepares them once for all sampling steps.

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

    def forward(
        self, noisy: Float[Tensor, "b d h w"], time: Float[Tensor, " b"], context: Sequence[Tensor]
    ) -> tuple[Float[Tensor, "b d h w"], Float[Tensor, "b c h w"]]:
        """Predicts z_0 from z_t, t in [0, 1] and what ``project`` gave; gives the features that it is read off too."""
        features = self.run(context, (noisy.shape[-2], noisy.shape[-1]), self.stem(noisy), time)
        clean: Tensor = self.out(F.silu(features))
        return clean.float(), features


class LabelEncoder(nn.Module):
    """Equation 1: label map → latent z_0 at stride 8 with unit root mean square in every cell.

    The unit scale gives the noise a known strength and stops the encoder from hiding labels from it.
    """

    def __init__(self, num_classes: int, latent_channels: int, width: int = 64) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.codes = nn.Conv2d(num_classes, latent_channels, 1, bias=False)
        self.stem = nn.Conv2d(num_classes, width, 3, stride=2, padding=1)
        self.block = ResidualBlock(width, width)
        self.norm = group_norm(width)
        self.out = nn.Conv2d(width, latent_channels, 1)
        # At first a latent is the mean of its classes' codes, which are as far apart as d allows: it is easy to decode,
        # and the goal of the denoiser hardly moves.
        nn.init.orthogonal_(self.codes.weight)
        nn.init.zeros_(self.out.weight)
        self.out.bias = nn.Parameter(torch.zeros(latent_channels))

    def forward(self, labels: Int[Tensor, "b h w"], stride: int = 1) -> Float[Tensor, "b d h2 w2"]:
        """Encodes labels of every ``stride``-th pixel (1, 2 or 4); those outside 0…k−1 count as no class at all."""
        classes = torch.arange(self.num_classes, device=labels.device)
        shares = (labels[..., None] == classes).to(self.stem.weight.dtype)
        shares = shares.movedim(-1, 1)  # channels last in memory, as the convolutions want it
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
        """Decodes a latent; ``size`` is the height and width of the images in pixels."""
        x = self.stem(latent)
        for index, stride in enumerate(self.strides):
            finer = (size[0] // stride, size[1] // stride)
            x = F.interpolate(self.reduce[index](x), size=finer, mode="bilinear", align_corners=False)
            if self.detail_links:
                x = x + details[index]
            x = self.blocks[index](x)
        logits: Tensor = self.head(F.silu(self.norm(x)))
        return LOGIT_GAIN * logits


class LatentDiscriminator(nn.Module):
    """A time-conditioned patch discriminator on latents (equation 9).

    Each output cell sees a patch of 5×5 latent cells (40×40 pixels), not whole scenes: the statistics of scenes, which
    differ between domains, then tell it less.
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

    Five convolutions of 4×4 cells and stride 2 end in one number for every patch: source (below 0) or target.
    """

    def __init__(self, num_classes: int, width: int = 64) -> None:
        super().__init__()
        widths = (num_classes, width, 2 * width, 4 * width, 8 * width, 1)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))

    def forward(
        self, maps: Float[Tensor, "b k h w"], time: Float[Tensor, " b"]
    ) -> Float[Tensor, "b 3 h2 w2"]:
        """Gives logits over source, mixed and target for every patch of maps of 32×32 pixels at least.

        Cross-entropy on them is the published binary one: source has 0, target the network's answer, mixed −∞.
        """
        for conv in self.convs[:-1]:
            maps = F.leaky_relu(conv(maps), 0.2)
        target = self.convs[-1](maps).float()
        return torch.cat([torch.zeros_like(target), torch.full_like(target, -torch.inf), target], dim=1)


@dataclass
class ImageFeatures:
    """Image features of a batch, projected for the denoiser (context) and the label decoder (details).

    Attributes:
        context: the context links.
        details: the detail links.
        coarse: the image coder's own features at stride 32.
        size: padded height and width in pixels.
        content: height and width of the images themselves.
    """

    context: list[Tensor]
    details: list[Tensor]
    coarse: Tensor
    size: tuple[int, int]
    content: tuple[int, int]

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width of the latent grid."""
        return self.size[0] // LATENT_STRIDE, self.size[1] // LATENT_STRIDE

    def take(self, rows: slice | Tensor) -> ImageFeatures:
        """The features of some of the images; rows may repeat."""
        context, details = ([x[rows] for x in links] for links in (self.context, self.details))
        return ImageFeatures(context, details, self.coarse[rows], self.size, self.content)

    def repeat(self, times: int) -> ImageFeatures:
        """Each image ``times`` times in a row."""
        maps = [self.coarse, *self.context, *self.details]
        coarse, *links = (x.repeat_interleave(times, dim=0) for x in maps)
        num = len(self.context)
        return ImageFeatures(links[:num], links[num:], coarse, self.size, self.content)


@dataclass
class TrainingOutput:
    """What one training pass gives; n images of which the first m are labeled.

    Attributes:
        logits: of D(z_hat_0), first m images (all n if asked for), at the decoder's stride.
        denoised: z_hat_0 of all n images.
        features: the denoiser's last features, of all n images.
        coarse: the image coder's features at stride 32, of all n images.
        times: diffusion times of all n images, as they were used: 1 without diffusion.
        reconstruction: of D(z_0 + small noise), first r of the labeled images; None without the label coder.
        clean: z_0 of the first m images, without gradient; None without the label coder.
    """

    logits: Float[Tensor, "_ k h w"]
    denoised: Float[Tensor, "n d h2 w2"]
    features: Float[Tensor, "n c h2 w2"]
    coarse: Float[Tensor, "n c3 h3 w3"]
    times: Float[Tensor, " n"]
    reconstruction: Float[Tensor, "r k h w"] | None = None
    clean: Float[Tensor, "m d h2 w2"] | None = None
