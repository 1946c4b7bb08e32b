"""The default image coder (backbone), and the choice of an image coder by name."""

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from iccld.errors import InputError
from iccld.labels import suggest
from iccld.models.efficientnet_lite import EfficientNetLite0Coder
from iccld.models.layers import ImageCoder, OuterConv2d, ResidualBlock, Stages, group_norm
from iccld.models.transformers_backbone import (
    MIT_NAMES,
    AutoBackboneCoder,
    MixTransformerCoder,
    offers_weights,
)
from iccld.plugins import find_class, is_outside

BACKBONE_NAMES = ("compact", "efficientnet_lite0", *MIT_NAMES)
"""Built-in backbone names. In addition, ``auto:<hub id or folder>`` selects any ``transformers`` AutoBackbone."""

_PRETRAINED_BACKBONES = ("efficientnet_lite0", "mit_", "auto:")


def pretrained_weights(backbone: str, pretrained: str) -> bool | str:
    """Returns ``True`` for published weights, ``False`` for random weights, or the folder or hub id of other weights.

    Args:
        backbone: Backbone name, as for ``build_image_coder``.
        pretrained: ``auto`` (published weights if there are any), ``yes``, ``no``, or a folder or hub id.

    Raises:
        InputError: The folder or hub id of an ``auto:`` backbone cannot be read.
    """
    if pretrained != "auto":
        return {"yes": True, "no": False}.get(pretrained, pretrained)
    if backbone not in BACKBONE_NAMES and is_outside("backbone", backbone):
        return _offers_weights(backbone)
    return backbone.startswith(_PRETRAINED_BACKBONES) and not lacks_weights(backbone, pretrained)


def lacks_weights(backbone: str, pretrained: str) -> bool:
    """Returns whether a backbone ``auto:FOLDER_OR_HUB_ID`` gets random weights because no pretrained weights exist.

    Raises:
        InputError: The folder or hub id of the backbone cannot be read.
    """
    kind, _, source = backbone.partition("auto:")
    return pretrained == "auto" and not kind and bool(source) and not offers_weights(source)


class CompactCoder(ImageCoder):
    """Small residual backbone that can be trained from scratch on a laptop.

    It has features at strides 2, 4, 8, 16 and 32 and about 3.6 million parameters. The 3×3 convolutions are dense
    instead of depthwise, because the matrix units of GPUs and CPUs are most efficient with dense convolutions.
    """

    def __init__(self, channels: tuple[int, int, int, int, int] = (32, 64, 128, 192, 256)) -> None:
        super().__init__()
        self.channels = dict(zip((2, 4, 8, 16, 32), channels, strict=True))
        self.stem = OuterConv2d(3, channels[0], 5, stride=2, padding=2)
        self.stages = Stages(
            nn.Sequential(ResidualBlock(finer, coarser, stride=2), ResidualBlock(coarser, coarser))
            for finer, coarser in pairwise(channels)
        )
        self.norms = nn.ModuleList(group_norm(c) for c in channels)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[int, Float[Tensor, "b c h2 w2"]]:
        """Returns features by stride. The images are RGB in [0, 1], with sides that are multiples of 32."""
        features = self.stages(self.stem((images - 0.45) / 0.25))
        return {s: norm(f) for s, norm, f in zip(self.channels, self.norms, features, strict=True)}


def build_image_coder(
    name: str, *, pretrained: bool | str = False, backbone_config: dict[str, Any] | None = None
) -> ImageCoder:
    """Builds a backbone by name.

    Args:
        name: Backbone name from ``BACKBONE_NAMES``, ``auto:<hub id or folder>``, or a backbone of another package (see
            ``iccld.plugins``). The class of such a backbone is a subclass of ``ImageCoder``. The class is called
            without arguments or, if it has the argument ``pretrained``, with ``pretrained=True`` or ``False``.
        pretrained: ``False`` gives random weights, ``True`` loads the published weights of the backbone. A string is
            the hub id or local folder of other weights (MiT only).
        backbone_config: ``transformers`` configuration that was stored with a model. If it is given, nothing is
            downloaded.

    Raises:
        InputError: The backbone is unknown, or its configuration or weights cannot be read.
    """
    if name == "compact":
        if pretrained:
            raise InputError("backbone compact: has no pretrained weights; leave 'pretrained' off")
        return CompactCoder()
    if name in MIT_NAMES:
        return MixTransformerCoder(name, pretrained=pretrained, config=backbone_config)
    if isinstance(pretrained, str) and name.startswith(("efficientnet_lite0", "auto:")):
        raise InputError(
            f"backbone {name}: takes no other weights than its own ('pretrained' is {pretrained!r}); "
            "say yes or no, or name the weights' own backbone as auto:<hub id or folder>"
        )
    if name == "efficientnet_lite0":
        return EfficientNetLite0Coder(pretrained=bool(pretrained))
    if name.startswith("auto:"):
        source = name.removeprefix("auto:")
        return AutoBackboneCoder(source, pretrained=bool(pretrained), config=backbone_config)
    if is_outside("backbone", name):
        made = find_class("backbone", name, ImageCoder)
        return made(pretrained=bool(pretrained)) if _offers_weights(name) else made()
    known = [*BACKBONE_NAMES, "auto:<hub id or folder>", "module:class"]
    raise InputError(f"unknown backbone {name!r}; {suggest(name, known)}")


def _offers_weights(name: str) -> bool:
    """Returns whether a backbone of another package has the argument ``pretrained``."""
    return "pretrained" in inspect.signature(find_class("backbone", name, ImageCoder)).parameters
