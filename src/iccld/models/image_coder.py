"""Builds the image coder (backbone) by name. Every backbone maps images to a pyramid of features."""

from __future__ import annotations

from typing import Any

from iccld.errors import InputError
from iccld.labels import suggest
from iccld.models.compact import CompactCoder
from iccld.models.efficientnet_lite import EfficientNetLite0Coder
from iccld.models.layers import ImageCoder
from iccld.models.transformers_backbone import (
    MIT_NAMES,
    AutoBackboneCoder,
    MixTransformerCoder,
    offers_weights,
)

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
    return backbone.startswith(_PRETRAINED_BACKBONES) and not lacks_weights(backbone, pretrained)


def lacks_weights(backbone: str, pretrained: str) -> bool:
    """Returns whether a backbone ``auto:FOLDER_OR_HUB_ID`` gets random weights because no pretrained weights exist.

    Raises:
        InputError: The folder or hub id of the backbone cannot be read.
    """
    kind, _, source = backbone.partition("auto:")
    return pretrained == "auto" and not kind and bool(source) and not offers_weights(source)


def build_image_coder(
    name: str, *, pretrained: bool | str = False, backbone_config: dict[str, Any] | None = None
) -> ImageCoder:
    """Builds a backbone by name.

    Args:
        name: Backbone name from ``BACKBONE_NAMES``, or ``auto:<hub id or folder>``.
        pretrained: ``False`` gives random weights, ``True`` loads the published weights of the backbone. A string is
            the hub id or local folder of other weights (MiT only).
        backbone_config: ``transformers`` configuration that was stored with a model. With it, nothing is downloaded.

    Raises:
        InputError: The name is unknown, or weights cannot be read.
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
        return AutoBackboneCoder(
            name.removeprefix("auto:"), pretrained=bool(pretrained), config=backbone_config
        )
    raise InputError(
        f"unknown backbone {name!r}; {suggest(name, [*BACKBONE_NAMES, 'auto:<hub id or folder>'])}"
    )
