"""Exit codes of every command: 2 for a mistake, 1 for a failure; each in one line."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from iccld.cli import COMMANDS, main

MISTAKES = {
    "demo": "--steps 0",
    "train": "scenes_to_folder --data.target-root gone",
    "adapt": "gone",
    "evaluate": "gone --dataset camvid --root gone",
    "predict": "gone gone.png --out out",
    "report": "gone",
    "rank": "gone gone.png --out out",
    "app": "one two three",
    "export": "gone --out model.onnx",
    "push": "gone user/model --folder card",
    "bench": "gone.toml",
    "tune": "gone.toml",
    "data init": "gone",
    "data check": "folder gone",
    "data cache": "demo",
    "data manifest": "gone",
    "data export": "gone gone --out a.xml",
    "data shards": "folder gone --out out",
    "data scenes": "out --split ../x",
    "completion": "csh",
    "doctor": "--json .",
    "presets": "gone",
}
# With words that make a command write; `train` and `export` are tried elsewhere, as they take long.
FAILURES = {
    "data init": "{data}",
    "data check": "folder {data} --json report.json",
    "data manifest": "{data} --out m.parquet",
    "data shards": "folder {data} --out out",
    "data scenes": "scenes --count 1 --height 48 --width 64",
    "evaluate": "--predictions {maps} --labels {maps} --protocol cityscapes19 --json scores.json",
    "predict": "{model} {data}/train/images --out out",
    "rank": "{model} {data}/train/images --out out",
    "push": "{model} user/model --folder card",
    "data cache": "folder_to_folder --data.source-root {data} --data.target-root {data} --data.cache cache --jobs 1",
}


def test_every_command_is_here() -> None:
    assert MISTAKES.keys() == {command.name for command in COMMANDS}


@pytest.mark.parametrize("name", list(MISTAKES))
def test_a_mistake_is_code_2(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (MISTAKES[name].split(), ["--no-such-flag"]):
        assert main([*name.split(), *words]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "Traceback" not in err
        if not err.startswith("usage: "):  # where a preset or a shell has to come first
            assert err.startswith("iccld: error: ")
            assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", list(FAILURES))
def test_a_full_disk_is_code_1(
    name: str,
    tiny_data: Path,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    data = shutil.copytree(tiny_data / "source", tmp_path / "data")
    places = {"data": data, "maps": data / "train" / "labels", "model": model}

    def replace(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    assert main([*name.split(), *FAILURES[name].format(**places).split()]) == 1
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("iccld: error: ")]
    assert len(lines) == 1, err
    assert "the disk is full" in lines[0]
    assert not [path for path in tmp_path.rglob("*") if ".tmp" in path.name or path.name == ".iccld.lock"]
