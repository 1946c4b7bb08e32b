from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from iccld import __version__
from iccld.reporting import environment as module
from iccld.reporting.environment import (
    command_line,
    describe_code,
    describe_environment,
    describe_machine,
    resumed_environment,
)


def test_facts_of_the_machine() -> None:
    facts = describe_machine(3, "cpu")
    assert (facts["threads"], facts["device"], facts["torch"]) == (3, "cpu", torch.__version__)
    assert facts["cpu"]
    assert "gpu" not in facts
    json.dumps(facts)


def test_facts_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "src" / "iccld" / "reporting" / "environment.py"))
    (tmp_path / "src" / "iccld" / "reporting").mkdir(parents=True)
    assert describe_code() == {"commit": None, "changed": None}

    def git(*words: str) -> str:
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    source = tmp_path / "src" / "iccld" / "reporting" / "environment.py"
    source.write_text("pass\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    assert describe_code() == {"commit": git("rev-parse", "--short", "HEAD"), "changed": False}
    source.write_text("print()\n")
    assert describe_code()["changed"] is True


def test_a_package_inside_a_repository_of_the_user_has_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "lib" / "iccld" / "reporting" / "environment.py"))
    (tmp_path / "lib" / "iccld" / "reporting").mkdir(parents=True)
    (tmp_path / "lib" / "iccld" / "reporting" / "environment.py").write_text("pass\n")
    (tmp_path / "own.py").write_text("pass\n")
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    for words in (("init", "--quiet"), ("add", "own.py"), ("commit", "--quiet", "-m", "first")):
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True)
    assert describe_code() == {"commit": None, "changed": None}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/opt/venv/bin/iccld", "train", "demo", "--out", "a b"], "iccld train demo --out 'a b'"),
        (["/x/src/iccld/__main__.py", "demo"], "python -m iccld demo"),
        (["iccld", "train", "demo", "--stop-at", "30", "--steps", "40"], "iccld train demo --steps 40"),
        (["iccld", "train", "demo", "--steps", "40", "--stop-at=3"], "iccld train demo --steps 40"),
        (["iccld", "predict", "", "a"], "iccld predict '' a"),
    ],
)
def test_the_command_can_be_typed_again(
    argv: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert command_line() == expected


@pytest.mark.parametrize("program", ["/opt/venv/bin/iccld", "/x/src/iccld/__main__.py"])
def test_ranks_are_counted_and_started_again_together(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program, "train", "demo"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command_line() == "torchrun --nproc-per-node 2 -m iccld train demo"
    assert describe_environment(1, "cpu", "fp32")["ranks"] == 2
    monkeypatch.delenv("WORLD_SIZE")
    assert describe_environment(1, "cpu", "fp32")["ranks"] == 1


def test_a_run_stays_where_it_was_begun() -> None:
    one, two, three = (
        {"date": day, "command": f"train {day}", "commit": "abc", "changed": False, "cpu": day}
        for day in ("Monday", "Tuesday", "Friday")
    )
    found = resumed_environment(resumed_environment(one, two), three)
    resumed = found.pop("resumed")
    assert found == one
    assert [entry["date"] for entry in resumed] == ["Tuesday", "Friday"]
    assert resumed[0] == {"date": "Tuesday", "command": "train Tuesday", "commit": "abc", "changed": False}


def test_the_whole_environment_is_plain() -> None:
    facts = describe_environment(1, "cpu", "fp32")
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["iccld"], facts["threads"], facts["precision"]) == (__version__, 1, "fp32")
    assert set(facts) >= {"date", "command", "commit", "changed", "python", "system", "cpu", "cores", "torch"}
