"""SIGKILL at any moment: the same command ends with the same bytes as one that nobody disturbed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from trials import Launcher, content, leftovers

TRIALS = {"train": 18, "predict": 10, "evaluate": 4, "export": 6, "scenes": 4, "cache": 4, "bench": 4}
"""Kills by command, 50 in all."""

PLAN = """
title = "Tiny"
seeds = [0]
predictions = [[1, 1]]
[tasks.small]
title = "Small scenes"
preset = "demo"
[tasks.small.settings]
steps = 4
checkpoint_every = 2
log_every = 2
precision = "fp32"
device = "cpu"
"model.backbone" = "compact"
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
title = "ICCLD"
method = "iccld"
"""


@pytest.mark.parametrize("name", TRIALS)
def test_killed_and_repeated(
    name: str, commands: dict[str, Callable[[Path], list[str]]], iccld: Launcher, tmp_path: Path
) -> None:
    rng = random.Random(f"{name} 0")
    straight = tmp_path / "straight"
    straight.mkdir()
    (straight / "plan.toml").write_text(PLAN)
    whole = iccld(*commands[name](straight), cwd=straight)
    assert whole.code == 0, whole.text
    expected = content(straight)
    problems = []
    for trial in range(TRIALS[name]):
        out = tmp_path / f"trial{trial}"
        out.mkdir()
        (out / "plan.toml").write_text(PLAN)
        # Every other kill falls on a file operation, between those the moment is free.
        at_write = trial % 2 == 0 and name != "bench"
        moment = (
            {"kill_at": rng.randint(1, 40)} if at_write else {"kill_after": rng.uniform(0, whole.seconds)}
        )
        killed = iccld(*commands[name](out), cwd=out, **moment)
        if killed.code not in (0, -9):
            problems.append(f"{moment}: ended with {killed.code}: {killed.text[-400:]}")
        _assert_whole_files(out)
        again = iccld(*commands[name](out), cwd=out)
        if again.code != 0:
            problems.append(f"{moment}: repeated, ended with {again.code}: {again.text[-400:]}")
            continue
        if left := leftovers(out):
            problems.append(f"{moment}: left {left}")
        found = content(out)
        differing = sorted(k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k))
        if differing:
            problems.append(f"{moment}: differ: {differing}")
    assert not problems, "\n".join(problems)


def _assert_whole_files(folder: Path) -> None:
    """Whatever a kill left under a final name can be read to its end."""
    from safetensors import safe_open

    for path in folder.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="np") as handle:
                assert list(handle.keys())
        elif path.suffix == ".png":
            data = path.read_bytes()
            assert data.endswith(b"IEND\xaeB`\x82"), path
