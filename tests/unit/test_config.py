from __future__ import annotations

import dataclasses
import json

import pytest

from iccld.config import DataConfig, ModelConfig, TrainConfig, from_dict, to_dict, with_values


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


def test_every_field_survives() -> None:
    """Each field on its own takes another value and comes back."""

    choices = {"method": "oracle", "precision": "fp32", "source_look": "both", "target_look": "both"}

    def other(name: str, value: object) -> object:
        if isinstance(value, bool):
            return not value
        if isinstance(value, int | float):
            return value + 1
        if isinstance(value, tuple):
            return tuple(v + 1 for v in value)
        if value is None and name != "source_root" and name != "target_root":
            return 3 if name == "stop_at" else (64, 96)
        return choices.get(name, "other")

    base = TrainConfig()
    for field in dataclasses.fields(base):
        value = getattr(base, field.name)
        if dataclasses.is_dataclass(value):
            for inner in dataclasses.fields(value):
                changed = with_values(
                    base, **{field.name: {inner.name: other(inner.name, getattr(value, inner.name))}}
                )
                assert changed != base
                assert from_dict(json.loads(json.dumps(to_dict(changed)))) == changed
        else:
            changed = with_values(base, **{field.name: other(field.name, value)})
            assert changed != base
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


def test_with_values_leaves_the_rest() -> None:
    base = TrainConfig(seed=5, data=DataConfig(batch_size=9))
    changed = with_values(base, steps=2, data={"crop": (32, 64)})
    assert (changed.seed, changed.steps) == (5, 2)
    assert (changed.data.batch_size, changed.data.crop) == (9, (32, 64))
    assert base.steps != 2


def test_with_values_knows_its_fields() -> None:
    with pytest.raises(TypeError, match="stepz"):
        with_values(TrainConfig(), stepz=2)
