from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iccld.bench.plan import Plan, Run, identity, read_plan
from iccld.commands.train_checks import check_config
from iccld.config import AdaptationConfig, TrainConfig, from_dict, to_dict, with_settings
from iccld.errors import InputError
from iccld.methods import METHODS
from iccld.presets import PRESETS, RECIPES

PLANS = sorted((Path(__file__).parents[3] / "benchmarks" / "plans").glob("*.toml"))

Write = Callable[[str], Path]


def refuse(path: Path) -> str:
    """Reads what the user can mend; gives the one line that is said."""
    with pytest.raises(InputError) as caught:
        read_plan(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.count(str(path)) == 1
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


# -- reading -----------------------------------------------------------------------------------------


def test_a_plan_says_what_is_run(plan: Plan) -> None:
    assert (plan.name, plan.title, plan.seeds) == ("side", "Side by side", (3, 1))
    assert [(t.name, t.title, t.preset) for t in plan.tasks.values()] == [
        ("near", "Near", "demo"),
        ("far", "far", "scenes_to_camvid"),
    ]
    assert list(plan.variants) == ["source_only", "advent", "iccld", "oracle"]
    assert plan.variants["iccld"].title == "ICCLD"
    assert plan.variants["advent"].title == "advent"
    assert plan.variants["iccld"].predictions == ((1, 1), (4, 1), (1, 8))
    assert plan.variants["advent"].predictions == ((1, 1), (2, 1))
    assert plan.variants["advent"].tasks == ("near",)
    assert plan.variants["source_only"].tasks == ("near", "far")


def test_a_short_plan_takes_defaults(write_plan: Write) -> None:
    text = 'seeds = [0]\n[tasks.a]\npreset = "demo"\n[variants.b]\nmethod = "iccld"\n'
    plan = read_plan(write_plan(text))
    assert (plan.title, plan.tasks["a"].title, plan.variants["b"].title) == ("side", "a", "b")
    assert plan.variants["b"].predictions == ((1, 1),)
    assert [run.config for run in plan.runs()] == [PRESETS["demo"].config]


def test_runs_come_seed_by_seed(plan: Plan) -> None:
    per_seed = [
        "near/source_only",
        "near/advent",
        "near/iccld",
        "near/oracle",
        "far/source_only",
        "far/iccld",
    ]
    assert [run.name for run in plan.runs()] == [f"{name}/{seed}" for seed in (3, 1) for name in per_seed]


def test_settings_of_task_recipe_and_variant_add_up(runs: dict[str, Run]) -> None:
    config = runs["near/advent/3"].config
    assert (config.method, config.seed, config.steps, config.data.crop) == ("advent", 3, 40, (64, 96))
    assert config.adaptation.start == 0.25
    assert config.model.diffusion is RECIPES["advent"]["model.diffusion"] is False
    assert config.data.source_size == PRESETS["demo"].config.data.source_size
    assert runs["near/iccld/1"].config.model.diffusion
    far = replace(PRESETS["scenes_to_camvid"].config, method="source_only", seed=1)
    assert runs["far/source_only/1"].config == far


def test_the_variant_has_the_last_word(write_plan: Write, plan_text: str) -> None:
    settings = '{ "adaptation.start" = 0.5, steps = 7 }'
    path = write_plan(plan_text.replace('{ "adaptation.start" = 0.25 }', settings))
    config = next(run.config for run in read_plan(path).runs() if run.variant.name == "advent")
    assert RECIPES["advent"]["adaptation.start"] != 0.5
    assert (config.adaptation.start, config.steps) == (0.5, 7)


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (["near/iccld/1"], ["near/iccld/1"]),
        (["*/iccld/*"], ["near/iccld/3", "far/iccld/3", "near/iccld/1", "far/iccld/1"]),
        (["far/*/1", "near/o*/3"], ["near/oracle/3", "far/source_only/1", "far/iccld/1"]),
        (["near/iccld/[12]", "near/iccld/1"], ["near/iccld/1"]),
    ],
)
def test_patterns_choose_runs_and_keep_their_order(plan: Plan, only: list[str], expected: list[str]) -> None:
    assert [run.name for run in plan.runs(only)] == expected


@pytest.mark.parametrize("only", [["iccld"], ["near/iccld/1", "near/iccld/2"], ["NEAR/*"]])
def test_a_pattern_that_fits_nothing_is_refused(plan: Plan, only: list[str]) -> None:
    with pytest.raises(InputError, match=r"^--only \S+ fits no run; .* near/source_only/3 ") as caught:
        plan.runs(only)
    assert f"--only {only[-1]} " in str(caught.value)


# -- bad plans ---------------------------------------------------------------------------------------


def test_files_that_are_no_plan(tmp_path: Path, write_plan: Write) -> None:
    assert "no such file" in refuse(tmp_path / "gone.toml")
    assert "is a folder" in refuse(tmp_path)
    assert "is not valid TOML" in refuse(write_plan("seeds = [0"))
    path = write_plan("")
    path.write_bytes(b'title = "\xff\xfe"')
    assert "is not valid TOML" in refuse(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "Side by side"', 'titel = "Side by side"', "unknown entry 'titel'"),
        ('title = "Near"', "size = 3", "tasks: 'near': unknown entry 'size'"),
        ('title = "ICCLD"', "sampling = 3", "variants: 'iccld': unknown entry 'sampling'"),
        ("seeds = [3, 1]", "", "entry 'seeds' is missing"),
        ('preset = "demo"', "", "'near': entry 'preset' of Task is missing"),
        ('method = "advent"', "", "'advent': entry 'method' of Variant is missing"),
        ("seeds = [3, 1]", "seeds = 3", "seeds = 3 must be a list"),
        ('preset = "demo"', 'preset = "dmo"', "unknown preset 'dmo'; did you mean 'demo'?"),
        ("steps = 40", "step = 40", "unknown setting 'step'"),
        ('"adaptation.start"', '"adaption.start"', "unknown setting 'adaption.start'"),
        ('"adaptation.start"', '"adaptation.stat"', "unknown setting 'adaptation.stat'"),
        ('tasks = ["near"]', 'tasks = ["near", "mars"]', "variant advent names the task 'mars'"),
        ("predictions = [[1, 1], [2, 1]]", "predictions = [1, 1]", "predictions[0] = 1 must be a list of 2"),
        ("predictions = [[1, 1], [2, 1]]", 'predictions = [["one", 1]]', "'one'"),
    ],
)
def test_bad_entries_are_named(old: str, new: str, message: str, write_plan: Write, plan_text: str) -> None:
    assert plan_text.count(old) >= 1
    assert message in refuse(write_plan(plan_text.replace(old, new, 1)))


@pytest.mark.parametrize("part", ["tasks", "variants"])
def test_plans_without_a_part(part: str, write_plan: Write, plan_text: str) -> None:
    kept = "".join(line for line in plan_text.splitlines(True) if not line.startswith("predictions"))
    blocks = [b for b in kept.split("\n\n") if not b.lstrip().startswith(f"[{part}.")]
    assert f"'{part}' is missing" in refuse(write_plan("\n\n".join(blocks)))


def test_an_unknown_method_is_refused(write_plan: Write, plan_text: str) -> None:
    assert "'advnt'" in refuse(write_plan(plan_text.replace('method = "advent"', 'method = "advnt"')))


def test_a_variant_that_measures_nothing_is_refused(write_plan: Write, plan_text: str) -> None:
    """Before it is trained, not after."""
    text = plan_text.replace("predictions = [[1, 1], [2, 1]]", "predictions = []")
    assert "measures nothing: give predictions" in refuse(write_plan(text))


def test_a_plan_without_runs_is_refused(write_plan: Write, plan_text: str) -> None:
    path = write_plan(plan_text.replace("seeds = [3, 1]", "seeds = []"))
    with pytest.raises(InputError):
        read_plan(path).runs(["near/*"])


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_the_plans_of_this_repository_can_be_run(path: Path) -> None:
    plan = read_plan(path)
    runs = plan.runs()
    assert len(runs) >= len(plan.seeds) * len(plan.variants)
    assert len({run.name for run in runs}) == len(runs)
    for run in runs:
        check_config(run.config)
        assert run.config.method in METHODS
        assert run.variant.predictions
        assert from_dict(to_dict(run.config)) == run.config


def test_there_are_plans() -> None:
    assert "development" in [path.stem for path in PLANS]


# -- identity ----------------------------------------------------------------------------------------

NEUTRAL = {
    "checkpoint_every": 7,
    "keep_checkpoints": 9,
    "log_every": 3,
    "eval_every": 10,
    "stop_at": 5,
    "device": "cpu",
    "threads": 3,
    "data.num_workers": 4,
    "data.scene_cache": "/elsewhere/scenes",
    "data.cache": "/elsewhere/cache",
    "data.source_root": "/elsewhere/gta5",
    "data.target_root": "/elsewhere/camvid",
}
TELLING = {
    "steps": 999,
    "seed": 8,
    "precision": "fp32",
    "data.source_look": "both",
    "data.crop": [64, 64],
    "data.rare_class_sampling": False,
    "model.width": 24,
    "optim.head_lr": 0.5,
    "adaptation.share_at_one": 0.9,
    "adaptation.denoising_weight": 0.9,
    "adaptation.teacher_decay": 0.9,
}
OF_ICCLD = {
    "adaptation.color_transfer": 0.125,
    "adaptation.masked": True,
    "adaptation.adversarial_input": "features",
    "adaptation.adversarial_domains": 2,
}
OF_ADAPTATION = {
    "adaptation.start": 0.125,
    "adaptation.adversarial_weight": 0.125,
}
OF_MIXING = {
    "adaptation.keep": 0.125,
    "adaptation.mixing": "cutmix",
}


def told_apart(run: Run | TrainConfig, name: str, value: Any) -> bool:
    config = run.config if isinstance(run, Run) else run
    changed = with_settings(config, {name: value})
    assert changed != config, "the test must change something"
    return identity(changed) != identity(config)


@pytest.mark.parametrize(("name", "value"), NEUTRAL.items())
@pytest.mark.parametrize("variant", ["source_only", "advent", "iccld"])
def test_neutral_settings_do_not_matter(runs: dict[str, Run], variant: str, name: str, value: Any) -> None:
    assert not told_apart(runs[f"near/{variant}/3"], name, value)


@pytest.mark.parametrize(("name", "value"), TELLING.items())
@pytest.mark.parametrize("variant", ["source_only", "advent", "iccld", "oracle"])
def test_settings_that_change_figures_matter(
    runs: dict[str, Run], variant: str, name: str, value: Any
) -> None:
    config = with_settings(
        runs[f"near/{variant}/3"].config, {"data.rare_class_sampling": True, "model.diffusion": True}
    )
    assert told_apart(config, name, value)


@pytest.mark.parametrize(("name", "value"), OF_ICCLD.items())
def test_settings_of_iccld_matter_for_iccld_alone(runs: dict[str, Run], name: str, value: Any) -> None:
    assert told_apart(runs["near/iccld/3"], name, value)
    for variant in ("source_only", "advent", "oracle"):
        assert not told_apart(runs[f"near/{variant}/3"], name, value), variant


@pytest.mark.parametrize(("name", "value"), OF_ADAPTATION.items())
def test_settings_of_adaptation_do_not_matter_without_any(
    runs: dict[str, Run], name: str, value: Any
) -> None:
    assert told_apart(runs["near/iccld/3"], name, value)
    assert told_apart(runs["near/advent/3"], name, value)
    for variant in ("source_only", "oracle"):
        assert not told_apart(runs[f"near/{variant}/3"], name, value), variant


@pytest.mark.parametrize(("name", "value"), OF_MIXING.items())
def test_settings_of_mixing_matter_where_images_are_mixed(
    runs: dict[str, Run], name: str, value: Any
) -> None:
    assert told_apart(runs["near/iccld/3"], name, value)
    for variant in ("source_only", "advent", "oracle"):
        assert not told_apart(runs[f"near/{variant}/3"], name, value), variant


def test_methods_and_tasks_are_different_runs(plan: Plan) -> None:
    runs = plan.runs()
    assert len({identity(run.config) for run in runs}) == len(runs)
    for method in METHODS:
        again = identity(identity(TrainConfig(method=method)))
        assert again == identity(TrainConfig(method=method))
        assert again.method == method


@pytest.mark.parametrize("method", ["dacs", "daformer", "mic"])
@pytest.mark.parametrize("name", ["keep", "trust"])
def test_rivals_that_weigh_by_class_are_told_apart_by_how(method: Any, name: str) -> None:
    """``class`` reads keep and trust, whatever the method; rivals do not use it unless told to."""
    config = TrainConfig(method=method, adaptation=AdaptationConfig(weighting="class"))
    assert told_apart(config, f"adaptation.{name}", 0.125)
    as_in_the_recipe = with_settings(config, {"adaptation.weighting": "batch"})
    assert not told_apart(as_in_the_recipe, f"adaptation.{name}", 0.125)


def test_cache_matters_where_it_makes_images_be_resampled_twice(runs: dict[str, Run]) -> None:
    plain = with_settings(
        runs["near/iccld/3"].config, {"data.scale": [0.8, 1.4], "data.source_size": [64, 96]}
    )
    plain = with_settings(plain, {"data.source": "folder"})
    here, there = (with_settings(plain, {"data.cache": folder}) for folder in ("/here", "/there"))
    assert identity(here) == identity(there) != identity(plain)
    scenes = with_settings(plain, {"data.source": "street_scenes"})
    assert identity(with_settings(scenes, {"data.cache": "/here"})) == identity(scenes)


def test_interrupted_runs_are_found_again_by_newer_versions() -> None:
    """Where runs of a plan train; settings that came later are left out while they are unset.

    Defaults of ICCLD that change do not matter to rivals.
    """
    plan = Path(__file__).parents[3] / "benchmarks" / "archive" / "short_runs" / "plans" / "rivals.toml"
    (run,) = read_plan(plan).runs(["scenes/dacs/0"])
    assert run.folder == "rivals/scenes/dacs-seed0-fd1f166e"
