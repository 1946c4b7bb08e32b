"""Which settings of a run cannot work."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from iccld.config import DataConfig, TrainConfig
from iccld.errors import InputError

_ABOVE_ZERO = (
    "steps",
    "checkpoint_every",
    "checkpoint_minutes",
    "log_every",
    "keep_checkpoints",
    "data.batch_size",
    "data.source_count",
    "data.target_count",
    "data.val_count",
    "data.rare_class_temperature",
    "model.latent_channels",
    "model.width",
    "optim.accumulation",
    "optim.grad_clip",
    "adaptation.teacher_steps",
    "adaptation.teacher_draws",
)
_NOT_BELOW_ZERO = (
    "seed",
    "eval_every",
    "threads",
    "data.num_workers",
    "optim.head_lr",
    "optim.backbone_lr",
    "optim.weight_decay",
    "optim.warmup_steps",
    "optim.poly_power",
    "adaptation.adversarial_weight",
    "adaptation.discriminator_lr",
    "adaptation.denoising_weight",
    "adaptation.reconstruction_weight",
    "adaptation.color_jitter",
    "adaptation.mask_patch",
    "adaptation.trust",
    "adaptation.entropy_weight",
    "adaptation.feature_distance",
)
_SHARES = (
    "data.ignore_top",
    "data.ignore_bottom",
    "adaptation.start",
    "adaptation.adversarial_warmup",
    "adaptation.teacher_decay",
    "adaptation.threshold",
    "adaptation.keep",
    "adaptation.color_transfer",
    "adaptation.share_at_one",
    "adaptation.self_aligned",
    "adaptation.mask_ratio",
    "adaptation.fda_band",
)
_Limit = tuple[tuple[str, ...], Callable[[float], bool], str]
_LIMITS: tuple[_Limit, ...] = (
    (_ABOVE_ZERO, lambda value: value > 0, "give a number above 0"),
    (_NOT_BELOW_ZERO, lambda value: value >= 0, "give 0 or more"),
    (_SHARES, lambda value: 0 <= value <= 1, "give a share between 0 and 1"),
)


def check_config(config: TrainConfig) -> None:
    """Refuses settings that cannot work.

    Raises:
        InputError: names the flag and what it takes.
    """
    for names, is_good, advice in _LIMITS:
        for name in names:
            value = attrgetter(name)(config)
            if not is_good(value):
                raise InputError(f"--{name.replace('_', '-')} is {value}; {advice}")
    _check_geometry(config.data)
    m, a = config.model, config.adaptation
    if m.diffusion and a.denoising_weight == 0 and a.reconstruction_weight == 0:
        raise InputError(
            "--model.diffusion needs a label coder that learns: give --adaptation.denoising-weight or "
            "--adaptation.reconstruction-weight above 0, or --model.no-diffusion"
        )
    if config.method in ("dacs", "daformer", "mic") and a.mixing == "none":
        raise InputError(
            f"--method {config.method} learns from mixed images: give --adaptation.mixing classmix or cutmix"
        )
    if config.stop_at is not None and config.stop_at < 1:
        raise InputError(f"--stop-at is {config.stop_at}; give a step, from 1 on")


def _check_geometry(d: DataConfig) -> None:
    if d.ignore_top + d.ignore_bottom >= 1:
        raise InputError(
            "--data.ignore-top and --data.ignore-bottom leave nothing; their sum must be below 1"
        )
    sizes = {"--data.crop": d.crop, "--data.source-size": d.source_size, "--data.target-size": d.target_size}
    for flag, size in sizes.items():
        if size is not None and min(size) < 32:
            raise InputError(f"{flag} is {size[0]} {size[1]}; give at least 32 32")
    if not 0 < d.cat_max_ratio <= 1:
        raise InputError(f"--data.cat-max-ratio is {d.cat_max_ratio}; give a share above 0, 1 at most")
    low, high = d.scale
    if not 0 < low <= high:
        raise InputError(f"--data.scale is {low} {high}; give a range of positive factors, low first")
