from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from iccld.config import TrainConfig
from iccld.training import display as shown
from iccld.training.display import Costs, Outlook, TrainingDisplay
from iccld.training.tracking import RunLog, read_metrics


def _log(path: Path, *, resume_step: int = 0) -> RunLog:
    return RunLog(TrainConfig(trackers=("csv",)), path.parent, resume_step=resume_step)


def test_rows_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = _log(path)
    log.add(20, {"train/loss": 1.5, "train/a": 0.000012345678})
    log.add(40, {"train/loss": 1.25})
    log.add(40, {"val/miou": 33.3333333})
    assert path.read_text() == ("step,train/a,train/loss,val/miou\n20,1.23457e-05,1.5,\n40,,1.25,33.3333\n")
    assert read_metrics(path) == [
        {"step": "20", "train/loss": "1.5", "train/a": "1.23457e-05"},
        {"step": "40", "train/loss": "1.25", "val/miou": "33.3333"},
    ]


def test_resuming_drops_what_came_after(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = _log(path)
    for step in (10, 20, 30, 40):
        log.add(step, {"train/loss": step})
    resumed = _log(path, resume_step=25)
    resumed.add(30, {"train/loss": -1})
    assert [(row["step"], row["train/loss"]) for row in read_metrics(path)] == [
        ("10", "10"),
        ("20", "20"),
        ("30", "-1"),
    ]


def test_starting_afresh_forgets_an_old_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    _log(path).add(10, {"train/loss": 1})
    _log(path).add(5, {"train/loss": 2})
    assert [row["step"] for row in read_metrics(path)] == ["5"]


def test_resuming_without_a_file(tmp_path: Path) -> None:
    log = _log(tmp_path / "metrics.csv", resume_step=10)
    log.add(20, {"train/loss": 1})
    assert len(read_metrics(tmp_path / "metrics.csv")) == 1


def test_display_speaks_now_and_then_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [100.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: clock[0])
    with TrainingDisplay("iccld", Outlook(Costs(), 10, 20)) as display:
        for step in range(11, 21):
            clock[0] += 4
            display.show(step, {"train/loss": 0.5})
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].split("  ")[0] for line in lines] == [
        " step 13/20",
        " step 17/20",
        " step 20/20",
    ]
    assert lines[0] == "iccld: step 13/20  4.00 s/step  28 s left  loss 0.500"


def test_other_ranks_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingDisplay("iccld", Outlook(Costs(), 0, 1), enabled=False) as display:
        display.show(1, {"train/loss": 0.5})
    assert capsys.readouterr().err == ""


def test_display_names_the_last_miou(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingDisplay("iccld", Outlook(Costs(), 0, 2)) as display, display.phase("evaluating"):
        display.miou = 33.26
        display.show(2, {"train/loss": 0.5})
    assert capsys.readouterr().err.endswith("loss 0.500  mIoU 33.3\n")


def test_display_in_a_terminal_shows_phase_and_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with TrainingDisplay("iccld", Outlook(Costs(), 0, 4)) as display:
        display.show(1, {"train/loss": 0.5})
        with display.phase("evaluating"):
            display.miou = 12.0
        display.show(4, {"train/loss": 0.25})
    captured = capsys.readouterr()
    assert captured.out == ""
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", captured.err)
    assert "iccld evaluating" in shown
    last = [line for line in re.split(r"[\r\n]+", shown) if line.strip()][-1]
    assert re.search(r"iccld training .* 4/4 .* s/step  0 s left  loss 0.250  mIoU 12.0", last)
