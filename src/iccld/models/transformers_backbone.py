"""Image coders from the ``transformers`` library: SegFormer's MiT-B0…B5, and AutoBackbones of the supported types.

The configuration of a stored model or of a backbone folder can refer to code, to other configurations or to weights on
the hub. All such references are ignored or refused. Only networks of the types in ``_BACKBONE_TYPES`` and
``_MIT_TYPES`` can be built. Only keys that the network type itself defines are used, and the values of these keys are
limited.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from iccld.documents import read_json
from iccld.errors import InputError, first_line
from iccld.escaping import drawing_on_stderr, shortened
from iccld.models.hub import fetch, split_id
from iccld.models.layers import ImageCoder, upsample_to

# Depths of MiT-B0 to B5 (Xie et al. 2021, SegFormer, table 6). B0 is narrower than the other networks.
_DEPTHS = ([2, 2, 2, 2], [2, 2, 2, 2], [3, 4, 6, 3], [3, 4, 18, 3], [3, 8, 27, 3], [3, 6, 40, 3])
_NARROW, _WIDE = [32, 64, 160, 256], [64, 128, 320, 512]
MIT_NAMES = tuple(f"mit_b{number}" for number in range(len(_DEPTHS)))

# Weights from these hub ids can be pickle files, from which only tensors are loaded. All other weights must be
# safetensors files.
_PUBLISHED = {name: f"nvidia/{name.replace('_', '-')}" for name in MIT_NAMES}

_WEIGHTS, _PICKLE = "model.safetensors", "pytorch_model.bin"
_FILES = ("config.json", _WEIGHTS, f"{_WEIGHTS}.index.json", "model-*-of-*.safetensors")
_REMEDY = "give a hub id that you can reach or a local folder with config.json and model.safetensors"

_BACKBONE_TYPES = (
    *("beit", "bit", "convnext", "convnextv2", "dinov2", "dinov2_with_registers", "dinov3_convnext"),
    *("dinov3_vit", "focalnet", "maskformer-swin", "pixio", "resnet", "rt_detr_resnet"),
    *("swin", "swinv2", "vitdet"),
)
"""AutoBackbone types with four stages of feature maps, or with a single stride (plain vision transformers)."""
_MIT_TYPES = ("segformer",)

# These keys make the ``transformers`` library run code from the folder, download files or read other weight formats.
_FORBIDDEN = (
    *("auto_map", "backbone", "backbone_config", "backbone_kwargs", "code_revision", "configuration_files"),
    *("quantization_config", "trust_remote_code", "use_pretrained_backbone", "use_timm_backbone"),
)
# These keys are derived from other keys, and do not change the networks built here.
_DERIVED = ("stage_names", "out_features", "out_indices", "_out_features", "_out_indices")
_LARGEST, _MOST_PARTS = 1 << 16, 256
_COUNTS = re.compile(r"depth|layers|stages|blocks|levels|experts|registers?_tokens")


class _NormalizedCoder(ImageCoder):
    """Base class of coders whose inputs are normalized with ImageNet's mean and standard deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, levels in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
            self.register_buffer(name, torch.tensor(levels).view(3, 1, 1), persistent=False)


class MixTransformerCoder(_NormalizedCoder):
    """SegFormer's Mix Transformer (MiT-B0 … B5) with features at strides 4, 8, 16 and 32.

    Args:
        name: ``mit_b0`` … ``mit_b5``.
        pretrained: ``False`` gives random weights, ``True`` loads ``nvidia/<name>`` (ImageNet) from the hub. A string
            is the hub id or local folder of other weights.
        config: Stored configuration from which the backbone is built with random weights.
    """

    def __init__(
        self, name: str, *, pretrained: bool | str = False, config: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        from transformers import SegformerConfig, SegformerModel

        if config is not None:
            self.encoder = SegformerModel(_plain_config(config, _MIT_TYPES, f"backbone {name}"))
        elif pretrained:
            source = pretrained if isinstance(pretrained, str) else _PUBLISHED[name]
            folder = _folder_of(source)
            read = _read_config(source, folder, _MIT_TYPES)
            self.encoder = _load_weights(SegformerModel, source, folder, read)
        else:
            sizes, depths = _NARROW if name == "mit_b0" else _WIDE, _DEPTHS[MIT_NAMES.index(name)]
            self.encoder = SegformerModel(SegformerConfig(hidden_sizes=sizes, depths=depths))
        if config is not None or pretrained:  # the configuration can differ from the table above
            self.backbone_config = _portable(self.encoder.config)
        self.channels = dict(zip((4, 8, 16, 32), self.encoder.config.hidden_sizes, strict=True))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[int, Float[Tensor, "b c h2 w2"]]:
        """Returns features by stride. The images are RGB in [0, 1], with sides that are multiples of 32."""
        outputs = self.encoder((images - self.mean) / self.std, output_hidden_states=True)
        return dict(zip(self.channels, outputs.hidden_states, strict=True))


class AutoBackboneCoder(_NormalizedCoder):
    """Any supported ``transformers`` AutoBackbone, such as ConvNeXt V2, Swin, DINOv2 and DINOv3.

    A backbone with several strides returns its own pyramid. A plain vision transformer has a single stride. In this
    case, the feature maps of four layers are resampled to strides 4, 8, 16 and 32 (a simple feature pyramid, Li et al.
    2022), and the image is resized so that a patch covers 16×16 pixels of the original image.

    Args:
        source: Hub id or local folder that contains at least ``config.json``.
        pretrained: Whether the weights are loaded. ``False`` gives random weights.
        config: Stored configuration from which the backbone is built with random weights. ``source`` is then not read.
    """

    def __init__(
        self, source: str, *, pretrained: bool = False, config: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        from transformers import AutoBackbone

        if config is None:
            folder = _folder_of(source)
            loaded = _read_config(source, folder, _BACKBONE_TYPES)
        else:
            loaded = _plain_config(config, _BACKBONE_TYPES, f"backbone {source}")
        num_layers = getattr(loaded, "num_hidden_layers", 0)
        is_plain = not hasattr(loaded, "depths")
        patch_size = getattr(loaded, "patch_size", None) if is_plain else None
        self.patch_size = patch_size if isinstance(patch_size, int) else 0
        if is_plain and num_layers:
            indices = [max(1, round(num_layers * share)) for share in (0.25, 0.5, 0.75, 1.0)]
        else:
            indices = list(range(1, len(getattr(loaded, "stage_names", ()))))
        self.backbone_config = _portable(loaded)
        try:
            loaded.out_indices = indices
            loaded.dtype = torch.float32  # instead of the checkpoint's dtype
            self.backbone = AutoBackbone.from_config(loaded, trust_remote_code=False)
        except Exception as error:  # networks raise exceptions of many types for wrong sizes
            problem = f"cannot be built of its configuration ({first_line(error)})"
            raise InputError(f"backbone {source}: {problem}") from error
        if pretrained and config is None:
            # ``AutoBackbone.from_pretrained`` would query the hub even for a local folder. The concrete class does not.
            self.backbone = _load_weights(type(self.backbone), source, folder, loaded)
        channels = list(self.backbone.channels)
        if len(channels) != 4:
            problem = f"has {len(channels)} stages; choose one with 4 (or a plain ViT)"
            raise InputError(f"backbone {source}: {problem}")
        self.channels = dict(zip((4, 8, 16, 32), channels, strict=True))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[int, Float[Tensor, "b c h2 w2"]]:
        """Returns features by stride. The images are RGB in [0, 1], with sides that are multiples of 32."""
        height, width = images.shape[-2:]
        x = (images - self.mean) / self.std
        if self.patch_size and self.patch_size != 16:
            scaled = (height // 16 * self.patch_size, width // 16 * self.patch_size)
            x = F.interpolate(x, size=scaled, mode="bilinear", align_corners=False, antialias=True)
        maps = self.backbone(x).feature_maps
        sizes = {stride: (height // stride, width // stride) for stride in self.channels}
        return {s: upsample_to(m, sizes[s]) for s, m in zip(self.channels, maps, strict=True)}


def offers_weights(source: str) -> bool:
    """Returns whether the folder or hub id of a backbone contains weights in addition to its configuration."""
    folder = _folder_of(source)
    return any((folder / name).exists() for name in (_WEIGHTS, f"{_WEIGHTS}.index.json"))


def _folder_of(source: str) -> Path:
    """Returns ``source`` if it is a local folder. Otherwise, downloads the hub repository and returns its folder."""
    if Path(source).is_dir():
        return Path(source)
    found = split_id(source)
    if found is None:
        raise InputError(f"backbone {source}: cannot be read (no such folder); {_REMEDY}")
    return fetch(*found, (*_FILES, _PICKLE) if source in _PUBLISHED.values() else _FILES)


def _read_config(source: str, folder: Path, allowed: tuple[str, ...]) -> Any:
    """Reads the ``config.json`` of a folder, without running any code."""
    where, path = f"backbone {source}", folder / "config.json"
    if not path.exists():
        raise InputError(f"{where}: cannot be read (it has no config.json); {_REMEDY}")
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{where}: {path} is no configuration of a network")
    adapter = folder / "adapter_config.json"
    if adapter.exists():  # it can refer to another network to download
        raise InputError(f"{where}: holds an adapter ({adapter.name}); give the folder of a whole network")
    return _plain_config(value, allowed, where)


def _load_weights(kind: Any, source: str, folder: Path, config: Any) -> Any:
    """Loads a network in fp32. Raises ``InputError`` if the folder lacks more than half of the network's weights."""
    with warnings.catch_warnings(), drawing_on_stderr():
        warnings.simplefilter("ignore")  # such as warnings about unused weights of heads
        try:
            model, report = kind.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                trust_remote_code=False,
                local_files_only=True,
                use_safetensors=None if source in _PUBLISHED.values() else True,
                weights_only=True,
            )
        except Exception as error:  # hub, files and tensors raise exceptions of many types
            raise InputError(f"backbone {source}: cannot be read ({first_line(error)}); {_REMEDY}") from error
    missing, total = len(report["missing_keys"]), len(model.state_dict())
    if 2 * missing > total:
        problem = (
            f"lacks {missing} of the {total} weights of {kind.__name__}, so it is of another architecture"
        )
        remedy = "give the weights of this backbone, or name the backbone of these weights"
        raise InputError(f"backbone {source}: {problem}; {remedy}")
    return model


def _plain_config(value: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> Any:
    """Builds a configuration object from the values of a ``config.json``.

    Keys that the network type does not define are ignored. Raises ``InputError`` for types that are not ``allowed``,
    for keys that refer to code or to a download, and for values out of bounds.
    """
    for key in filter(value.get, _FORBIDDEN):
        problem = f"its configuration has {key!r}, which may run code or fetch something, and neither is done"
        raise InputError(f"{where}: {problem}; use a network that transformers itself has")
    for key in ("attn_implementation", "_attn_implementation", "experts_implementation"):
        if not re.fullmatch(r"[a-z0-9_]{0,40}", str(value.get(key, ""))[:100].lower()):
            problem = f"its configuration has {key!r} of {shortened(value[key])}"
            raise InputError(f"{where}: {problem}; remove that key")
    kind = value.get("model_type")
    if not isinstance(kind, str) or kind not in allowed:
        problem = f"is no supported backbone but of the type {shortened(kind)}"
        raise InputError(f"{where}: {problem}; choose one of {', '.join(allowed)}")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    keys = _own_keys(CONFIG_MAPPING[kind])
    plain = {key: _checked(key, value[key], where) for key in value if key in keys}
    try:
        return CONFIG_MAPPING[kind](**plain)
    except Exception as error:  # configuration classes raise exceptions of many types
        raise InputError(f"{where}: its configuration cannot be used ({first_line(error)})") from error


def _portable(config: Any) -> dict[str, Any]:
    """Returns those values of a configuration that ``_plain_config`` needs to build the configuration again."""
    keys, stored = _own_keys(type(config)), config.to_dict()
    return {"model_type": config.model_type} | {key: stored[key] for key in stored if key in keys}


def _own_keys(kind: Any) -> frozenset[str]:
    """Returns the keys that the configuration class ``kind`` adds to ``PreTrainedConfig``, without derived keys."""
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
    allowed = f"a number up to {most}, a short word, true, false, null or a list of at most 64 of these"
    raise InputError(f"{where}: {key} = {shortened(value)} of its configuration must be {allowed}")
