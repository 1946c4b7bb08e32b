"""Light steps: most layers run once per image, and each sampling step runs only a few narrow layers.

``ImageNeck`` is a U-Net on image features, which runs once per image. ``LightDenoiser`` and ``LightDecoder`` use the
output of ``ImageNeck``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from iccld.models.layers import OuterConv2d, ResidualBlock, TimeEmbedding, UNet, group_norm, upsample_to
from iccld.models.networks import LATENT_STRIDE, LOGIT_GAIN, Denoiser, LabelDecoder, Latents, Logits, Times
from iccld.models.storage import ModelSpec


def light_width(width: int) -> int:
    """Returns the number of channels of the light networks at stride 8 and finer, for a model of width ``width``."""
    return max(16, width // 3)


def build_heads(
    spec: ModelSpec, num_classes: int, channels: Mapping[int, int]
) -> tuple[nn.Module, LabelDecoder | LightDecoder, Denoiser | LightDenoiser]:
    """Builds the neck, the label decoder and the denoiser of a model.

    The neck transforms the features of the image coder once per image. Without light steps, the neck returns the
    features unchanged. ``channels`` maps each stride of the image coder to its number of channels.
    """
    d, width = spec.latent_channels, spec.width
    if not spec.light_steps:
        decoder = LabelDecoder(num_classes, d, channels, detail_links=spec.detail_links, width=width)
        return nn.Identity(), decoder, Denoiser(d, channels, context_links=spec.context_links, width=width)
    neck = ImageNeck(channels, context_links=spec.context_links, width=width)
    light = LightDecoder(num_classes, d, neck.channels, detail_links=spec.detail_links, width=width)
    return neck, light, LightDenoiser(d, neck.channels, width=width)


class ImageNeck(UNet):
    """U-Net on image features without a latent. Arguments are those of ``UNet``."""

    def __init__(
        self, image_channels: Mapping[int, int], *, context_links: bool = True, width: int = 96
    ) -> None:
        super().__init__(image_channels, context_links=context_links, width=width)
        self.channels = {**image_channels, 8: width}

    def forward(self, features: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Returns the image coder's features by stride. At stride 8, the U-Net's output replaces the features."""
        combined = self.run(self.project(features), features[8].shape[-2:])
        return {**features, 8: F.silu(combined)}


class LightDenoiser(nn.Module):
    """Denoiser of equation 4 with a third of the channels, on features that ``ImageNeck`` computes once per image.

    ``image_channels`` are the numbers of channels of the neck. The other arguments are those of ``Denoiser``.
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
        """Projects image features. One call per batch is enough for all sampling steps."""
        return [self.context8(features[8]), self.context16(features[8])]

    def forward(
        self, noisy: Latents, time: Times, context: Sequence[Tensor]
    ) -> tuple[Latents, Float[Tensor, "b c h w"]]:
        """Predicts the clean latent. Arguments and results are those of ``Denoiser.forward``."""
        t = self.time(time)
        x8 = self.stem(noisy) + context[0]
        x16 = self.middle(self.down16(x8, t) + context[1], t)
        features = self.norm(x8 + upsample_to(self.reduce(x16), x8.shape[-2:]))
        return self.out(F.silu(features)).float(), features


class LightDecoder(nn.Module):
    """Label decoder of equation 7 whose convolutions over image features run only once per image.

    The *detail links* are a separate image decoder, which decodes the neck's features at stride 8 to the finest stride.
    ``project`` runs this image decoder once per image. A latent passes one convolution at stride 8, is interpolated and
    added to the decoded image features. Only normalizations and 1×1 convolutions follow. Further sampling steps and
    noise draws are therefore cheap.

    ``image_channels`` are the numbers of channels of the neck. The other arguments are those of ``LabelDecoder``.
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
        """Decodes image features. One call per batch is enough for any number of latents."""
        if not self.detail_links:
            return []
        x = features[LATENT_STRIDE]
        levels = zip(self.reduce, self.links, self.blocks, self.strides, strict=True)
        for reduce, link, block, stride in levels:
            detail = link(features[stride])
            x = block(upsample_to(reduce(x), detail.shape[-2:]) + detail)
        return [self.join(x)]

    def forward(self, latent: Latents, details: Sequence[Tensor], size: tuple[int, int]) -> Logits:
        """Decodes a latent to logits. Arguments are those of ``LabelDecoder.forward``."""
        x = upsample_to(self.stem(latent), (size[0] // self.out_stride, size[1] // self.out_stride))
        if self.detail_links:
            x = x + details[0]
        # ReLU, because the exponentials of SiLU would take a tenth of a sampling step's time on CPUs.
        x = x + self.mix(F.relu(self.norm1(x)))
        return LOGIT_GAIN * self.head(F.relu(self.norm2(x)))
