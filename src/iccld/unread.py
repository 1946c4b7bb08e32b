"""Finds settings that a run does not read: settings of other methods, of disabled parts, or of other data sets.

The table ``_READERS`` gives the condition under which a run reads a setting. Every run reads the settings that are not
in the table. A test compares the table with the behavior of the methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter

from iccld.config import DataConfig, TrainConfig
from iccld.errors import InputError
from iccld.methods import METHODS

_Reader = tuple[str, Callable[[TrainConfig], bool], str]
"""Dotted names of settings, the condition under which a run reads them, and the condition in words for messages."""


def _by(settings: str, *methods: str) -> _Reader:
    names = " and ".join(filter(None, (", ".join(methods[:-1]), methods[-1])))
    return settings, lambda c: _is(c, *methods), f"--method {names}"


def _is(c: TrainConfig, *methods: str) -> bool:
    """Returns whether the method is one of ``methods``. Methods of other packages may read every setting."""
    return c.method in methods or c.method not in METHODS


def _of_scenes(settings: str, domain: str) -> _Reader:
    return settings, lambda c: "street_scenes" in _names(c.data, domain), f"--data.{domain} street_scenes"


def _names(d: DataConfig, domain: str) -> list[str]:
    return [source.source for source in d.sources] if domain == "source" else [d.target]


def _of_files(settings: str, domain: str) -> _Reader:
    who = f"data sets of files: name it with --data.{domain} (folder for one of your own)"
    return settings, lambda c: getattr(c.data, domain) != "street_scenes", who


def _own_teacher(c: TrainConfig) -> bool:
    return _is(c) or (c.method == "iccld" and (c.adaptation.mixing != "none" or c.adaptation.masked))


def _teaches(c: TrainConfig) -> bool:
    return _own_teacher(c) or c.method in ("dacs", "daformer", "mic")


def _own_adversary(c: TrainConfig) -> bool:
    return _is(c) or (c.method == "iccld" and c.adaptation.adversarial_weight > 0)


def _opposes(c: TrainConfig) -> bool:
    return _own_adversary(c) or c.method in ("adaptsegnet", "advent")


def _keeps_features(c: TrainConfig) -> bool:
    starts_pretrained = c.model.backbone != "compact" or c.model.pretrained != "auto"
    return _is(c, "daformer", "mic") and c.model.pretrained != "no" and starts_pretrained


_TEACHER = "--adaptation.mixing or --adaptation.masked"
_TEACHERS = f"--method dacs, daformer and mic, and by iccld with {_TEACHER}"
_ADVERSARIES = "--method adaptsegnet and advent, and by iccld with --adaptation.adversarial-weight above 0"
_OWN_ADVERSARY = "--method iccld with --adaptation.adversarial-weight above 0"

_READERS: tuple[_Reader, ...] = (
    _by("adaptation.color_transfer adaptation.masked", "iccld"),
    _by("adaptation.mixing", "iccld", "dacs", "daformer", "mic"),
    _by("adaptation.adversarial_weight", "iccld", "adaptsegnet", "advent"),
    _by("adaptation.entropy_weight", "minent", "fda"),
    _by("adaptation.fda_band", "fda"),
    ("adaptation.class_color_transfer", _own_teacher, f"--method iccld with {_TEACHER}"),
    ("adaptation.adversarial_warmup adaptation.discriminator_lr", _opposes, _ADVERSARIES),
    ("adaptation.adversarial_input", _own_adversary, _OWN_ADVERSARY),
    (
        "adaptation.adversarial_domains",
        lambda c: _own_adversary(c) and _own_teacher(c),
        f"{_OWN_ADVERSARY} and {_TEACHER}",
    ),
    (
        "adaptation.feature_distance",
        _keeps_features,
        "--method daformer and mic with a pretrained backbone",
    ),
    (
        "adaptation.start",
        lambda c: _teaches(c) or _opposes(c) or _is(c, "minent", "fda"),
        "the rivals, and by --method iccld with --adaptation.mixing, --adaptation.masked or an adversary",
    ),
    ("adaptation.weighting adaptation.color_jitter data.ignore_top data.ignore_bottom", _teaches, _TEACHERS),
    (
        "adaptation.teacher_steps adaptation.teacher_draws",
        lambda c: _teaches(c) and c.model.diffusion,
        f"{_TEACHERS}, of models with diffusion",
    ),
    (
        "adaptation.threshold",
        lambda c: _teaches(c) and c.adaptation.weighting == "batch",
        f"--adaptation.weighting batch ({_TEACHERS})",
    ),
    (
        "adaptation.keep adaptation.trust",
        lambda c: _teaches(c) and c.adaptation.weighting == "class",
        f"--adaptation.weighting class ({_TEACHERS})",
    ),
    (
        "adaptation.mask_patch adaptation.mask_ratio",
        lambda c: _is(c, "mic") or (c.method == "iccld" and c.adaptation.masked),
        "--method mic, and by iccld with --adaptation.masked",
    ),
    (
        "adaptation.share_at_one adaptation.self_aligned model.reencoding",
        lambda c: c.model.diffusion,
        "models with diffusion",
    ),
    (
        "data.rare_class_temperature",
        lambda c: c.data.rare_class_sampling,
        "rare-class sampling (--data.rare-class-sampling)",
    ),
    (
        "data.cat_max_ratio",
        lambda c: c.method != "oracle",
        "methods that learn from the source's labels, not by --method oracle",
    ),
    (
        "data.target_labeled data.more_sources",
        lambda c: c.method != "oracle",
        "methods that learn from the source's labels, not by --method oracle",
    ),
    ("data.batch_size", lambda c: not c.data.global_batch, "runs without --data.global-batch, which sets it"),
    ("data.source_weights", lambda c: len(c.data.sources) > 1, "runs with --data.more-sources"),
    _of_scenes("data.source_look data.source_count", "source"),
    _of_scenes("data.target_look data.target_count data.val_count", "target"),
    (
        "data.scene_cache",
        lambda c: "street_scenes" in (*_names(c.data, "source"), c.data.target),
        "street_scenes",
    ),
    _of_files("data.source_root data.source_split", "source"),
    _of_files("data.target_root data.target_split data.val_split", "target"),
)

_OFF = {"adaptation.teacher_steps": 1, "adaptation.teacher_draws": 1, "data.cat_max_ratio": 1.0}
"""Values that disable a feature, in addition to 0, ``False`` and ``"none"``. Such a value is accepted even if the run
does not read the setting."""


def unread_settings(config: TrainConfig) -> list[str]:
    """Returns the dotted names of the settings that a run does not read."""
    return [name for names, reads, _ in _READERS if not reads(config) for name in names.split()]


def refuse_unread(config: TrainConfig, chosen: Iterable[str]) -> None:
    """Raises ``InputError`` for the first setting in ``chosen`` (dotted names) that the run would ignore.

    A value that disables a feature is always accepted.
    """
    chosen = set(chosen)
    for names, reads, who in _READERS:
        for name in () if reads(config) else names.split():
            is_off = attrgetter(name)(config) in (0, "none", _OFF.get(name))
            if name in chosen and not is_off:
                here = f"--{name.replace('_', '-')} is not read here (--method {config.method})"
                raise InputError(f"{here}; it is read by {who}")


def typed_settings(words: Iterable[str]) -> list[str]:
    """Returns the dotted names of the settings whose flags are in ``words``.

    Flags that disable a setting, such as ``--model.no-diffusion``, are included.
    """
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


def cache_changes_images(d: DataConfig) -> bool:
    """Returns whether a cache changes the training images.

    This is the case if images are resized to a base size and randomly scaled. With a cache, images are then resampled
    twice: to the base size, and from there to the random size. Without a cache, images are resampled once.
    """
    files = ((d.target, d.target_size), *((source.source, d.source_size) for source in d.sources))
    resized = any(name != "street_scenes" and size is not None for name, size in files)
    return d.cache is not None and tuple(d.scale) != (1.0, 1.0) and resized
