"""Settings that a run does not read are refused; which these are is held against what methods compute."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch

from iccld import build
from iccld.adaptation.method import Batch
from iccld.bench.plan import read_plan
from iccld.cli import main
from iccld.config import AdaptationConfig, TrainConfig, with_settings
from iccld.errors import InputError
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD
from iccld.models.image_coder import CompactCoder
from iccld.presets import PRESETS, with_method
from iccld.unread import changed_settings, refuse_unread, unread_settings

OTHER: dict[str, Any] = {
    "start": 0.9,
    "teacher_steps": 3,
    "teacher_draws": 3,
    "weighting": "batch",
    "threshold": 0.02,
    "keep": 0.01,
    "trust": 0.5,
    "mixing": "cutmix",
    "color_jitter": 0.9,
    "masked": True,
    "mask_patch": 8,
    "mask_ratio": 0.2,
    "color_transfer": 0.0,
    "class_color_transfer": 0.0,
    "share_at_one": 1.0,
    "self_aligned": 0.0,
    "denoising_weight": 3.0,
    "reconstruction_weight": 3.0,
    "adversarial_weight": 0.3,
    "adversarial_input": "features",
    "adversarial_domains": 2,
    "adversarial_warmup": 0.9,
    "entropy_weight": 0.5,
    "fda_band": 0.2,
    "feature_distance": 0.1,
}
"""Another value of each setting of the methods."""
ELSEWHERE = {"teacher_decay", "discriminator_lr"}
"""Read by the update, not by methods."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{m: (m, {}) for m in ("source_only", "oracle", "adaptsegnet", "advent", "minent", "fda")},
    **{m: (m, {"adaptation.threshold": 0.3}) for m in ("dacs", "daformer", "mic")},
    "dacs with diffusion": (
        "dacs",
        {"model.diffusion": True, "adaptation.denoising_weight": 0.5, "adaptation.threshold": 0.3},
    ),
    "source_only, deterministic": ("source_only", {"model.diffusion": False}),
    "iccld": ("iccld", {}),
    "iccld, plain": ("iccld", {"adaptation.mixing": "none", "adaptation.adversarial_weight": 0.0}),
    "iccld, adversary": ("iccld", {"adaptation.mixing": "none"}),
    "iccld, masked": (
        "iccld",
        {"adaptation.masked": True, "adaptation.weighting": "batch", "adaptation.threshold": 0.3},
    ),
}
ONE_BY_ONE = ("source_only", "adaptsegnet", "fda", "dacs with diffusion", "mic", "iccld")
"""Variants in which every setting that is read is changed on its own; between them they read all."""
BASE = with_settings(
    TrainConfig(steps=10),
    {
        "data.crop": [64, 64],
        "model.width": 16,
        "model.latent_channels": 4,
        # So that the other values below leave nothing to chance.
        "adaptation.share_at_one": 0.0,
        "adaptation.self_aligned": 1.0,
    },
)


def compute(config: TrainConfig, model: ICCLD, batch: Batch) -> list[float]:
    """The losses of a step in the middle of a run."""
    method = build.build_method(config, CAMVID11)
    discriminator = build.build_discriminator(config, method, CAMVID11)
    if not method.uses_target:
        batch = Batch(batch.images, batch.labels)
    torch.manual_seed(5)
    with torch.no_grad():
        result = method.segmenter_step(model, model, discriminator, batch, 5)
    seen = [] if result.domain_maps is None else [float(result.domain_maps.maps.sum())]
    return [float(term) for term in result.terms.values()] + seen


@pytest.mark.parametrize("name", list(VARIANTS))
def test_what_is_called_unread_changes_nothing_and_the_rest_does(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = partial(CompactCoder, channels=(8, 12, 16, 24, 32))
    monkeypatch.setattr("iccld.models.image_coder.CompactCoder", narrow)
    method, settings = VARIANTS[name]
    config = with_settings(with_method(BASE, method), settings)
    model = build.build_model(config, CAMVID11)
    with torch.no_grad():
        model.label_decoder.head.weight.mul_(5)  # a teacher that is sure of some pixels
    torch.manual_seed(3)
    labels = torch.randint(0, 11, (1, 8, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    valid = torch.ones(1, 64, 64, dtype=torch.bool)
    batch = Batch(torch.rand(1, 3, 64, 64), labels, torch.rand(1, 3, 64, 64), valid)
    expected = compute(config, model, batch)
    assert compute(config, model, batch) == expected

    names = {f"adaptation.{n}" for n in AdaptationConfig.__dataclass_fields__ if n not in ELSEWHERE}
    unread = names & set(unread_settings(config))
    # Without diffusion all draws are the same, but they take random numbers.
    others = {n: OTHER[n.removeprefix("adaptation.")] for n in unread - {"adaptation.teacher_draws"}}
    assert compute(with_settings(config, others), model, batch) == expected
    for setting in names - unread if name in ONE_BY_ONE else ():
        value = OTHER[setting.removeprefix("adaptation.")]
        if attrgetter(setting)(config) == value:
            value = {"batch": "class", True: False}[value]
        other = with_settings(config, {setting: value})
        assert compute(other, model, batch) != expected, setting


def test_every_setting_of_methods_has_another_value_here() -> None:
    assert OTHER.keys() | ELSEWHERE == AdaptationConfig.__dataclass_fields__.keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--method source_only --adaptation.color-transfer 0.5", "is read by --method iccld"),
        ("--method source_only --adaptation.color-transfer 1", "is read by --method iccld"),  # its default
        ("--method source_only --adaptation.color_transfer=1.0", "is read by --method iccld"),
        ("--method dacs --adaptation.masked", "--adaptation.masked is not read here (--method dacs); it is read by"),
        ("--method adaptsegnet --adaptation.adversarial-input features", "read by --method iccld with"),
        ("--adaptation.threshold 0.5", "--adaptation.threshold is not read here (--method iccld)"),
        ("--method dacs --adaptation.keep 0.2", "it is read by --adaptation.weighting class"),
        ("--method minent --adaptation.fda-band 0.1", "it is read by --method fda"),
        ("--method daformer --model.pretrained no --adaptation.feature-distance 0.1", "with a pretrained backbone"),
        ("--model.no-diffusion --adaptation.mixing classmix --adaptation.teacher-draws 4", "of models with diffusion"),
        ("--model.no-diffusion --adaptation.share-at-one 1", "it is read by models with diffusion"),
        ("--data.no-rare-class-sampling --data.rare-class-temperature 1", "it is read by rare-class sampling"),
        ("--adaptation.mixing none --data.ignore-top 0.1", "it is read by --method dacs, daformer and mic"),
        ("--data.source-root mine", "name it with --data.source (folder for one of your own)"),
        ("--data.target folder --data.target-root x --data.target-count 5", "read by --data.target street_scenes"),
    ],
)  # fmt: skip
def test_what_a_run_would_ignore_is_refused(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "demo", *words.split(), "--out", str(tmp_path / "run")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert not (tmp_path / "run").exists()


def test_what_is_switched_off_where_it_is_not_there_is_no_mistake() -> None:
    config = with_settings(
        BASE, {"method": "source_only", "model.diffusion": False, "model.reencoding": False}
    )
    config = with_settings(config, {"adaptation.color_transfer": 0.0, "adaptation.teacher_steps": 1})
    refuse_unread(config, changed_settings(config, BASE))


@pytest.mark.parametrize("method", ["iccld", "oracle", "mic", "fda", "adaptsegnet"])
@pytest.mark.parametrize("preset", ["demo", "gta5_to_cityscapes", "folder_to_folder"])
def test_defaults_of_presets_and_recipes_are_never_refused(preset: str, method: str) -> None:
    default = PRESETS[preset].config
    config = with_method(default, method)
    refuse_unread(config, changed_settings(config, with_method(default, method)))
    assert changed_settings(config, config) == []
    assert "method" in changed_settings(config, with_method(default, "advent"))


def test_plans_count_what_a_variant_sets(tmp_path: Path) -> None:
    text = 'seeds = [0]\n[tasks.a]\npreset = "demo"\nsettings = { "adaptation.color_transfer" = 0.5 }\n[variants.b]\n'
    plan = tmp_path / "plan.toml"
    plan.write_text(text + 'method = "dacs"\n')
    assert read_plan(plan).runs()
    plan.write_text(text + 'method = "dacs"\nsettings = { "adaptation.masked" = true }\n')
    with pytest.raises(
        InputError, match=r"plan\.toml: --adaptation\.masked is not read here \(--method dacs\)"
    ):
        read_plan(plan)
