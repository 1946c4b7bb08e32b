from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from iccld.bench.plan import Plan, Run, identity, read_plan
from iccld.bench.results import find_result, read_results, result_path
from iccld.config import to_dict, with_settings
from iccld.errors import InputError

Save = Callable[..., Path]


def test_what_was_written_is_read_back(runs: dict[str, Run], save_result: Save, tmp_path: Path) -> None:
    run = runs["near/iccld/3"]
    path = save_result(run, miou=12.5)
    (result,) = read_results(tmp_path / "results")
    assert (result.path, result.miou) == (path, 12.5)
    assert path == result_path(tmp_path / "results", run)
    assert result.identity == identity(run.config)
    assert result.predictions == ((1, 1), (4, 1), (1, 8))
    assert result.facts["peak_gib"] == 1.25


def test_there_may_be_none(tmp_path: Path) -> None:
    assert read_results(tmp_path / "gone") == []
    (tmp_path / "tables.md").write_text("no JSON\n")
    assert read_results(tmp_path) == []


def test_each_run_finds_its_own(runs: dict[str, Run], save_result: Save, tmp_path: Path) -> None:
    saved = {name: save_result(runs[name]) for name in ("near/iccld/3", "near/advent/3", "far/iccld/1")}
    results = read_results(tmp_path / "results")
    found = {name: find_result(run, results) for name, run in runs.items()}
    assert {name: result.path for name, result in found.items() if result} == saved


def test_results_of_other_plans_count(
    runs: dict[str, Run],
    save_result: Save,
    write_plan: Callable[[str], Path],
    plan_text: str,
    tmp_path: Path,
) -> None:
    run = runs["near/iccld/3"]
    # There, the same run has other names, lies elsewhere, and ran on another machine.
    elsewhere = {"data.target_root": "/data", "threads": 8, "data.scene_cache": "/scenes", "device": "cuda"}
    settings = to_dict(with_settings(run.config, elsewhere))
    path = save_result(run, tmp_path / "results" / "old" / "task", run="task/full/3", settings=settings)
    text = plan_text.replace("[variants.iccld]", "[variants.whole]").replace("[tasks.near]", "[tasks.close]")
    other = read_plan(write_plan(text.replace('["near"]', '["close"]')))
    results = read_results(tmp_path / "results")
    found = {r.name: find_result(r, results) for r in other.runs()}
    assert {name: result.path for name, result in found.items() if result} == {"close/whole/3": path}


def test_a_result_without_the_predictions_asked_for_is_not_enough(
    runs: dict[str, Run], save_result: Save, tmp_path: Path
) -> None:
    run = runs["near/iccld/3"]
    few = [{"steps": s, "draws": n, "miou": 1.0} for s, n in ((1, 1), (4, 1))]
    save_result(run, tmp_path / "results" / "few", predictions=few)
    results = read_results(tmp_path / "results")
    assert find_result(run, results) is None
    fewer = replace(run, variant=replace(run.variant, predictions=((4, 1),)))
    assert find_result(fewer, results) is results[0]
    whole = save_result(run)
    found = find_result(run, read_results(tmp_path / "results"))
    assert found is not None
    assert found.path == whole


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        '"text"',
        "{}",
        '{"predictions": [], "settings": {"stepz": 3}}',
        '{"predictions": [{"steps": 1}], "settings": {}}',
        '{"predictions": 3, "settings": {}}',
        '{"predictions": [1], "settings": {}}',
        "\x00",
    ],
)
def test_garbage_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "side" / "near" / "iccld-seed0.json"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(
        InputError, match=rf"^{re.escape(str(path))}: is no result of a bench .*remove it"
    ) as e:
        read_results(tmp_path)
    assert "\n" not in str(e.value)


def test_settings_of_another_shape_are_refused(tmp_path: Path) -> None:
    """In a process of its own: here, the shape checks of the test suite would refuse them first."""
    code = """
import sys
from pathlib import Path
from iccld.bench.results import read_results
from iccld.errors import InputError
for settings in ("[]", '"text"', '{"data": 3}'):
    Path("a.json").write_text('{"predictions": [], "settings": ' + settings + "}")
    try:
        read_results(Path())
    except InputError as error:
        print(str(error).split(" (")[0])
"""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["a.json: is no result of a bench"] * 3


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match=r"a\.json: is no result"):
        read_results(tmp_path)


def test_half_a_file_of_a_killed_writer_is_passed_over(
    runs: dict[str, Run], save_result: Save, tmp_path: Path
) -> None:
    """Files are written under ``.NAME.PID.tmp.json`` and renamed; a kill in between leaves that name behind."""
    path = save_result(runs["near/iccld/3"])
    path.with_name(f".{path.stem}.123.tmp.json").write_text('{"run": "near/icc')
    assert [result.path for result in read_results(tmp_path / "results")] == [path]


def test_two_runs_never_share_a_file(plan: Plan, tmp_path: Path) -> None:
    paths = {result_path(tmp_path, run) for run in plan.runs()}
    assert len(paths) == len(plan.runs())
