from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from iccld import cli
from iccld.commands.completion import complete, flags_of
from iccld.commands.evaluate import EvaluateArgs
from iccld.commands.export import ExportArgs
from iccld.commands.train import TrainArgs
from iccld.presets import PRESETS

COMMANDS = {command.name: command.entry for command in cli.COMMANDS}


def _complete(text: str) -> list[str]:
    return complete(text.split(" "), COMMANDS)


def test_commands() -> None:
    assert _complete("") == sorted({"--help", "--version", *(name.split()[0] for name in COMMANDS)})
    assert _complete("ev") == ["evaluate"]
    assert _complete("data ") == ["cache", "check", "export", "init", "manifest", "scenes", "shards"]
    assert _complete("nonsense ") == []
    assert complete([], COMMANDS) == _complete("")


def test_presets() -> None:
    assert _complete("train ") == sorted(PRESETS)
    assert _complete("presets sc") == sorted(name for name in PRESETS if name.startswith("sc"))


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("evaluate m --js", ["--json"]),
        ("train demo --adaptation.mi", ["--adaptation.mixing"]),
        ("adapt photos --adaptation.mi", ["--adaptation.mixing"]),
        ("adapt ", []),
        ("train demo --model.no-d", ["--model.no-detail-links", "--model.no-diffusion"]),
        ("train demo --method d", ["dacs", "daformer"]),
        ("train demo --method = d", ["dacs", "daformer"]),  # as bash breaks --method=d
        ("predict m i --write labels c", ["coco", "color"]),
        ("export m --format ", ["onnx", "openvino"]),
        ("export m --out ", []),
        ("data check --im", ["--images-only"]),
        ("completion ", ["bash", "fish", "zsh"]),
    ],
)
def test_flags_and_choices(text: str, answers: list[str]) -> None:
    assert _complete(text) == answers


@pytest.mark.parametrize(
    ("words", "kind"),
    [(["evaluate"], EvaluateArgs), (["export"], ExportArgs), (["train", "demo"], TrainArgs)],
)
def test_flags_are_those_of_the_help(words: list[str], kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([*words, "--help"])
    flags_column = re.findall(r"^\W*(--[a-z][\w.-]*(?:, --[\w.-]+)*)", capsys.readouterr().out, re.MULTILINE)
    shown = {flag for line in flags_column for flag in line.split(", ")}
    assert shown - {"--help"} == set(flags_of(kind))


def test_bash_asks_and_gets_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "bash"]) == 0
    program = tmp_path / "iccld"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m iccld "$@"\n')
    program.chmod(0o755)
    test = """
COMP_WORDS=(iccld train demo --method m) COMP_CWORD=4; _iccld; echo "${COMPREPLY[*]}"
COMP_WORDS=(iccld pres) COMP_CWORD=1; _iccld; echo "${COMPREPLY[*]}"
COMP_WORDS=(iccld data "") COMP_CWORD=2; _iccld; echo "${COMPREPLY[*]}"
complete -p iccld
"""
    done = subprocess.run(
        ["bash", "--norc", "-c", capsys.readouterr().out + test],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[:3] == ["mic minent", "presets", "cache check export init manifest scenes shards"]
    assert lines[3].endswith("-F _iccld iccld")
    assert done.stderr == ""


@pytest.mark.parametrize(("shell", "hook"), [("zsh", "compdef _iccld iccld"), ("fish", "complete -c iccld")])
def test_scripts_of_other_shells(shell: str, hook: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert hook in out
    assert "iccld completion --words" in out


def test_other_shells_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "tcsh"]) == 2
    assert "unknown shell 'tcsh'" in capsys.readouterr().err
    assert cli.main(["completion"]) == 2
