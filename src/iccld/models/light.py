"""Light steps: denoiser and decoder work on the image once, and a sampling step is a few narrow layers.

``ImageNeck`` runs the U-Net over the image alone; ``LightDenoiser`` and ``LightDecoder`` read the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from iccld.models.layers import OuterConv2d, ResidualBlock, TimeEmbedding, UNet, group_norm, upsample_to
from iccld.models.networks import LATENT_STRIDE, LOGIT_GAIN, Denoiser, LabelDecoder
from iccld.models.storage import ModelSpec


def light_width(width: int) -> int:
    """Channels of what a light sampling step does at stride 8 and finer, in a model of some width."""
    return max(16, width // 3)


def build_heads(
    spec: ModelSpec, num_classes: int, channels: Mapping[int, int]
) -> tuple[nn.Module, LabelDecoder | LightDecoder, Denoiser | LightDenoiser]:
    """Makes neck, label decoder and denoiser of a model; only light steps have a neck that does something.

    Args:
        spec: of the model.
        num_classes: k.
        channels: stride → channels of the image coder.
    """
    d, width = spec.latent_channels, spec.width
    if not spec.light_steps:
        decoder = LabelDecoder(num_classes, d, channels, detail_links=spec.detail_links, width=width)
        return nn.Identity(), decoder, Denoiser(d, channels, context_links=spec.context_links, width=width)
    neck = ImageNeck(channels, context_links=spec.context_links, width=width)
    light = LightDecoder(num_classes, d, neck.channels, detail_links=spec.detail_links, width=width)
    return neck, light, LightDenoiser(d, neck.channels, width=width)


class ImageNeck(UNet):
    """The U-Net over the image alone: new features at stride 8 that know the coarser ones.

    Arguments are those of ``UNet``.
    """

    def __init__(
        self, image_channels: Mapping[int, int], *, context_links: bool = True, width: int = 96
    ) -> None:
        super().__init__(image_channels, context_links=context_links, width=width)
        self.channels = {**image_channels, 8: width}

    def forward(self, features: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """The image coder's features by stride, with new ones at stride 8."""
        size8 = (features[8].shape[-2], features[8].shape[-1])
        return {**features, 8: F.silu(self.run(self.project(features), size8, None, None))}


class LightDenoiser(nn.Module):
    """Equation 4 in a third of the channels, on features that ``ImageNeck`` has prepared once an image.

    Arguments are those of ``Denoiser``, with the channels that the neck gives at stride 8.
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

    def forward(
        self, noisy: Float[Tensor, "b d h w"], time: Float[Tensor, " b"], context: Sequence[Tensor]
    ) -> tuple[Float[Tensor, "b d h w"], Float[Tensor, "b c h w"]]:
        """Predicts the clean latent; arguments and result as ``Denoiser.forward``."""
        t = self.time(time)
        x8 = self.stem(noisy) + context[0]
        x16 = self.middle(self.down16(x8, t) + context[1], t)
        features = self.norm(x8 + upsample_to(self.reduce(x16), (x8.shape[-2], x8.shape[-1])))
        return self.out(F.silu(features)).float(), features


class LightDecoder(nn.Module):
    """Equation 7 with the convolutions moved to where they are done once an image.

    The *detail links* are a decoder of their own, from the neck's features at stride 8 to the finest stride, which
    ``project`` runs over the image. A latent joins its result after one convolution at stride 8 and passes pointwise
    layers from there on, so that further steps and noise draws cost little. Arguments are those of ``LabelDecoder``,
    with the channels that the neck gives at stride 8.
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
        return LOGIT_GAIN * logits
