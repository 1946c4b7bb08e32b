"""Denoiser U, label encoder E, label decoder D and discriminators C. ``light`` has variants of U and D."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from iccld.models.layers import OuterConv2d, ResidualBlock, TimeEmbedding, UNet, group_norm

NUM_DOMAINS = 3  # source, mixed, target
LATENT_STRIDE = 8

Latents = Float[Tensor, "b d h w"]
"""Latents of b images with d channels, at stride 8."""
Logits = Float[Tensor, "b k h2 w2"]
"""Logits or probabilities of k classes at the stride of the label decoder."""
Times = Float[Tensor, " b"]
"""Diffusion times of b images, in [0, 1]."""

# Factor of the logits. The inputs of the last layer are normalized, so large logits need weights of about 1. Adam
# reaches such weights only after about 1 / (learning rate) steps. With this factor, label reconstruction is as good
# after 40 steps as after 200 steps without the factor.
LOGIT_GAIN = 5.0


class Denoiser(UNet):
    """Denoiser of equation 4: predicts z_0 from z_t, t and image features.

    *Context links*: the image coder's features at strides 8, 16 and 32 enter the U-Net at the same strides. Without
    these links, only the features at stride 32 are used, at the input of the U-Net. ``project`` prepares the features
    once per batch for all sampling steps. Arguments are those of ``UNet``.
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
        self, noisy: Latents, time: Times, context: Sequence[Tensor]
    ) -> tuple[Latents, Float[Tensor, "b c h w"]]:
        """Predicts z_0 from z_t and the output of ``project``. Also returns the features before the last activation."""
        features = self.run(context, noisy.shape[-2:], self.stem(noisy), time)
        return self.out(F.silu(features)).float(), features


class LabelEncoder(nn.Module):
    """Label encoder of equation 1: maps label maps to latents z_0 at stride 8 with unit root mean square in every cell.

    With this scale, the signal-to-noise ratio depends only on t. Training can therefore not raise the ratio by larger
    latents.
    """

    def __init__(self, num_classes: int, latent_channels: int, width: int = 64) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.codes = nn.Conv2d(num_classes, latent_channels, 1, bias=False)
        self.stem = nn.Conv2d(num_classes, width, 3, stride=2, padding=1)
        self.block = ResidualBlock(width, width)
        self.norm = group_norm(width)
        self.out = nn.Conv2d(width, latent_channels, 1)
        # At initialization, each class has a code vector, and the latent of a cell is the scaled mean code of the
        # cell's pixels. The codes are as orthogonal as d dimensions allow. Such latents are easy to decode and change
        # little in training.
        nn.init.orthogonal_(self.codes.weight)
        nn.init.zeros_(self.out.weight)
        self.out.bias = nn.Parameter(torch.zeros(latent_channels))

    def forward(self, labels: Int[Tensor, "b h w"], stride: int = 1) -> Float[Tensor, "b d h2 w2"]:
        """Encodes label maps of stride 1, 2 or 4. Labels outside 0…k−1 count as no class."""
        classes = torch.arange(self.num_classes, device=labels.device)
        shares = (labels[..., None] == classes).to(self.stem.weight.dtype)
        shares = shares.movedim(-1, 1)  # channels-last in memory, like the weights of the convolutions
        if stride < 4:
            shares = F.avg_pool2d(shares, 4 // stride)
        codes = self.codes(F.avg_pool2d(shares, 2))
        latent = codes + self.out(F.silu(self.norm(self.block(self.stem(shares)))))
        return unit_rms(latent.float())


def unit_rms(latent: Latents) -> Latents:
    """Scales the channel vector of every latent cell to root mean square 1."""
    return latent * torch.rsqrt(latent.square().mean(dim=1, keepdim=True) + 1e-6)


class LabelDecoder(nn.Module):
    """Label decoder of equation 7: maps latents at stride 8 to logits at the finest stride of the image coder.

    *Detail links*: the image coder's features at strides 4 and 2 (if the backbone has these strides) are added to the
    decoder's features at the same stride. The image features show thin objects, for which the latent grid is too
    coarse.

    Args:
        num_classes: Number k of classes.
        latent_channels: Number d of latent channels.
        image_channels: Number of channels of the image coder by stride.
        detail_links: Whether the detail links are used. ``False`` decodes the latent alone.
        width: Number of channels at stride 8. The number is halved at each finer stride, but is at least 32.
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
        self.detail_links = detail_links
        self.stem = nn.Conv2d(latent_channels, width, 3, padding=1)
        self.links, self.blocks, self.reduce = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        channels = width
        for stride in self.strides:
            finer = max(32, channels // 2)
            self.reduce.append(nn.Conv2d(channels, finer, 1))
            self.links.append(nn.Conv2d(image_channels[stride], finer, 1) if detail_links else nn.Identity())
            self.blocks.append(ResidualBlock(finer, finer))
            channels = finer
        self.norm = group_norm(channels)
        self.head = OuterConv2d(channels, num_classes, 1)

    def project(self, features: Mapping[int, Tensor]) -> list[Tensor]:
        """Projects image features for the detail links. One call per batch is enough for any number of latents."""
        if not self.detail_links:
            return []
        return [link(features[s]) for link, s in zip(self.links, self.strides, strict=True)]

    def forward(self, latent: Latents, details: Sequence[Tensor], size: tuple[int, int]) -> Logits:
        """Decodes latents to logits.

        ``details`` is the output of ``project``. ``size`` is the height and width of the padded images in pixels.
        """
        x = self.stem(latent)
        for index, stride in enumerate(self.strides):
            finer = (size[0] // stride, size[1] // stride)
            x = F.interpolate(self.reduce[index](x), size=finer, mode="bilinear", align_corners=False)
            if self.detail_links:
                x = x + details[index]
            x = self.blocks[index](x)
        return LOGIT_GAIN * self.head(F.silu(self.norm(x)))


class LatentDiscriminator(nn.Module):
    """Patch discriminator on latents, conditioned on the diffusion time (equation 9).

    Each output cell has a receptive field of only 5×5 latent cells (40×40 pixels). Domains differ in the statistics of
    whole scenes, which a discriminator with a small receptive field can hardly measure.
    """

    def __init__(self, latent_channels: int, width: int = 64) -> None:
        super().__init__()
        self.time = TimeEmbedding(width)
        self.conv1 = nn.Conv2d(latent_channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.out = nn.Conv2d(2 * width, NUM_DOMAINS, 1)
        self.film = nn.Linear(width, 2 * width)

    def forward(self, latent: Latents, time: Times) -> Float[Tensor, "b 3 h2 w2"]:
        """Returns logits over source, mixed and target for every patch."""
        scale, shift = self.film(self.time(time))[:, :, None, None].chunk(2, dim=1)
        x = F.leaky_relu(self.conv1(latent) * (1 + scale) + shift, 0.2)
        return self.out(F.leaky_relu(self.conv2(x), 0.2)).float()


class OutputDiscriminator(nn.Module):
    """Discriminator of AdaptSegNet (Tsai et al. 2018) and ADVENT.

    The input has the size of the image and one channel per class. Five 4×4 convolutions of stride 2 give one value per
    patch. The value is trained to be negative for source images and positive for target images.
    """

    def __init__(self, num_classes: int, width: int = 64) -> None:
        super().__init__()
        widths = (num_classes, width, 2 * width, 4 * width, 8 * width, 1)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))

    def forward(self, maps: Float[Tensor, "b k h w"], time: Times) -> Float[Tensor, "b 3 h2 w2"]:
        """Returns logits over source, mixed and target for every patch. The maps must have at least 32×32 pixels.

        The source logit is 0, the target logit is the output of the network and the mixed logit is −∞. Cross-entropy on
        these logits equals the published binary cross-entropy.
        """
        for conv in self.convs[:-1]:
            maps = F.leaky_relu(conv(maps), 0.2)
        target = self.convs[-1](maps).float()
        return torch.cat([torch.zeros_like(target), torch.full_like(target, -torch.inf), target], dim=1)


@dataclass
class ImageFeatures:
    """Image features of a batch.

    Attributes:
        context: Features that the denoiser projected for the context links.
        details: Features that the label decoder projected for the detail links.
        coarse: Features of the image coder at stride 32, without projection.
        size: Height and width of the padded images in pixels.
        content: Height and width of the images before padding, in pixels.
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
        """Returns the features of the images with the indices ``rows``. The indices can contain duplicates."""
        return self._changed(lambda x: x[rows])

    def repeat(self, times: int) -> ImageFeatures:
        """Returns the features of a batch in which each image is repeated ``times`` times in a row."""
        return self._changed(lambda x: x.repeat_interleave(times, dim=0))

    def _changed(self, change: Callable[[Tensor], Tensor]) -> ImageFeatures:
        context, details = ([change(x) for x in links] for links in (self.context, self.details))
        return replace(self, context=context, details=details, coarse=change(self.coarse))


@dataclass
class TrainingOutput:
    """Output of one training pass over n images.

    The first m images are labeled. The labels of the first r of these are also reconstructed (r ≤ m).

    Attributes:
        logits: Logits D(z_hat_0) of the first m images (or of all n images if requested), at the decoder's stride.
        denoised: Predicted latents z_hat_0 of all n images.
        features: Last features of the denoiser, of all n images.
        coarse: Features of the image coder at stride 32, of all n images.
        times: Diffusion times of all n images. Without diffusion, all times are 1.
        reconstruction: Logits D(z_0 + small noise) of the first r images. ``None`` without the label coder.
        clean: Latents z_0 of the first m images, without gradient. ``None`` without the label coder.
    """

    logits: Float[Tensor, "_ k h w"]
    denoised: Float[Tensor, "n d h2 w2"]
    features: Float[Tensor, "n c h2 w2"]
    coarse: Float[Tensor, "n c3 h3 w3"]
    times: Float[Tensor, " n"]
    reconstruction: Float[Tensor, "r k h w"] | None = None
    clean: Float[Tensor, "m d h2 w2"] | None = None
