"""``iccld demo`` with two steps and few scenes: both runs side by side, and one after the other."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from iccld.cli import main
from iccld.config import with_settings
from iccld.presets import get_preset

SMALL = {
    "data.source_count": 4,
    "data.target_count": 4,
    "data.val_count": 2,
    "data.source_size": (48, 64),
    "data.target_size": (48, 64),
    "data.crop": (48, 64),
    "data.batch_size": 1,
    "data.num_workers": 0,
    "model.backbone": "compact",
    "model.width": 16,
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = get_preset("demo")
    small = replace(preset, config=with_settings(preset.config, SMALL))
    monkeypatch.setattr("iccld.commands.demo.get_preset", lambda name: small)


def figures(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_side_by_side_as_one_after_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for threads in ("1", "2"):
        out = tmp_path / threads
        assert main(["demo", "--out", str(out), "--steps", "2", "--threads", threads]) == 0
    assert "trained beside the other run" in capsys.readouterr().out
    for run in ("source_only", "iccld"):
        one, two = (figures(tmp_path / threads / run / "metrics.csv") for threads in ("1", "2"))
        assert one == two
    names = {path.name for path in (tmp_path / "2").iterdir() if not path.name.startswith(".")}
    files = {"results.json", "report.html", "table.md", "predictions.png", "curves.png", "source_only.txt"}
    assert names == files | {"source_only", "iccld"}
    results = json.loads((tmp_path / "2" / "results.json").read_text())
    gain = results["iccld"]["miou"] - results["source_only"]["miou"]
    assert results["gain"] == pytest.approx(gain)


def test_a_failed_second_run_is_named_and_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["demo", "--out", str(tmp_path / "out"), "--steps", "2", "--threads", "2"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "source_only").write_text("a file where the folder of the run should be")
    (tmp_path / "out" / ".iccld.json").write_text('{"commands": ["demo"]}')
    assert main(words) == 1
    err = capsys.readouterr().err
    assert "source_only: ended with code 2" in err
    assert (tmp_path / "out" / "iccld" / "model.safetensors").is_file()
    (tmp_path / "out" / "source_only").unlink()
    assert main(words) == 0
    assert "finished earlier" in capsys.readouterr().out
