"""The runs of a bench by submitit and Ray, and two calls at once with one folder of results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_PLAN = """
title = "Tiny"
seeds = [0, 1]

[tasks.small]
preset = "demo"

[tasks.small.settings]
steps = 4
eval_every = 2
log_every = 2
checkpoint_every = 2
precision = "fp32"
device = "cpu"
"model.backbone" = "compact"
"data.target_look" = "camera"
"data.source_size" = [48, 96]
"data.target_size" = [48, 96]
"data.crop" = [32, 64]
"data.source_count" = 3
"data.target_count" = 3
"data.val_count" = 2
"data.batch_size" = 1
"data.num_workers" = 0
"model.width" = 16
"model.latent_channels" = 4

[variants.iccld]
method = "iccld"

[variants.minent]
method = "minent"
"""
_RUNS = ["small/iccld/0", "small/iccld/1", "small/minent/0", "small/minent/1"]


def start(root: Path, work: str, *more: str) -> subprocess.Popen[str]:
    (root / "tiny.toml").write_text(_PLAN)
    words = [
        "bench",
        "tiny.toml",
        "--results",
        "results",
        "--work",
        work,
        "--jobs",
        "1",
        "--threads",
        "1",
        *more,
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "iccld", *words],
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def scores(root: Path) -> dict[str, float]:
    found = [json.loads(path.read_text()) for path in (root / "results" / "tiny").rglob("*.json")]
    return {facts["run"]: facts["miou"] for facts in found}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Two calls at once with local processes."""
    root = tmp_path_factory.mktemp("together")
    calls = [start(root, work) for work in ("one", "two")]
    said = [call.communicate(timeout=300)[0] for call in calls]
    assert [call.returncode for call in calls] == [0, 0], said
    return root, said


def test_two_calls_train_every_run_once(together: tuple[Path, list[str]]) -> None:
    root, said = together
    assert sorted(scores(root)) == _RUNS
    trained = [line for text in said for line in text.splitlines() if ": mIoU " in line and " in " in line]
    assert sorted(line.split(":")[0] for line in trained) == _RUNS
    assert all(any(": mIoU " in line for line in text.splitlines()) for text in said)


@pytest.mark.parametrize("launcher", ["submitit", "ray"])
def test_other_launchers_give_the_same_scores(
    launcher: str, together: tuple[Path, list[str]], tmp_path: Path
) -> None:
    more = ["--submit", "timeout_min=10"] if launcher == "submitit" else []
    call = start(tmp_path, "work", "--launcher", launcher, "--only", "small/*/0", *more)
    said = call.communicate(timeout=300)[0]
    assert call.returncode == 0, said
    wanted = {run: score for run, score in scores(together[0]).items() if run.endswith("/0")}
    assert scores(tmp_path) == wanted


def test_an_unknown_parameter_of_submitit_is_one_line(tmp_path: Path) -> None:
    call = start(tmp_path, "work", "--launcher", "submitit", "--submit", "partitoin=gpu")
    said = call.communicate(timeout=300)[0]
    assert call.returncode == 2
    assert "--submit" in said
    assert said.count("\n") <= 2
