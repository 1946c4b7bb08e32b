"""Which settings of a run cannot work."""

from __future__ import annotations

from iccld.commands.arguments import check_numbers
from iccld.config import DataConfig, TrainConfig
from iccld.errors import InputError


def check_config(config: TrainConfig) -> None:
    """Refuses settings that cannot work.

    Raises:
        InputError: names the flag and what it takes.
    """
    check_numbers(config)
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


def _check_geometry(d: DataConfig) -> None:
    if d.ignore_top + d.ignore_bottom >= 1:
        raise InputError(
            "--data.ignore-top and --data.ignore-bottom leave nothing; their sum must be below 1"
        )
    low, high = d.scale
    if low > high:
        raise InputError(f"--data.scale is {low} {high}; give a range of factors, low first")
