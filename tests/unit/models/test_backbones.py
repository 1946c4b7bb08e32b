"""Tests of the choice of a backbone, and of the pretrained weights of ``transformers`` networks."""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from iccld.errors import InputError
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD
from iccld.models.image_coder import BACKBONE_NAMES, build_image_coder
from iccld.models.transformers_backbone import AutoBackboneCoder, MixTransformerCoder

AUTO = ("convnextv2", "swin", "dinov2")
Folders = dict[str, Path]


def _refusal(name: str, pretrained: bool | str = False) -> str:
    with pytest.raises(InputError) as caught:
        build_image_coder(name, pretrained=pretrained)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _images() -> Tensor:
    return torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "near"), [("mitb5", "mit_b5"), ("efficientnet", "efficientnet_lite0")])
def test_unknown_name(name: str, near: str) -> None:
    message = _refusal(name)
    assert f"unknown backbone '{name}'; did you mean '{near}'?" in message
    assert all(known in message for known in BACKBONE_NAMES)


def test_compact_has_no_published_weights() -> None:
    assert "has no pretrained weights" in _refusal("compact", pretrained=True)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "auto:somewhere"])
def test_weights_that_a_backbone_cannot_take(name: str) -> None:
    assert "takes no other weights" in _refusal(name, pretrained="my/weights")


# -- MiT -------------------------------------------------------------------------------------------


def test_mit_b0_has_the_published_size() -> None:
    """3.4 million parameters without the classification head, 3.7 with the head (Xie et al. 2021, table 7)."""
    coder = build_image_coder("mit_b0")
    assert coder.channels == {4: 32, 8: 64, 16: 160, 32: 256}
    assert 3.2e6 < sum(p.numel() for p in coder.parameters()) < 3.7e6


def test_mit_reads_weights_from_a_folder(backbone_folders: Folders) -> None:
    from transformers import SegformerModel

    folder = backbone_folders["segformer"]
    coder = build_image_coder("mit_b0", pretrained=str(folder)).eval()
    assert coder.channels == {4: 8, 8: 16, 16: 16, 32: 24}
    reference = SegformerModel.from_pretrained(folder).eval()
    assert isinstance(coder, MixTransformerCoder)
    for name, value in reference.state_dict().items():
        assert torch.equal(coder.encoder.state_dict()[name], value), name
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalized = (_images() - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        expected = reference(normalized, output_hidden_states=True).hidden_states
        for ours, theirs in zip(coder(_images()).values(), expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_mit_asks_for_the_published_weights(
    monkeypatch: pytest.MonkeyPatch, backbone_folders: Folders
) -> None:
    asked: list[tuple[str, str | None]] = []

    def fetch(repo_id: str, revision: str | None, patterns: Sequence[str]) -> Path:
        asked.append((repo_id, revision))
        assert "config.json" in patterns
        assert not any(fnmatch.fnmatch("modeling_evil.py", pattern) for pattern in patterns)
        return backbone_folders["segformer"]

    monkeypatch.setattr("iccld.models.transformers_backbone.fetch", fetch)
    build_image_coder("mit_b3", pretrained=True)
    assert asked == [("nvidia/mit-b3", None)]


def test_model_with_mit_of_another_shape_reloads(backbone_folders: Folders, tmp_path: Path) -> None:
    model = ICCLD(CAMVID11, backbone="mit_b0", pretrained=str(backbone_folders["segformer"]), width=16).eval()
    model.save_pretrained(tmp_path)
    loaded = ICCLD.from_pretrained(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (33, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(model.predict(image).probabilities, loaded.predict(image).probabilities)


def test_weights_of_another_architecture(backbone_folders: Folders) -> None:
    """Without an error, the network would silently keep its random weights."""
    message = _refusal("mit_b0", pretrained=str(backbone_folders["convnextv2"]))
    assert "is no supported backbone but of the type 'convnextv2'" in message


def test_truncated_weights(backbone_folders: Folders, tmp_path: Path) -> None:
    for name, backbone in (("segformer", "mit_b0"), ("dinov2", "auto:")):
        folder = tmp_path / name
        shutil.copytree(backbone_folders[name], folder)
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
        if backbone == "auto:":
            message = _refusal(f"auto:{folder}", pretrained=True)
        else:
            message = _refusal(backbone, pretrained=str(folder))
        assert "cannot be read" in message


@pytest.mark.parametrize("pretrained", [True, False])
def test_no_such_folder(tmp_path: Path, pretrained: bool) -> None:
    assert "cannot be read" in _refusal(f"auto:{tmp_path / 'nowhere'}", pretrained)
    assert "cannot be read" in _refusal("mit_b0", str(tmp_path / "nowhere"))


# -- AutoBackbone ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AUTO)
def test_auto_reads_the_weights(backbone_folders: Folders, name: str) -> None:
    import transformers

    folder = backbone_folders[name]
    coder = build_image_coder(f"auto:{folder}", pretrained=True)
    assert isinstance(coder, AutoBackboneCoder)
    own = coder.backbone.state_dict()
    kind = json.loads((folder / "config.json").read_text())["architectures"][0]
    stored = getattr(transformers, kind).from_pretrained(folder).state_dict()
    assert len(own.keys() & stored.keys()) >= len(stored) > 40
    for key, value in stored.items():
        assert torch.equal(own[key], value), key
    fresh = build_image_coder(f"auto:{backbone_folders[name]}", pretrained=False)
    assert isinstance(fresh, AutoBackboneCoder)
    assert any(not torch.equal(value, own[key]) for key, value in fresh.backbone.state_dict().items())


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize("name", AUTO)
def test_auto_needs_only_the_configuration_once_saved(
    backbone_folders: Folders, name: str, pretrained: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "gone"
    shutil.copytree(backbone_folders[name], folder)
    model = ICCLD(CAMVID11, backbone=f"auto:{folder}", pretrained=pretrained, width=16).eval()
    model.save_pretrained(tmp_path / "run")
    shutil.rmtree(folder)
    loaded = ICCLD.from_pretrained(tmp_path / "run")
    image = np.random.default_rng(0).integers(0, 256, (33, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(model.predict(image).probabilities, loaded.predict(image).probabilities)


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (96, 160)])
@pytest.mark.parametrize("name", AUTO)
def test_auto_strides(backbone_folders: Folders, name: str, size: tuple[int, int]) -> None:
    coder = build_image_coder(f"auto:{backbone_folders[name]}").eval()
    with torch.no_grad():
        features = coder(torch.rand(1, 3, *size))
    channels = coder.channels
    assert list(features) == [4, 8, 16, 32]
    for stride, map_ in features.items():
        assert map_.shape == (1, channels[stride], size[0] // stride, size[1] // stride)


def test_vit_patches_of_14_cover_16_pixels(backbone_folders: Folders) -> None:
    """The image is resized to 14/16, so that the network's cells lie on the stride-16 grid of the original image."""
    coder = build_image_coder(f"auto:{backbone_folders['dinov2']}", pretrained=True).eval()
    assert isinstance(coder, AutoBackboneCoder)
    seen: list[tuple[int, ...]] = []
    coder.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    with torch.no_grad():
        features = coder(_images())
        small = F.interpolate(
            (_images() - coder.mean) / coder.std, size=(56, 84), mode="bilinear", antialias=True
        )
        expected = coder.backbone(small).feature_maps
    assert seen[0] == (1, 3, 56, 84)
    torch.testing.assert_close(features[16], expected[2])
    assert features[4].shape[-2:] == (16, 24)


def test_half_precision_checkpoints_are_trained_in_full(backbone_folders: Folders, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    shutil.copytree(backbone_folders["dinov2"], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    for pretrained in (True, False):
        coder = build_image_coder(f"auto:{folder}", pretrained=pretrained)
        assert {p.dtype for p in coder.parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", ["bert", "segformer"])
def test_networks_that_are_no_backbones(kind: str, tmp_path: Path) -> None:
    from transformers import AutoConfig

    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    message = _refusal(f"auto:{tmp_path}")
    assert f"is no supported backbone but of the type '{kind}'" in message


def test_a_stored_configuration_names_no_folder(tmp_path: Path) -> None:
    from transformers import SegformerConfig, SegformerModel

    SegformerModel(SegformerConfig(hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1])).save_pretrained(
        tmp_path
    )
    coder = build_image_coder("mit_b0", pretrained=str(tmp_path))
    assert str(tmp_path) not in str(coder.backbone_config)
    again = build_image_coder("mit_b0", backbone_config=coder.backbone_config)
    assert again.channels == coder.channels
