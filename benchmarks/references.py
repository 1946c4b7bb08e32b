"""Reference networks with random weights for timing: SegFormer, and a substitute for DDP."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iccld.compute import autocast
from iccld.models.image_coder import build_image_coder
from iccld.models.images import to_batch
from iccld.models.layers import ResidualBlock, TimeEmbedding, upsample_to
from iccld.models.transformers_backbone import MixTransformerCoder

# Xie et al. 2021, table 6: channels of the decoder.
_SEGFORMER_WIDTHS = {"mit_b0": 256, "mit_b1": 256}
_SEGFORMER_WIDTH = 768


class SegFormer(nn.Module):
    """SegFormer from ``transformers``, with the decoder width of the paper for the backbone (Xie et al. 2021).

    Args:
        backbone: Name of the backbone, ``mit_b0`` to ``mit_b5``.
        num_classes: Number of classes k.
    """

    def __init__(self, backbone: str, num_classes: int) -> None:
        super().__init__()
        from transformers import SegformerForSemanticSegmentation

        config = MixTransformerCoder(backbone).encoder.config
        config.num_labels = num_classes
        config.decoder_hidden_size = _SEGFORMER_WIDTHS.get(backbone, _SEGFORMER_WIDTH)
        self.network = SegformerForSemanticSegmentation(config)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits of images at stride 4."""
        logits: Tensor = self.network(images).logits
        return logits


class MapDiffusion(nn.Module):
    """A substitute for DDP (Ji et al. 2023): diffusion on the label map at stride 4, decoded to logits in each step.

    As in DDP's neck, features of strides 4 to 32 are projected to 256 channels at stride 4. Each step concatenates the
    features with the embedding of the noisy label map and applies two residual blocks of 256 channels. DDP has six
    layers of deformable attention instead.

    Args:
        backbone: Name of a backbone of this package.
        num_classes: Number of classes k.
        num_steps: Number of sampling steps.
        width: Number of channels.
    """

    def __init__(self, backbone: str, num_classes: int, num_steps: int = 3, width: int = 256) -> None:
        super().__init__()
        self.coder = build_image_coder(backbone)
        channels = {s: c for s, c in self.coder.channels.items() if s >= 4}
        self.necks = nn.ModuleDict({str(s): nn.Conv2d(c, width, 1) for s, c in channels.items()})
        self.merge = nn.Conv2d(width * len(channels), width, 1)
        self.embedding = nn.Embedding(num_classes, width)
        self.time = TimeEmbedding(width)
        self.join = nn.Conv2d(2 * width, width, 1)
        self.blocks = nn.ModuleList(ResidualBlock(width, width, time_channels=width) for _ in range(2))
        self.head = nn.Conv2d(width, num_classes, 1)
        self.num_steps, self.width = num_steps, width

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits of images at stride 4."""
        features = self.coder(images)
        size = (features[4].shape[-2], features[4].shape[-1])
        merged = self.merge(
            torch.cat([upsample_to(neck(features[int(s)]), size) for s, neck in self.necks.items()], dim=1)
        )
        state = torch.randn(len(images), self.width, *size).to(merged)
        logits = merged
        for step in range(self.num_steps):
            time = self.time(torch.full((len(images),), 1 - step / self.num_steps, device=images.device))
            x = self.join(torch.cat([merged, state], dim=1))
            for block in self.blocks:
                x = block(x, time)
            logits = self.head(x)
            if step + 1 < self.num_steps:
                state = self.embedding(logits.argmax(dim=1)).movedim(-1, 1) + 0.5 * state
        return logits


def segment(network: nn.Module, images: np.ndarray, precision: str) -> np.ndarray:
    """Predicts label maps at the size of the images: logits are upsampled, then argmax, as in SegFormer's own code.

    The memory layout is torch's default, in which SegFormer is faster on CPUs than in channels-last (1.69 s instead of
    1.93 s for MiT-B0 and one image of 512×1024, fp32, one thread).

    Args:
        network: Network that returns logits.
        images: uint8 images, (b, h, w, 3).
        precision: Precision of the autocast.

    Returns:
        uint8 label maps, (b, h, w).
    """
    with torch.inference_mode():
        device = next(network.parameters()).device
        batch = to_batch(images)[0].to(device)
        with autocast(device.type, precision):
            logits = network(batch)
            full = F.interpolate(logits, size=images.shape[1:3], mode="bilinear", align_corners=False)
            labels: np.ndarray = full.max(dim=1).indices.to(torch.uint8).cpu().numpy()
    return labels
