"""Safe reading of ``transformers`` network configurations, from a stored model or a backbone folder.

A ``transformers`` configuration can refer to code to run, to other configurations and to weights to download. This
module drops or refuses all such references. Only networks of the types in ``BACKBONE_TYPES`` and ``MIT_TYPES`` can be
built. Only the keys that the network type itself defines are used, and the size of their values is limited.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from iccld.errors import InputError, first_line
from iccld.escaping import shortened

BACKBONE_TYPES = (
    *("beit", "bit", "convnext", "convnextv2", "dinov2", "dinov2_with_registers", "dinov3_convnext"),
    *(
        "dinov3_vit",
        "focalnet",
        "maskformer-swin",
        "pixio",
        "resnet",
        "rt_detr_resnet",
        "swin",
        "swinv2",
        "vitdet",
    ),
)
"""AutoBackbone types with four stages of feature maps, or with a single stride (plain vision transformers)."""
MIT_TYPES = ("segformer",)

# These keys make the ``transformers`` library run code from the folder, download files or read other weight formats.
_FORBIDDEN = (
    *("auto_map", "backbone", "backbone_config", "backbone_kwargs", "code_revision", "configuration_files"),
    *("quantization_config", "trust_remote_code", "use_pretrained_backbone", "use_timm_backbone"),
)
# These keys are derived from other keys, and do not change the networks built here.
_DERIVED = ("stage_names", "out_features", "out_indices", "_out_features", "_out_indices")
_LARGEST = 1 << 16
_MOST_PARTS = 256
_COUNTS = re.compile(r"depth|layers|stages|blocks|levels|experts|registers?_tokens")


def plain_config(value: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> Any:
    """Builds a ``transformers`` configuration object from the values of a ``config.json``.

    Keys that the network type does not define are dropped.

    Raises:
        InputError: The ``model_type`` is not in ``allowed``, a key refers to code or to a download, or a value is out
            of bounds. The message starts with ``where``.
    """
    for key in _FORBIDDEN:
        if value.get(key):
            raise InputError(
                f"{where}: its configuration has {key!r}, which may run code or fetch something, and neither is done; "
                "use a network that transformers itself has"
            )
    for key in ("attn_implementation", "_attn_implementation", "experts_implementation"):
        if not re.fullmatch(r"[a-z0-9_]{0,40}", str(value.get(key, ""))[:100].lower()):
            raise InputError(
                f"{where}: its configuration has {key!r} of {shortened(value[key])}; remove that key"
            )
    kind = value.get("model_type")
    if not isinstance(kind, str) or kind not in allowed:
        raise InputError(
            f"{where}: is no supported backbone but of the type {shortened(kind)}; choose one of {', '.join(allowed)}"
        )
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    keys = own_keys(CONFIG_MAPPING[kind])
    plain = {key: _checked(key, value[key], where) for key in value if key in keys}
    try:
        return CONFIG_MAPPING[kind](**plain)
    except Exception as error:  # configuration classes raise exceptions of many types
        raise InputError(f"{where}: its configuration cannot be used ({first_line(error)})") from error


def portable(config: Any) -> dict[str, Any]:
    """Returns the values of a configuration to store with a model, without paths. ``plain_config`` builds it again."""
    keys, stored = own_keys(type(config)), config.to_dict()
    return {"model_type": config.model_type} | {key: stored[key] for key in stored if key in keys}


def own_keys(kind: Any) -> frozenset[str]:
    """Returns the keys of the configuration class ``kind`` without those of every configuration and derived keys."""
    from transformers import PreTrainedConfig

    return frozenset(kind().to_dict()) - frozenset(PreTrainedConfig().to_dict()) - frozenset(_DERIVED)


def _checked(key: str, value: Any, where: str, depth: int = 0) -> Any:
    most = _MOST_PARTS if _COUNTS.search(key) else _LARGEST
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and -most <= value <= most:  # false for NaN too
        return value
    if isinstance(value, str) and re.fullmatch(r"[\w.-]{1,64}", value):
        return value
    if isinstance(value, list | tuple) and len(value) <= 64 and depth < 3:
        return [_checked(key, item, where, depth + 1) for item in value]
    raise InputError(
        f"{where}: {key} = {shortened(value)} of its configuration must be a number up to {most}, a short word, "
        "true, false, null or a list of at most 64 of these"
    )
