"""Settings of a run as frozen dataclasses. Each field is a flag of ``iccld train``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from iccld.documents import Range, build, read_json, reason
from iccld.errors import InputError
from iccld.methods import MethodName

DATA_FOLDERS = ("source_root", "more_sources", "target_root", "target_labeled")
"""Settings of ``DataConfig`` that are folders of data on this machine."""

Whole = Annotated[int, Range(0, 10**9)]
Count = Annotated[int, Range(1, 10**9)]
Seed = Annotated[int, Range(0, 2**62)]
Side = Annotated[int, Range(32, 2**16)]
"""Side of an image or crop in pixels."""
Share = Annotated[float, Range(0, 1)]
Weight = Annotated[float, Range(0, 1e30)]
Positive = Annotated[float, Range(1e-12, 1e30)]
Tracker = Literal["csv", "tensorboard", "wandb", "mlflow"]
Look = Literal["game", "camera", "night", "both"]


@dataclass(frozen=True)
class DataConfig:
    """Data sets, sizes and sampling."""

    source: str = "street_scenes"
    """Labeled data set: gta5, synthia, cityscapes, camvid, folder, street_scenes, or module:class."""
    source_root: str | None = None
    """Folder of the source data set (not needed for street_scenes)."""
    source_split: str = "train"
    source_look: Look = "game"
    """Rendering style of the source scenes, if the source is street_scenes."""
    source_count: Count = 400
    """Number of source scenes to render for training, if the source is street_scenes."""
    scene_cache: str | None = None
    """Folder in which rendered street_scenes are kept for later runs. By default, each run renders all scenes again."""
    cache: str | None = None
    """Folder in which decoded and resized training images are kept for later epochs and runs (see `iccld data cache`).
    Images of street_scenes are not kept there. By default, an image is decoded each time it is used."""
    source_size: tuple[Side, Side] | None = None
    """Height and width in pixels. street_scenes are rendered at this size (default: crop). Images of other data sets
    are scaled to this height before the crop (default: no scaling), with their aspect ratio unless source_stretch."""
    source_stretch: bool = False
    """Scale source images from files to exactly the size in source_size, even if the aspect ratio changes."""
    more_sources: tuple[str, ...] = ()
    """Further sources (split train): folders with a dataset.toml, NAME:FOLDER (gta5:/data/gta5), or street_scenes."""
    source_weights: tuple[Positive, ...] = ()
    """Relative number of training images from the source and from each of more_sources (default: equal)."""
    target: str = "street_scenes"
    """Unlabeled data set, with the same choices as for the source."""
    target_root: str | None = None
    target_split: str = "train"
    target_look: Look = "camera"
    target_count: Count = 400
    target_size: tuple[Side, Side] | None = None
    """Height and width of target images in pixels, as source_size. Target images always keep their aspect ratio.
    Evaluation, prediction and exported models also scale images to this height."""
    target_labeled: str | None = None
    """Folder of labeled target images (split train), from which half of the labeled images of a batch are drawn."""
    val_split: str = "val"
    """Split of the target data set for evaluation at the end of the run. Without labels, the run is not evaluated."""
    val_count: Count = 100
    """Number of scenes to render for evaluation, if the target is street_scenes."""
    label_space: str = "cityscapes19"
    """Classes of the model: cityscapes19, synthia16, camvid11, or 'source' for the classes of the source data set."""
    crop: tuple[Side, Side] = (128, 256)
    """Height and width of training crops in pixels."""
    scale: tuple[Positive, Positive] = (1.0, 1.0)
    """Smallest and largest factor of the random rescaling of training images before the crop."""
    batch_size: Count = 4
    """Number of source images per rank and micro-batch. The number of target images is the same."""
    global_batch: Whole = 0
    """Number of source images per step over all ranks and micro-batches. It sets batch_size. 0: not used."""
    num_workers: Annotated[int, Range(0, 1024)] = 1
    """Number of loader processes per data set."""
    rare_class_sampling: bool = True
    """Sample source images so that rare classes are more frequent (Hoyer et al. 2022, DAFormer)."""
    rare_class_temperature: Positive = 0.1
    """Temperature of rare-class sampling. The lower, the more often rare classes are sampled (high: all equally)."""
    cat_max_ratio: Annotated[float, Range(1e-12, 1)] = 1.0
    """Maximum fraction of one class in a crop's labeled pixels. Other crops are drawn again, up to ten times."""
    photometric: Share = 0.0
    """Strength of random changes of the labeled images: color, tone, light, sharpness, noise and JPEG compression."""
    ignore_top: Share = 0.0
    """Fraction of a target image's height, at the top, in which pseudo-labels are ignored."""
    ignore_bottom: Share = 0.0
    """Fraction of a target image's height, at the bottom (ego vehicle), in which pseudo-labels are ignored."""

    @property
    def sources(self) -> list[DataConfig]:
        """Settings of each source: this object, and a copy with another source for each entry of ``more_sources``."""
        found, like = [self], replace(self, source_split="train", more_sources=())
        for entry in self.more_sources:
            named = re.fullmatch(r"([a-z][a-z0-9_]+):(.+)|(street_scenes)", entry)
            name, folder = (named[1] or named[3], named[2]) if named else ("folder", entry)
            found.append(replace(like, source=name, source_root=folder))
        return found


@dataclass(frozen=True)
class ModelConfig:
    """Network architecture."""

    backbone: str = "compact"
    """Backbone: compact, efficientnet_lite0, mit_b0 … mit_b5, auto:<hub id or folder>, or module:class."""
    pretrained: str = "auto"
    """Initial weights of the backbone: auto (published weights if there are any), yes (published weights), no (random
    weights), or a hub id or folder (only for MiT)."""
    init: str | None = None
    """Folder, hub id or name (streets) of a model from whose weights training starts. Classes are matched by name."""
    latent_channels: Annotated[int, Range(1, 10**5)] = 16
    width: Annotated[int, Range(1, 10**6)] = 96
    context_links: bool = True
    detail_links: bool = True
    diffusion: bool = True
    reencoding: bool = True
    """Decode predicted latents to labels and encode them again between sampling steps."""
    light_steps: bool = False
    """Do most of the work of denoiser and decoder once per image, so that sampling steps and noise draws are cheap."""


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning rates."""

    head_lr: Weight = 6e-4
    """Peak learning rate of all parameters except the backbone."""
    backbone_lr: Weight = 6e-4
    """Peak learning rate of the backbone."""
    weight_decay: Weight = 0.01
    warmup_steps: Whole = 100
    poly_power: Weight = 1.0
    """Exponent p of the learning rate's decay: the rate is proportional to (1 − fraction of finished steps)^p."""
    grad_clip: Positive = 1.0
    accumulation: Count = 1
    """Number of micro-batches per step, over which gradients are accumulated."""


@dataclass(frozen=True)
class AdaptationConfig:
    """Adaptation method and losses."""

    start: Share = 0.4
    """Fraction of the steps that train on source images alone. Target and mixed images are used afterwards."""
    teacher_decay: Share = 0.99
    teacher_steps: Count = 1
    """Number of sampling steps of the teacher."""
    teacher_draws: Count = 1
    """Number of noise draws of the teacher. The class probabilities of all draws are averaged."""
    weighting: Literal["class", "batch"] = "class"
    """Rule for the weights of pseudo-labels. class: only the most confident pixels of each class are used. batch: all
    pixels have the same weight, which is the fraction of confident pixels in the batch (as in DACS)."""
    threshold: Share = 0.9
    """Minimum probability of a confident pixel, for the weighting 'batch'."""
    keep: Share = 0.5
    """Fraction of each class's pixels that the weighting 'class' uses. The most confident pixels are used."""
    trust: Weight = 0.0
    """Exponent e for the weighting 'class': pixels of a class have the weight (mean probability of the class)^e."""
    mixing: Literal["classmix", "cutmix", "none"] = "classmix"
    """Method by which parts of source images are pasted onto target images. The labels of a mixed image are the
    source's labels in the pasted parts and the teacher's pseudo-labels elsewhere."""
    color_jitter: Weight = 0.4
    """Strength of the color augmentation of mixed and masked images."""
    masked: bool = False
    """Train on masked target images too (Hoyer et al. 2023, MIC). The method mic always does so."""
    mask_patch: Whole = 0
    """Side of the hidden squares in pixels. 0 means a sixteenth of the crop's shorter side, as in MIC."""
    mask_ratio: Share = 0.7
    """Fraction of the image that is hidden."""
    color_transfer: Share = 1.0
    """Fraction of source images that get the color statistics of a target image, to a random degree."""
    class_color_transfer: Share = 0.5
    """Fraction of source images with a second color transfer, class by class. Each class gets the color statistics of
    the target image's pixels that the teacher labels with this class."""
    share_at_one: Share = 0.6
    """Fraction of the training samples with diffusion time t = 1 (pure noise)."""
    self_aligned: Share = 0.7
    """Fraction of the labeled samples whose noisy state is made from the model's prediction instead of the true
    latent."""
    denoising_weight: Weight = 0.5
    reconstruction_weight: Weight = 0.5
    adversarial_weight: Weight = 0.02
    """Weight of the adversarial loss. 0 disables the adversary."""
    adversarial_input: Literal["latents", "features"] = "latents"
    """Input of the adversary: latents (the denoised latents) or features (the denoiser's last features)."""
    adversarial_domains: Literal[2, 3] = 3
    """Number of domains of the adversary: 3 (source, mixed and target) or 2 (source and target)."""
    adversarial_warmup: Share = 0.2
    """Fraction of the steps over which the adversarial weight rises linearly from 0."""
    discriminator_lr: Weight = 1e-3
    entropy_weight: Weight = 0.001
    """Weight of the entropy loss on target images, for minent and fda."""
    fda_band: Share = 0.05
    """Half the side of the square of low frequencies that fda replaces, as a fraction of the shorter image side."""
    feature_distance: Weight = 0.005
    """Weight of the distance to pretrained features for daformer and mic, if there are pretrained weights."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run."""

    steps: Count = 1500
    seed: Seed = 0
    method: MethodName = "iccld"
    """iccld, source_only (no adaptation), oracle (trained on the target's own labels), another published method
    (adaptsegnet, advent, minent, fda, dacs, daformer, mic), or a class of another package as module:class."""
    checkpoint_every: Count = 500
    """Number of steps between checkpoints."""
    checkpoint_minutes: Positive = 10.0
    """Maximum number of minutes between checkpoints."""
    keep_checkpoints: Count = 2
    log_every: Count = 20
    eval_every: Whole = 0
    """Steps between evaluations during training (for monitoring, never for selection). 0: only at the end."""
    eval_images: Whole = 0
    """Number of evenly spaced images for evaluations during training. 0 uses all images, as at the end."""
    trackers: tuple[Tracker, ...] = ("csv", "tensorboard")
    """Trackers of metrics: csv (metrics.csv, always written), tensorboard (files in RUN/tensorboard), wandb, mlflow."""
    stop_at: Count | None = None
    """Stop after this step as if interrupted. The same command without this flag continues to the end."""
    device: str = "auto"
    """Device: auto, cpu, cuda or mps."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Floating-point precision. auto uses bf16 on devices that compute faster in bf16, otherwise fp32."""
    threads: Annotated[int, Range(0, 4096)] = 0
    """CPU threads per process. 0 uses the number that is fastest in a trial. A resumed run keeps this number."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)

    @property
    def start_step(self) -> int:
        """Number of steps on source images alone before the adaptation starts."""
        return round(self.adaptation.start * self.steps)


_BEFORE = {"class_color_transfer": 0.0}
"""Adaptation settings that older runs did not record, with the values that reproduce the behavior of those runs."""


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Returns the settings as plain values for JSON. ``from_dict`` reads these values."""
    return asdict(config, dict_factory=_with_lists)


def from_dict(value: object, where: str = "settings") -> TrainConfig:
    """Returns settings from the values of ``to_dict``.

    A missing setting gets its value in ``_BEFORE``, which is for older runs, or its default.

    Raises:
        InputError: A setting is unknown, or a value has a wrong type. The message starts with ``where``.
    """
    if isinstance(value, Mapping) and isinstance(value.get("adaptation"), Mapping):
        value = {**value, "adaptation": _BEFORE | value["adaptation"]}
    return build(TrainConfig, value, where, thing="setting")


def read_settings(path: Path, *, remedy: str) -> TrainConfig:
    """Reads the settings of a run from its ``run.json``.

    Raises:
        InputError: The file cannot be read. The message ends with ``remedy``.
    """
    try:
        stored = read_json(path)
        if isinstance(stored, dict):
            stored.pop("preset", None)
        return from_dict(stored)
    except InputError as error:
        raise InputError(f"{path}: cannot be read ({reason(error, path)}); {remedy}") from error


def with_settings(config: TrainConfig, settings: Mapping[str, Any]) -> TrainConfig:
    """Returns a copy of the settings with the given values by dotted names, such as ``{"data.batch_size": 2}``.

    Raises ``ValueError`` if a setting is unknown, or if a value has a wrong type.
    """
    plain = to_dict(config)
    for name, value in settings.items():
        group, _, last = name.rpartition(".")
        table = plain.get(group) if group else plain
        if not isinstance(table, dict) or isinstance(table.get(last, {}), dict):
            raise ValueError(f"unknown setting {name!r}")
        table[last] = value
    return from_dict(plain)


def _with_lists(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in items}
