"""Every named run: its settings hold together, its command is one that the command line takes, its parts build."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from iccld.build import build_discriminator, build_method, build_model
from iccld.commands import train as train_command
from iccld.commands.presets import PresetsArgs
from iccld.config import TrainConfig, from_dict, to_dict, with_values
from iccld.errors import InputError
from iccld.labels import get_label_space
from iccld.presets import PRESETS, get_preset

every_preset = pytest.mark.parametrize("name", list(PRESETS))


@every_preset
def test_settings_round_trip_and_pass_the_checks(name: str) -> None:
    config = PRESETS[name].config
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    train_command.check_config(config)


@every_preset
def test_model_method_and_discriminator_build(name: str) -> None:
    config = PRESETS[name].config
    space = get_label_space(config.data.label_space)
    # A network of the same kind that is quick to make stands for the largest one, which has a test of its own.
    smaller = "mit_b0" if config.model.backbone == "mit_b5" else config.model.backbone
    quick = with_values(config, model={"pretrained": "no", "backbone": smaller})
    method = build_method(config)
    model = build_model(quick, space)
    assert model.label_space == space
    assert model.spec.width == config.model.width
    assert method.uses_discriminator == (config.adaptation.adversarial_weight > 0)
    assert (build_discriminator(config, method) is not None) == method.uses_discriminator


@every_preset
def test_facts_are_stated(name: str) -> None:
    preset = PRESETS[name]
    assert preset.summary
    assert preset.hardware
    assert preset.expected
    assert preset.config.data.crop[0] % 32 == preset.config.data.crop[1] % 32 == 0
    for size in (preset.config.data.source_size, preset.config.data.target_size):
        if size is not None and preset.config.data.scale[0] >= 1:
            assert size[0] >= preset.config.data.crop[0]
            assert size[1] >= preset.config.data.crop[1]


@pytest.mark.parametrize("name", [n for n, p in PRESETS.items() if p.command.startswith("iccld train")])
def test_command_is_understood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[TrainConfig, Path, str]] = []

    def record(config: TrainConfig, out: Path, *, preset: str) -> str:
        asked.append((config, out, preset))
        return "finished"

    monkeypatch.setattr(train_command, "train", record)
    words = shlex.split(PRESETS[name].command)
    assert words[:3] == ["iccld", "train", name]
    assert train_command.main(words[2:]) == 0
    ((config, out, preset),) = asked
    assert preset == name
    assert str(out) == words[words.index("--out") + 1]
    roots: dict[str, Any] = {
        key: getattr(config.data, key)
        for key in ("source_root", "target_root")
        if f"--data.{key.replace('_', '-')}" in words
    }
    assert config == with_values(PRESETS[name].config, data=roots)


def test_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'gta5_to_cityscapes'") as caught:
        get_preset("gta5-cityscapes")
    assert all(name in str(caught.value) for name in PRESETS)


def test_listing(capsys: pytest.CaptureFixture[str]) -> None:
    assert PresetsArgs().run() == 0
    listing = capsys.readouterr().out
    assert PresetsArgs(json=True).run() == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts.keys() == PRESETS.keys()
    for name, preset in PRESETS.items():
        assert name in listing
        assert preset.command in listing
        assert facts[name]["expected"] == preset.expected


def test_one_preset_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert PresetsArgs("demo").run() == 0
    assert from_dict(json.loads(capsys.readouterr().out)) == PRESETS["demo"].config
    with pytest.raises(InputError, match="unknown preset"):
        PresetsArgs("dmo").run()
