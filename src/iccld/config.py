"""Everything a run can be told, as frozen dataclasses. Each field is a flag of ``iccld train``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from iccld.documents import Range, build, read_json, reason
from iccld.errors import InputError

Method = Literal[
    "iccld",
    "source_only",
    "oracle",
    "adaptsegnet",
    "advent",
    "minent",
    "fda",
    "dacs",
    "daformer",
    "mic",
]
Whole = Annotated[int, Range(0, 10**9)]
Count = Annotated[int, Range(1, 10**9)]
Seed = Annotated[int, Range(0, 2**62)]
Side = Annotated[int, Range(32, 2**16)]
"""In pixels."""
Share = Annotated[float, Range(0, 1)]
Weight = Annotated[float, Range(0, 1e30)]
Positive = Annotated[float, Range(1e-12, 1e30)]
Tracker = Literal["csv", "tensorboard", "wandb", "mlflow"]
Look = Literal["game", "camera", "night", "both"]


@dataclass(frozen=True)
class DataConfig:
    """Data sets, sizes and sampling."""

    source: str = "street_scenes"
    """Labeled data set: gta5, synthia, cityscapes, camvid, folder or street_scenes."""
    source_root: str | None = None
    """Its folder (street_scenes needs none)."""
    source_split: str = "train"
    source_look: Look = "game"
    """Of street_scenes: which rendering style."""
    source_count: Count = 400
    """Of street_scenes: how many scenes to render."""
    scene_cache: str | None = None
    """Of street_scenes: folder that keeps rendered scenes for further runs; None renders them each time."""
    cache: str | None = None
    """Of data sets of files: folder that keeps training images decoded and resized for further epochs and runs
    (`iccld data cache`); None decodes them each time."""
    source_size: tuple[Side, Side] | None = None
    """Height and width that street_scenes are rendered at. Source images of files are scaled to that height before
    cropping and keep their shape, unless they are stretched; None keeps their size."""
    source_stretch: bool = False
    """Bring source images of files to exactly that height and width, whatever their shape."""
    target: str = "street_scenes"
    """Unlabeled data set; the same choices."""
    target_root: str | None = None
    target_split: str = "train"
    target_look: Look = "camera"
    target_count: Count = 400
    target_size: tuple[Side, Side] | None = None
    """The same for target images, which always keep their shape: evaluation, prediction and exported models scale
    images to that height too."""
    val_split: str = "val"
    """Split of the target data set to evaluate on when the run ends; skipped where it has no labels."""
    val_count: Count = 100
    """Of street_scenes: how many scenes to evaluate on."""
    label_space: str = "cityscapes19"
    """Classes of the model: cityscapes19, synthia16, camvid11, or 'source' for those of the source data set."""
    crop: tuple[Side, Side] = (128, 256)
    """Height and width of training crops in pixels."""
    scale: tuple[Positive, Positive] = (1.0, 1.0)
    """Range of random rescaling before the crop."""
    batch_size: Count = 4
    """Source images, and as many target images, per rank and micro-batch."""
    num_workers: Annotated[int, Range(0, 1024)] = 1
    """Loader processes per data set."""
    rare_class_sampling: bool = True
    """Draw source images so that rare classes are seen more often (Hoyer et al. 2022, DAFormer)."""
    rare_class_temperature: Positive = 0.1
    """Low: rare classes only; high: uniform over classes."""
    cat_max_ratio: Annotated[float, Range(1e-12, 1)] = 1.0
    """Share of a source crop's labeled pixels that one class may have; crops with more are drawn again, ten times at
    most (MMSegmentation, DAFormer: 0.75). 1 takes any crop."""
    ignore_top: Share = 0.0
    """Share of target images' rows, from the top, whose pseudo-labels are ignored."""
    ignore_bottom: Share = 0.0
    """Share of target images' rows, from the bottom (ego vehicle), whose pseudo-labels are ignored."""


@dataclass(frozen=True)
class ModelConfig:
    """The network."""

    backbone: str = "compact"
    """compact, efficientnet_lite0, mit_b0 … mit_b5, or auto:<hub id or folder>."""
    pretrained: str = "auto"
    """auto (yes, where the backbone has published weights), yes, no, or a hub id or folder (MiT)."""
    latent_channels: Annotated[int, Range(1, 10**5)] = 16
    width: Annotated[int, Range(1, 10**6)] = 96
    context_links: bool = True
    detail_links: bool = True
    diffusion: bool = True
    reencoding: bool = True
    """Between sampling steps, predicted latents go through label decoder and label encoder."""
    light_steps: bool = False
    """Denoiser and decoder work on the image once, and each sampling step or noise draw is narrow."""


@dataclass(frozen=True)
class OptimConfig:
    """Optimization."""

    head_lr: Weight = 6e-4
    """Peak learning rate of everything but the backbone."""
    backbone_lr: Weight = 6e-4
    """Peak learning rate of the image coder."""
    weight_decay: Weight = 0.01
    warmup_steps: Whole = 100
    poly_power: Weight = 1.0
    """Learning rate falls as (1 − progress) to this power."""
    grad_clip: Positive = 1.0
    accumulation: Count = 1
    """Micro-batches per step."""


@dataclass(frozen=True)
class AdaptationConfig:
    """The method."""

    start: Share = 0.4
    """Share of the steps on source alone before target and mixed branches begin."""
    teacher_decay: Share = 0.99
    teacher_steps: Count = 1
    """Sampling steps of the teacher."""
    teacher_draws: Count = 1
    """Noise draws of the teacher, averaged."""
    weighting: Literal["class", "batch"] = "class"
    """Which pseudo-labels count: the surest of each class or, as in DACS, all by the batch's share of sure pixels."""
    threshold: Share = 0.9
    """Probability from which the teacher counts as sure, for batch."""
    keep: Share = 0.5
    """Share of each class's pixels that count, for class."""
    trust: Weight = 0.0
    """Power of a class's mean probability in the weight of its pixels, for class."""
    mixing: Literal["classmix", "cutmix", "none"] = "classmix"
    """How source is pasted on target images, which are then learned with the teacher's labels."""
    color_jitter: Weight = 0.4
    """Strength of the color changes of mixed and masked images."""
    masked: bool = False
    """Learn masked target images too (Hoyer et al. 2023, MIC); method mic always does."""
    mask_patch: Whole = 0
    """Side of the hidden squares in pixels; 0 for a sixteenth of the crop's shorter side, as MIC has it."""
    mask_ratio: Share = 0.7
    """Share of the image that is hidden."""
    color_transfer: Share = 1.0
    """Share of source images that take the color statistics of a target image, to a random degree."""
    class_color_transfer: Share = 0.5
    """Share of source images whose classes then take, one by one, the color statistics that the teacher's labels give
    them in that image."""
    share_at_one: Share = 0.6
    """Share of samples trained at t = 1."""
    self_aligned: Share = 0.7
    """Share of labeled samples whose noisy state starts from the model's own prediction."""
    denoising_weight: Weight = 0.5
    reconstruction_weight: Weight = 0.5
    adversarial_weight: Weight = 0.02
    """Of the adversary; 0 switches it off."""
    adversarial_input: Literal["latents", "features"] = "latents"
    """What the adversary aligns: the denoised latents, or the denoiser's last features."""
    adversarial_domains: Literal[2, 3] = 3
    """3: source, mixed and target; 2: mixed images are kept from the adversary."""
    adversarial_warmup: Share = 0.2
    """Share of the steps over which that weight rises."""
    discriminator_lr: Weight = 1e-3
    entropy_weight: Weight = 0.001
    """Of the target's entropy, for minent and fda."""
    fda_band: Share = 0.05
    """Of fda: half the side of the swapped square of low frequencies, as a share of the shorter side."""
    feature_distance: Weight = 0.005
    """Of daformer and mic: weight of the distance to the pretrained features; idle from scratch."""


@dataclass(frozen=True)
class TrainConfig:
    """A run."""

    steps: Count = 1500
    seed: Seed = 0
    method: Method = "iccld"
    """iccld; source_only (no adaptation); oracle (trains on the target's own labels); or a rival: adaptsegnet, advent,
    minent, fda, dacs, daformer, mic."""
    checkpoint_every: Count = 500
    """Save a checkpoint every so many steps."""
    checkpoint_minutes: Positive = 10.0
    """Save one also when the last is so many minutes old."""
    keep_checkpoints: Count = 2
    log_every: Count = 20
    eval_every: Whole = 0
    """Evaluate every so many steps (to watch, never to select); 0: at the end only."""
    eval_images: Whole = 0
    """These evaluations take so many validation images, at even distances; 0: all, as at the end."""
    trackers: tuple[Tracker, ...] = ("csv", "tensorboard")
    """Where figures go: csv (metrics.csv, written always), tensorboard (files in RUN/tensorboard), wandb, mlflow."""
    stop_at: Count | None = None
    """Stop after this step as if interrupted; the same command without it goes on to the end."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """auto: bf16 where the processor or GPU computes in it, else fp32."""
    threads: Annotated[int, Range(0, 4096)] = 0
    """CPU threads per process; 0: the fastest number in a trial before the first step. A run that goes on keeps it."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)


_BEFORE = {"class_color_transfer": 0.0}
"""Values of settings of the adaptation that older records do not name, where the default is another one."""


def cache_changes_images(d: DataConfig) -> bool:
    """Whether a run with ``data.cache`` sees other pixels than without: images are resized, then scaled at random."""
    files = ((d.source, d.source_size), (d.target, d.target_size))
    resized = any(name != "street_scenes" and size is not None for name, size in files)
    return d.cache is not None and tuple(d.scale) != (1.0, 1.0) and resized


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Plain values for JSON; ``from_dict`` reads them back."""
    return asdict(config, dict_factory=_with_lists)


def from_dict(value: object, where: str = "settings") -> TrainConfig:
    """Reads what ``to_dict`` wrote.

    Missing settings take their default, or the value that stands for what runs did before the setting existed.

    Raises:
        InputError: an unknown setting, or a value of another type. The message begins with ``where``.
    """
    if isinstance(value, Mapping) and isinstance(value.get("adaptation"), Mapping):
        value = {**value, "adaptation": _BEFORE | value["adaptation"]}
    return build(TrainConfig, value, where, thing="setting")


def read_settings(path: Path, *, remedy: str) -> TrainConfig:
    """Reads the ``run.json`` of a run.

    Raises:
        InputError: it cannot be read; the message ends with ``remedy``.
    """
    try:
        stored = read_json(path)
        if isinstance(stored, dict):
            stored.pop("preset", None)
        return from_dict(stored)
    except InputError as error:
        raise InputError(f"{path}: cannot be read ({reason(error, path)}); {remedy}") from error


def with_settings(config: TrainConfig, settings: Mapping[str, Any]) -> TrainConfig:
    """A copy with some settings replaced.

    Args:
        config: is left as it is.
        settings: values by dotted name, as the flags have it: ``{"steps": 10, "data.batch_size": 2}``.

    Raises:
        ValueError: no such setting, or a value of another type.
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
