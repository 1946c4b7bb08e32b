from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
import torch

from iccld.labels import LabelSpace
from iccld.models.iccld import ICCLD


@pytest.fixture(scope="session")
def backbone_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of small ``transformers`` networks with random weights, written by ``save_pretrained``."""
    from transformers import (
        ConvNextV2Backbone,
        ConvNextV2Config,
        Dinov2Backbone,
        Dinov2Config,
        SegformerConfig,
        SegformerModel,
        SwinBackbone,
        SwinConfig,
    )

    torch.manual_seed(0)
    networks = {
        "convnextv2": ConvNextV2Backbone(
            ConvNextV2Config(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], out_indices=[1, 2, 3, 4])
        ),
        "swin": SwinBackbone(
            SwinConfig(
                embed_dim=8,
                depths=[1, 1, 1, 1],
                num_heads=[1, 1, 2, 2],
                window_size=2,
                image_size=64,
                out_indices=[1, 2, 3, 4],
            )
        ),
        "dinov2": Dinov2Backbone(
            Dinov2Config(
                hidden_size=24,
                num_hidden_layers=4,
                num_attention_heads=2,
                image_size=56,
                patch_size=14,
                mlp_ratio=2,
            )
        ),
        "segformer": SegformerModel(
            SegformerConfig(
                hidden_sizes=[8, 16, 16, 24], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2]
            )
        ),
    }
    root = tmp_path_factory.mktemp("backbones")
    for name, network in networks.items():
        with contextlib.redirect_stderr(io.StringIO()):  # hides the progress bar
            network.save_pretrained(root / name)
    return {name: root / name for name in networks}


@pytest.fixture
def backbone(request: pytest.FixtureRequest) -> str:
    """Converts an indirect parameter to a backbone name. Three architectures become ``auto:`` and a folder."""
    name: str = request.param
    if name in ("convnextv2", "swin", "dinov2"):
        folders: dict[str, Path] = request.getfixturevalue("backbone_folders")
        return f"auto:{folders[name]}"
    return name


@pytest.fixture(scope="module")
def model() -> ICCLD:
    """A small model without zero weights. Tests must not change it, because tests share it."""
    torch.manual_seed(0)
    small = ICCLD(LabelSpace.from_names("five", ("road", "sky", "car", "tree house", "person")), width=32)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return small.eval()
