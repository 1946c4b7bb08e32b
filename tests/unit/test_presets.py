"""Every named run: its settings hold together, its command is one that the command line takes, its parts build."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch

from iccld.adaptation.losses import Adversary
from iccld.adaptation.method import Method as MethodProtocol
from iccld.build import build_discriminator, build_method, build_model
from iccld.commands import train as train_command
from iccld.commands.presets import PresetsArgs
from iccld.commands.train_checks import check_config
from iccld.config import TrainConfig, from_dict, to_dict, with_settings
from iccld.errors import InputError
from iccld.labels import LabelSpace, get_label_space
from iccld.methods import METHODS
from iccld.presets import PRESETS, RECIPES, get_preset, with_method


def space_of(config: TrainConfig) -> LabelSpace:
    """The classes of a preset; those of an own data set are two that somebody may have."""
    name = config.data.label_space
    return LabelSpace.from_names("own", ["background", "shed"]) if name == "source" else get_label_space(name)


every_preset = pytest.mark.parametrize("name", list(PRESETS))


@every_preset
def test_settings_round_trip_and_pass_the_checks(name: str) -> None:
    config = PRESETS[name].config
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    check_config(config)


@every_preset
def test_model_method_and_discriminator_build(name: str) -> None:
    config = PRESETS[name].config
    space = space_of(config)
    # A network of the same kind that is quick to make stands for the largest one, which has a test of its own.
    smaller = "mit_b0" if config.model.backbone == "mit_b5" else config.model.backbone
    quick = with_settings(config, {"model.pretrained": "no", "model.backbone": smaller})
    method = build_method(quick, space)
    model = build_model(quick, space)
    assert model.label_space == space
    assert model.spec.width == config.model.width
    opposes = config.method == "iccld" and config.adaptation.adversarial_weight > 0
    assert (method.adversary is not None) == opposes
    assert (build_discriminator(quick, method, space) is not None) == (method.adversary is not None)


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

    def record(config: TrainConfig, out: Path, *, preset: str, json: Path | None) -> str:
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
        f"data.{key}": getattr(config.data, key)
        for key in ("source_root", "target_root")
        if f"--data.{key.replace('_', '-')}" in words
    }
    assert config == with_settings(PRESETS[name].config, roots)


# -- rivals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_shows_several_points_of_miou(name: str) -> None:
    config = PRESETS[name].config
    assert 4 <= config.steps // config.eval_every <= 10


def test_every_rival_has_a_recipe() -> None:
    assert METHODS.keys() == {"iccld", "source_only", "oracle", *RECIPES}


@every_preset
@pytest.mark.parametrize("method", list(RECIPES))
def test_rivals_build_on_every_preset(name: str, method: str) -> None:
    config = with_method(PRESETS[name].config, method)
    check_config(config)
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    space = space_of(config)
    quick = with_settings(config, {"model.pretrained": "no", "model.backbone": "compact"})
    built = build_method(quick, space)
    assert type(built).__name__.lower() == method
    assert isinstance(built, MethodProtocol)
    assert not built.supervised.needs_label_coder, "plain cross-entropy"
    assert not config.model.diffusion
    discriminator = build_discriminator(quick, built, space)
    assert (discriminator is not None) == (method in ("adaptsegnet", "advent"))
    if discriminator is not None:
        assert discriminator(torch.zeros(1, len(space), 64, 64), torch.ones(1)).shape == (1, 3, 2, 2)
        assert built.adversary == Adversary(
            "probabilities" if method == "adaptsegnet" else "self_information",
            weight=0.001,
            start_step=0,
            warmup_steps=0,
            relieve=False,
            betas=(0.9, 0.99),
        )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("mask_patch", -1),
        ("mask_ratio", 1.5),
        ("teacher_draws", 0),
        ("entropy_weight", -1.0),
        ("fda_band", -0.1),
        ("feature_distance", -1.0),
    ],
)
def test_settings_of_rivals_are_checked(setting: str, value: float) -> None:
    config = PRESETS["demo"].config
    config = replace(config, adaptation=replace(config.adaptation, **{setting: value}))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"--adaptation.{setting.replace('_', '-')} = {value}"):
        check_config(config)


@pytest.mark.parametrize("method", list(RECIPES))
def test_a_recipe_changes_what_it_names_and_no_more(method: str) -> None:
    base = PRESETS["gta5_to_cityscapes"].config
    changed = with_method(base, method)
    assert changed.method == method
    size = (704, 1280) if method in ("daformer", "mic") else (720, 1280)
    for setting, value in (RECIPES[method] | {"data.source_size": size}).items():
        assert attrgetter(setting)(changed) == value
        changed = with_settings(changed, {setting: attrgetter(setting)(base)})
    assert with_settings(changed, {"method": base.method}) == base
    assert changed.data.rare_class_sampling == base.data.rare_class_sampling


@pytest.mark.parametrize("method", ["iccld", "source_only", "oracle"])
def test_what_is_no_rival_keeps_the_presets_settings(method: str) -> None:
    base = PRESETS["demo"].config
    uniform = {"data.rare_class_sampling": False} if method == "oracle" else {}
    assert with_method(base, method) == with_settings(base, {"method": method, **uniform})


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands without ``--out`` look into ``runs``, where the demo of this clone may lie."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


def _asked(monkeypatch: pytest.MonkeyPatch, *words: str) -> TrainConfig:
    """What ``iccld train`` with these words would train."""
    asked: list[TrainConfig] = []

    def record(config: TrainConfig, out: Path, *, preset: str, json: Path | None) -> str:
        asked.append(config)
        return "finished"

    monkeypatch.setattr(train_command, "train", record)
    assert train_command.main(words) == 0
    return asked[0]


@pytest.mark.parametrize("method", list(RECIPES))
def test_the_flag_brings_the_recipe(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = with_method(PRESETS["demo"].config, method)
    assert _asked(monkeypatch, "demo", "--method", method) == expected
    assert _asked(monkeypatch, "demo", f"--method={method}") == expected


@pytest.mark.parametrize("method_first", [True, False])
def test_other_flags_win_over_the_recipe(method_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    method = ["--method", "dacs"]
    others = ["--adaptation.threshold", "0.5", "--adaptation.denoising-weight=0.25", "--steps", "9"]
    words = [*method, *others] if method_first else [*others, *method]
    expected = with_settings(
        with_method(PRESETS["demo"].config, "dacs"),
        {"adaptation.threshold": 0.5, "adaptation.denoising_weight": 0.25, "steps": 9},
    )
    assert _asked(monkeypatch, "demo", *words) == expected


def test_without_a_rival_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    base = PRESETS["demo"].config
    assert _asked(monkeypatch, "demo") == base
    changed = with_settings(base, {"method": "oracle", "data.rare_class_sampling": False})
    assert _asked(monkeypatch, "demo", "--method", "oracle") == changed
    rare = with_settings(changed, {"data.rare_class_sampling": True})
    assert _asked(monkeypatch, "demo", "--method", "oracle", "--data.rare-class-sampling") == rare


def test_help_shows_the_recipes_values(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        train_command.main(["demo", "--method", "dacs", "--help"])
    assert ended.value.code == 0
    assert "0.968" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        train_command.main(["demo", "--help"])
    assert "0.968" not in capsys.readouterr().out


def test_a_method_that_is_not_there() -> None:
    for words in (["--method", "dax"], ["--method"]):
        with pytest.raises(InputError, match="--method"):
            train_command.main(["demo", *words])


# -- names ------------------------------------------------------------------------------------------


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


def test_rivals_do_what_is_theirs_whatever_iccld_does_by_default() -> None:
    for name in ("dacs", "daformer", "mic"):
        assert RECIPES[name]["adaptation.mixing"] == "classmix", name
    for name in ("adaptsegnet", "advent"):
        assert RECIPES[name]["adaptation.adversarial_weight"] > 0, name


# Read off the published code: vikolss/DACS, lhoyer/DAFormer, lhoyer/MIC, wasidennis/AdaptSegNet, valeoai/ADVENT and
# YanchaoYang/FDA.
PUBLISHED = {
    "adaptsegnet": {
        "data.source_size": (720, 1280), "adaptation.adversarial_weight": 0.001, "adaptation.start": 0.0,
        "adaptation.adversarial_warmup": 0.0, "adaptation.discriminator_lr": 1e-4,
    },
    "advent": {
        "data.source_size": (720, 1280), "adaptation.adversarial_weight": 0.001, "adaptation.start": 0.0,
        "adaptation.adversarial_warmup": 0.0, "adaptation.discriminator_lr": 1e-4,
    },
    "minent": {"data.source_size": (720, 1280), "adaptation.entropy_weight": 0.001, "adaptation.start": 0.0},
    "fda": {"data.source_size": (720, 1280), "adaptation.entropy_weight": 0.005, "adaptation.start": 0.0},
    "dacs": {
        "data.source_size": (720, 1280), "data.rare_class_sampling": False, "data.cat_max_ratio": 1.0,
        "data.ignore_top": 0.0, "data.ignore_bottom": 0.0,
        "adaptation.start": 0.0, "adaptation.teacher_decay": 0.99, "adaptation.threshold": 0.968,
        "adaptation.weighting": "batch", "adaptation.mixing": "classmix", "adaptation.color_jitter": 0.25,
    },
    "daformer": {
        "data.source_size": (704, 1280), "data.rare_class_sampling": True, "data.rare_class_temperature": 0.01,
        "data.cat_max_ratio": 0.75, "data.ignore_top": 15 / 512, "data.ignore_bottom": 120 / 512,
        "adaptation.start": 0.0, "adaptation.teacher_decay": 0.999, "adaptation.threshold": 0.968,
        "adaptation.weighting": "batch", "adaptation.mixing": "classmix", "adaptation.color_jitter": 0.2,
        "adaptation.feature_distance": 0.005, "optim.backbone_lr": 6e-5, "optim.head_lr": 6e-4,
        "optim.warmup_steps": 1500, "optim.poly_power": 1.0, "data.batch_size": 2, "steps": 40_000,
    },
}  # fmt: skip
PUBLISHED["mic"] = PUBLISHED["daformer"] | {"adaptation.mask_ratio": 0.7}


@pytest.mark.parametrize("method", list(PUBLISHED))
def test_recipes_are_those_of_the_published_code(method: str) -> None:
    config = with_method(PRESETS["gta5_to_cityscapes"].config, method)
    for setting, value in PUBLISHED[method].items():
        assert attrgetter(setting)(config) == value, setting
    assert config.data.source_stretch
    assert config.data.target_size == (512, 1024)
    built = build_method(
        with_settings(config, {"model.pretrained": "no", "model.backbone": "compact"}), space_of(config)
    )
    if method == "mic":
        assert built.self_training.mask_patch == 32, "a sixteenth of the crop: 64 of 1024 with HRDA"
    if method in ("dacs", "daformer", "mic"):
        assert built.self_training.code == ("dacs" if method == "dacs" else "daformer")


def test_only_gta5_of_the_presets_size_is_stretched() -> None:
    base = PRESETS["gta5_to_cityscapes"].config
    own = with_settings(base, {"data.source_size": (360, 640)})
    assert with_method(own, "dacs").data.source_size == (360, 640)
    assert with_method(PRESETS["synthia_to_cityscapes"].config, "dacs").data.source_size == (760, 1280)
