"""Finds settings that a run does not read: those of other methods, of disabled parts, or of other data sets.

The table ``_READERS`` gives the condition under which a run reads a setting. Settings that are not in the table are
read by every run. A test compares the table with the behavior of the methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import NamedTuple

from iccld.config import METHODS, TrainConfig
from iccld.errors import InputError


class _Reader(NamedTuple):
    """Dotted names of settings, the condition under which a run reads them, and the condition in words for messages."""

    settings: str
    reads: Callable[[TrainConfig], bool]
    who: str


def _by(settings: str, *methods: str) -> _Reader:
    names = " and ".join(filter(None, (", ".join(methods[:-1]), methods[-1])))
    return _Reader(settings, lambda c: _is(c, *methods), f"--method {names}")


def _is(c: TrainConfig, *methods: str) -> bool:
    """Returns whether the method is one of ``methods``. Methods of other packages may read every setting."""
    return c.method in methods or c.method not in METHODS


def _teaches(c: TrainConfig) -> bool:
    own = c.method == "iccld" and (c.adaptation.mixing != "none" or c.adaptation.masked)
    return own or _is(c, "dacs", "daformer", "mic")


def _opposes(c: TrainConfig) -> bool:
    own = c.method == "iccld" and c.adaptation.adversarial_weight > 0
    return own or _is(c, "adaptsegnet", "advent")


def _starts_pretrained(c: TrainConfig) -> bool:
    return c.model.pretrained != "no" and (c.model.backbone != "compact" or c.model.pretrained != "auto")


_TEACHERS = "--method dacs, daformer and mic, and by iccld with --adaptation.mixing or --adaptation.masked"
_ADVERSARIES = "--method adaptsegnet and advent, and by iccld with --adaptation.adversarial-weight above 0"
_OWN_ADVERSARY = "--method iccld with --adaptation.adversarial-weight above 0"

_READERS = (
    _by("adaptation.color_transfer adaptation.masked", "iccld"),
    _by("adaptation.mixing", "iccld", "dacs", "daformer", "mic"),
    _by("adaptation.adversarial_weight", "iccld", "adaptsegnet", "advent"),
    _by("adaptation.entropy_weight", "minent", "fda"),
    _by("adaptation.fda_band", "fda"),
    _Reader(
        "adaptation.class_color_transfer",
        lambda c: _is(c, "iccld") and _teaches(c),
        "--method iccld with --adaptation.mixing or --adaptation.masked",
    ),
    _Reader("adaptation.adversarial_warmup adaptation.discriminator_lr", _opposes, _ADVERSARIES),
    _Reader("adaptation.adversarial_input", lambda c: _is(c, "iccld") and _opposes(c), _OWN_ADVERSARY),
    _Reader(
        "adaptation.adversarial_domains",
        lambda c: _is(c, "iccld") and _opposes(c) and _teaches(c),
        f"{_OWN_ADVERSARY} and --adaptation.mixing or --adaptation.masked",
    ),
    _Reader(
        "adaptation.feature_distance",
        lambda c: _is(c, "daformer", "mic") and _starts_pretrained(c),
        "--method daformer and mic with a pretrained backbone",
    ),
    _Reader(
        "adaptation.start",
        lambda c: _teaches(c) or _opposes(c) or _is(c, "minent", "fda"),
        "the rivals, and by --method iccld with --adaptation.mixing, --adaptation.masked or an adversary",
    ),
    _Reader(
        "adaptation.weighting adaptation.color_jitter data.ignore_top data.ignore_bottom", _teaches, _TEACHERS
    ),
    _Reader(
        "adaptation.teacher_steps adaptation.teacher_draws",
        lambda c: _teaches(c) and c.model.diffusion,
        f"{_TEACHERS}, of models with diffusion",
    ),
    _Reader(
        "adaptation.threshold",
        lambda c: _teaches(c) and c.adaptation.weighting == "batch",
        f"--adaptation.weighting batch ({_TEACHERS})",
    ),
    _Reader(
        "adaptation.keep adaptation.trust",
        lambda c: _teaches(c) and c.adaptation.weighting == "class",
        f"--adaptation.weighting class ({_TEACHERS})",
    ),
    _Reader(
        "adaptation.mask_patch adaptation.mask_ratio",
        lambda c: _is(c, "mic") or (c.method == "iccld" and c.adaptation.masked),
        "--method mic, and by iccld with --adaptation.masked",
    ),
    _Reader(
        "adaptation.share_at_one adaptation.self_aligned model.reencoding",
        lambda c: c.model.diffusion,
        "models with diffusion",
    ),
    _Reader(
        "data.rare_class_temperature",
        lambda c: c.data.rare_class_sampling,
        "rare-class sampling (--data.rare-class-sampling)",
    ),
    _Reader(
        "data.cat_max_ratio",
        lambda c: c.method != "oracle",
        "methods that learn from the source's labels, not by --method oracle",
    ),
    _Reader(
        "data.source_look data.source_count",
        lambda c: c.data.source == "street_scenes",
        "--data.source street_scenes",
    ),
    _Reader(
        "data.target_look data.target_count data.val_count",
        lambda c: c.data.target == "street_scenes",
        "--data.target street_scenes",
    ),
    _Reader("data.scene_cache", lambda c: "street_scenes" in (c.data.source, c.data.target), "street_scenes"),
    _Reader(
        "data.source_root data.source_split",
        lambda c: c.data.source != "street_scenes",
        "data sets of files: name it with --data.source (folder for one of your own)",
    ),
    _Reader(
        "data.target_root data.target_split data.val_split",
        lambda c: c.data.target != "street_scenes",
        "data sets of files: name it with --data.target (folder for one of your own)",
    ),
)

_OFF = {"adaptation.teacher_steps": 1, "adaptation.teacher_draws": 1, "data.cat_max_ratio": 1.0}
"""Values that disable a feature, in addition to 0, ``False`` and ``"none"``. Such a value is accepted even if the run
does not read the setting."""


def unread_settings(config: TrainConfig) -> list[str]:
    """Returns the dotted names of the settings that a run does not read."""
    return [name for reader in _READERS if not reader.reads(config) for name in reader.settings.split()]


def refuse_unread(config: TrainConfig, chosen: Iterable[str]) -> None:
    """Raises ``InputError`` for the first setting in ``chosen`` (dotted names) that the run would ignore."""
    names = set(chosen)
    for reader in _READERS:
        for setting in () if reader.reads(config) else reader.settings.split():
            is_off = attrgetter(setting)(config) in (0, "none", _OFF.get(setting))
            if setting in names and not is_off:
                flag = f"--{setting.replace('_', '-')}"
                here = f"{flag} is not read here (--method {config.method})"
                raise InputError(f"{here}; it is read by {reader.who}")


def typed_settings(words: Iterable[str]) -> list[str]:
    """Returns the dotted names of the settings whose flags (also in the form ``no-…``) are in ``words``."""
    names = [word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")]
    return [*names, *(name.replace(".no_", ".") for name in names)]


def changed_settings(config: TrainConfig, default: TrainConfig) -> list[str]:
    """Returns the dotted names of the settings in which two configurations differ."""
    changed = []
    for name in TrainConfig.__dataclass_fields__:
        inner = getattr(getattr(config, name), "__dataclass_fields__", ())
        names = [f"{name}.{part}" for part in inner] or [name]
        changed += [n for n in names if attrgetter(n)(config) != attrgetter(n)(default)]
    return changed
