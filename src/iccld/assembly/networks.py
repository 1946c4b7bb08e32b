"""Networks of a configuration."""

from __future__ import annotations

import torch
from torch import nn

from iccld.adaptation.method import Method
from iccld.config import ModelConfig, TrainConfig
from iccld.labels import LabelSpace
from iccld.models.discriminator import OutputDiscriminator
from iccld.models.iccld import ICCLD
from iccld.models.light import light_width
from iccld.models.networks import LatentDiscriminator
from iccld.models.transformers_backbone import offers_weights

_PRETRAINED_BACKBONES = ("efficientnet_lite0", "mit_", "auto:")


def build_model(config: TrainConfig, label_space: LabelSpace) -> ICCLD:
    """Makes the segmenter; its random weights depend on the seed alone."""
    m = config.model
    torch.manual_seed(config.seed)
    return ICCLD(
        label_space,
        backbone=m.backbone,
        pretrained=pretrained_weights(m),
        latent_channels=m.latent_channels,
        width=m.width,
        context_links=m.context_links,
        detail_links=m.detail_links,
        diffusion=m.diffusion,
        reencoding=m.reencoding,
        light_steps=m.light_steps,
        input_height=config.data.target_size[0] if config.data.target_size else 0,
    )


def build_discriminator(config: TrainConfig, method: Method, label_space: LabelSpace) -> nn.Module | None:
    """Makes the discriminator if the method has an adversary."""
    if method.adversary is None:
        return None
    torch.manual_seed(config.seed + 1)
    if method.adversary.input in ("probabilities", "self_information"):
        return OutputDiscriminator(len(label_space))
    m = config.model
    of_features = light_width(m.width) if m.light_steps else m.width
    of_latents = method.adversary.input == "latents"
    return LatentDiscriminator(m.latent_channels if of_latents else of_features)


def pretrained_weights(m: ModelConfig) -> bool | str:
    """Whether a coder starts from published weights, or from which.

    Raises:
        InputError: the folder or hub id of an ``auto:`` backbone cannot be read.
    """
    if m.pretrained not in ("auto", "yes", "no"):
        return m.pretrained
    if m.pretrained != "auto":
        return m.pretrained == "yes"
    return m.backbone.startswith(_PRETRAINED_BACKBONES) and not lacks_weights(m)


def lacks_weights(m: ModelConfig) -> bool:
    """Whether the folder or hub id of an ``auto:`` backbone holds a configuration alone, though weights are wanted.

    Raises:
        InputError: it cannot be read.
    """
    kind, _, source = m.backbone.partition("auto:")
    return m.pretrained == "auto" and not kind and bool(source) and not offers_weights(source)
