"""Which settings a run does not read: those of other methods, of parts that are off, of other data sets.

The table says when each setting is read; what it does not name is read by every run. A test holds it against what
methods compute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import NamedTuple

from iccld.config import TrainConfig
from iccld.errors import InputError


class _Reader(NamedTuple):
    """When some settings are read, and who reads them, in words."""

    settings: tuple[str, ...]
    reads: Callable[[TrainConfig], bool]
    who: str


def _teaches(c: TrainConfig) -> bool:
    a = c.adaptation
    return c.method in ("dacs", "daformer", "mic") or (
        c.method == "iccld" and (a.mixing != "none" or a.masked)
    )


def _masks(c: TrainConfig) -> bool:
    return c.method == "mic" or (c.method == "iccld" and c.adaptation.masked)


def _opposes(c: TrainConfig) -> bool:
    own = c.method == "iccld" and c.adaptation.adversarial_weight > 0
    return own or c.method in ("adaptsegnet", "advent")


def _scenes(*roles: str) -> Callable[[TrainConfig], bool]:
    return lambda c: any(getattr(c.data, role) == "street_scenes" for role in roles)


def _files(*roles: str) -> Callable[[TrainConfig], bool]:
    return lambda c: any(getattr(c.data, role) != "street_scenes" for role in roles)


_TEACHERS = "--method dacs, daformer and mic, and by iccld with --adaptation.mixing or --adaptation.masked"
_DIFFUSION = "models with diffusion"
_ADVERSARIES = "--method adaptsegnet and advent, and by iccld with --adaptation.adversarial-weight above 0"

_READERS = (
    _Reader(
        ("adaptation.color_transfer", "adaptation.masked"),
        lambda c: c.method == "iccld",
        "--method iccld",
    ),
    _Reader(
        ("adaptation.mixing",),
        lambda c: c.method in ("iccld", "dacs", "daformer", "mic"),
        "--method iccld, dacs, daformer and mic",
    ),
    _Reader(
        ("adaptation.class_color_transfer",),
        lambda c: c.method == "iccld" and _teaches(c),
        "--method iccld with --adaptation.mixing or --adaptation.masked",
    ),
    _Reader(
        ("adaptation.adversarial_weight",),
        lambda c: c.method in ("iccld", "adaptsegnet", "advent"),
        "--method iccld, adaptsegnet and advent",
    ),
    _Reader(("adaptation.adversarial_warmup", "adaptation.discriminator_lr"), _opposes, _ADVERSARIES),
    _Reader(
        ("adaptation.adversarial_input",),
        lambda c: c.method == "iccld" and _opposes(c),
        "--method iccld with --adaptation.adversarial-weight above 0",
    ),
    _Reader(
        ("adaptation.adversarial_domains",),
        lambda c: c.method == "iccld" and _opposes(c) and _teaches(c),
        "--method iccld with --adaptation.adversarial-weight above 0 and --adaptation.mixing or --adaptation.masked",
    ),
    _Reader(
        ("adaptation.entropy_weight",), lambda c: c.method in ("minent", "fda"), "--method minent and fda"
    ),
    _Reader(("adaptation.fda_band",), lambda c: c.method == "fda", "--method fda"),
    _Reader(
        ("adaptation.feature_distance",),
        lambda c: (
            c.method in ("daformer", "mic")
            and c.model.pretrained != "no"
            and (c.model.backbone != "compact" or c.model.pretrained not in ("auto", "no"))
        ),
        "--method daformer and mic with a pretrained backbone",
    ),
    _Reader(
        ("adaptation.start",),
        lambda c: _teaches(c) or _opposes(c) or c.method in ("minent", "fda"),
        "the rivals, and by --method iccld with --adaptation.mixing, --adaptation.masked or an adversary",
    ),
    _Reader(
        (
            "adaptation.weighting",
            "adaptation.color_jitter",
            "data.ignore_top",
            "data.ignore_bottom",
        ),
        _teaches,
        _TEACHERS,
    ),
    _Reader(
        ("adaptation.teacher_steps", "adaptation.teacher_draws"),
        lambda c: _teaches(c) and c.model.diffusion,
        f"{_TEACHERS}, of {_DIFFUSION}",
    ),
    _Reader(
        ("adaptation.threshold",),
        lambda c: _teaches(c) and c.adaptation.weighting == "batch",
        f"--adaptation.weighting batch ({_TEACHERS})",
    ),
    _Reader(
        ("adaptation.keep", "adaptation.trust"),
        lambda c: _teaches(c) and c.adaptation.weighting == "class",
        f"--adaptation.weighting class ({_TEACHERS})",
    ),
    _Reader(
        ("adaptation.mask_patch", "adaptation.mask_ratio"),
        _masks,
        "--method mic, and by iccld with --adaptation.masked",
    ),
    _Reader(
        ("adaptation.share_at_one", "adaptation.self_aligned", "model.reencoding"),
        lambda c: c.model.diffusion,
        _DIFFUSION,
    ),
    _Reader(
        ("data.rare_class_temperature",),
        lambda c: c.data.rare_class_sampling,
        "rare-class sampling (--data.rare-class-sampling)",
    ),
    _Reader(
        ("data.cat_max_ratio",),
        lambda c: c.method != "oracle",
        "methods that learn from the source's labels, not by --method oracle",
    ),
    _Reader(("data.source_look", "data.source_count"), _scenes("source"), "--data.source street_scenes"),
    _Reader(
        ("data.target_look", "data.target_count", "data.val_count"),
        _scenes("target"),
        "--data.target street_scenes",
    ),
    _Reader(("data.scene_cache",), _scenes("source", "target"), "street_scenes"),
    _Reader(
        ("data.source_root", "data.source_split"),
        _files("source"),
        "data sets of files: name it with --data.source (folder for one of your own)",
    ),
    _Reader(
        ("data.target_root", "data.target_split", "data.val_split"),
        _files("target"),
        "data sets of files: name it with --data.target (folder for one of your own)",
    ),
)


_OFF = {
    "adaptation.color_transfer": 0.0,
    "adaptation.class_color_transfer": 0.0,
    "adaptation.masked": False,
    "adaptation.mixing": "none",
    "adaptation.adversarial_weight": 0.0,
    "adaptation.entropy_weight": 0.0,
    "adaptation.feature_distance": 0.0,
    "adaptation.teacher_steps": 1,
    "adaptation.teacher_draws": 1,
    "adaptation.self_aligned": 0.0,
    "data.ignore_top": 0.0,
    "data.ignore_bottom": 0.0,
    "data.cat_max_ratio": 1.0,
    "model.reencoding": False,
}
"""Values by which a run does without something: chosen where it is not there anyway, they are no mistake."""


def is_read(config: TrainConfig, setting: str) -> bool:
    """Whether a run reads a setting.

    Args:
        config: of the run.
        setting: its dotted name, such as ``adaptation.keep``.
    """
    return all(reader.reads(config) for reader in _READERS if setting in reader.settings)


def unread_settings(config: TrainConfig) -> list[str]:
    """Dotted names of the settings that a run does not read."""
    return [name for reader in _READERS if not reader.reads(config) for name in reader.settings]


def refuse_unread(config: TrainConfig, chosen: Iterable[str]) -> None:
    """Refuses settings that somebody has chosen and the run would ignore.

    Args:
        config: of the run.
        chosen: dotted names of the settings that are not the defaults of preset and method.

    Raises:
        InputError: names the first and what reads it.
    """
    names = set(chosen)
    for reader in _READERS:
        for setting in reader.settings:
            if setting in names and not reader.reads(config) and not _is_off(config, setting):
                flag = f"--{setting.replace('_', '-')}"
                raise InputError(
                    f"{flag} is not read here (--method {config.method}); it is read by {reader.who}"
                )


def _is_off(config: TrainConfig, setting: str) -> bool:
    return setting in _OFF and attrgetter(setting)(config) == _OFF[setting]


def typed_settings(words: Iterable[str]) -> list[str]:
    """Dotted names of the settings whose flags stand among the words of a command line."""
    names = []
    for word in words:
        if word.startswith("--"):
            group, dot, last = word[2:].partition("=")[0].replace("-", "_").rpartition(".")
            names += [f"{group}{dot}{last}", f"{group}{dot}{last.removeprefix('no_')}"]
    return names


def changed_settings(config: TrainConfig, default: TrainConfig) -> list[str]:
    """Dotted names of the settings in which two configurations differ."""
    changed = []
    for name in TrainConfig.__dataclass_fields__:
        one, other = getattr(config, name), getattr(default, name)
        if hasattr(one, "__dataclass_fields__"):
            changed += [
                f"{name}.{n}" for n in one.__dataclass_fields__ if getattr(one, n) != getattr(other, n)
            ]
        elif one != other:
            changed.append(name)
    return changed
