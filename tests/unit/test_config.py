from __future__ import annotations

import dataclasses
import json
from operator import attrgetter
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from iccld.config import DataConfig, ModelConfig, TrainConfig, from_dict, to_dict, with_settings


def test_round_trip_through_json() -> None:
    config = TrainConfig(
        steps=7,
        stop_at=3,
        data=DataConfig(source_size=(96, 128), target_size=None, scale=(0.5, 2.0), source_root="a b"),
        model=ModelConfig(backbone="mit_b2", diffusion=False),
    )
    again = from_dict(json.loads(json.dumps(to_dict(config))))
    assert again == config
    assert isinstance(again.data.source_size, tuple)
    assert isinstance(again.data.crop, tuple)
    assert hash(again) == hash(config)


def _other(hint: Any, value: object) -> object:
    """A value of the field's type that is not the given one."""
    if get_origin(hint) is Literal:
        return next(choice for choice in get_args(hint) if choice != value)
    if value is None:
        kind = next(kind for kind in get_args(hint) if kind is not type(None))
        return {str: "other", int: 3}.get(kind, (64, 96))
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return value / 2 if value else 0.5  # stays a share
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return "other:Method" if value == TrainConfig.method else "other"
    if value == ():
        return ("other",) if get_args(hint)[0] is str else (0.5,)
    # Words in a tuple are one of few choices: the first alone is another value.
    return value[:1] if isinstance(value[0], str) else tuple(v + 1 for v in value)  # type: ignore[index]


def test_every_field_survives() -> None:
    """Each field on its own takes another value and comes back."""
    base = TrainConfig()
    for name, hint in get_type_hints(TrainConfig).items():
        value = getattr(base, name)
        changes = {name: _other(hint, value)} if not dataclasses.is_dataclass(value) else {}
        if dataclasses.is_dataclass(value):
            inner = get_type_hints(type(value))
            changes = {f"{name}.{field}": _other(inner[field], getattr(value, field)) for field in inner}
        for setting, other in changes.items():
            changed = with_settings(base, {setting: other})
            assert changed != base
            assert attrgetter(setting)(changed) == other
            assert with_settings(changed, {setting: attrgetter(setting)(base)}) == base, "the rest is left"
            assert from_dict(json.loads(json.dumps(to_dict(changed)))) == changed


def test_missing_settings_take_their_default() -> None:
    assert from_dict({}) == TrainConfig()
    assert from_dict({"data": {"batch_size": 9}}).data == DataConfig(batch_size=9)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"stepz": 3}, "unknown setting 'stepz' of TrainConfig"),
        ({"data": {"crops": [1, 2]}}, "unknown setting 'crops' of DataConfig"),
    ],
)
def test_unknown_settings(value: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(value)


def test_with_settings_leaves_the_rest() -> None:
    base = TrainConfig(seed=5, data=DataConfig(batch_size=9))
    changed = with_settings(base, {"steps": 2, "data.crop": (32, 64), "model.diffusion": False})
    assert (changed.seed, changed.steps) == (5, 2)
    assert (changed.data.batch_size, changed.data.crop) == (9, (32, 64))
    assert not changed.model.diffusion
    assert base == TrainConfig(seed=5, data=DataConfig(batch_size=9))
    assert with_settings(base, {}) == base


def test_settings_from_json_are_lists() -> None:
    assert with_settings(TrainConfig(), {"data.crop": [32, 64]}).data.crop == (32, 64)


@pytest.mark.parametrize("name", ["steps.more", "data.source_root.more"])
def test_settings_have_no_settings(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown setting '{name}'"):
        with_settings(TrainConfig(), {name: 2})


@pytest.mark.parametrize(
    "name", ["stepz", "data.crops", "date.crop", "crop", "data.crop.height", "data.", ""]
)
def test_with_settings_knows_its_fields(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown setting '{name}'"):
        with_settings(TrainConfig(), {name: 2})
