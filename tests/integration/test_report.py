"""The report of a run: written by training, by ``iccld report`` and by ``iccld evaluate``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from iccld.cli import main
from iccld.commands import run_report
from iccld.models.iccld import ICCLD
from iccld.reporting.record import read_record

Flags = Callable[..., list[str]]


@pytest.fixture
def run(flags: Flags, tmp_path: Path) -> Path:
    out = tmp_path / "mine"
    assert main(flags(out, "--method", "source_only", "--steps", "2", "--checkpoint-every", "2")) == 0
    return out


def copy(run: Path, to: Path, *, leave_out: tuple[str, ...] = ()) -> Path:
    shutil.copytree(run, to)
    for name in leave_out:
        (to / name).unlink()
    return to


def refuse(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) == 2
    error = capsys.readouterr().err
    assert error.startswith("iccld: error: ")
    assert error.count("\n") == 1
    return error


def test_a_run_is_reported_and_compared(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (run / "report.html").read_text()
    record = read_record(run)
    assert record is not None
    assert record.scores is not None
    assert [e.role for e in record.examples] == ["best", "worst"]
    logged = (run / "metrics.csv").read_text().splitlines()
    value = float(dict(zip(logged[0].split(","), logged[-1].split(","), strict=True))["val/miou"])
    assert record.scores.miou == pytest.approx(value, rel=1e-4)
    assert {"python", "torch", "commit", "command", "threads", "precision"} <= record.environment.keys()
    assert "no label chose it" in text

    # Measured again from the model and the settings, it is the same.
    older = copy(run, tmp_path / "older", leave_out=("report.json", "report.html"))
    assert main(["report", str(older), "--device", "cpu", "--threads", "1"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"report: {older / 'report.html'}\n"
    assert "measuring for the report" in captured.err
    again = read_record(older)
    assert again is not None
    assert (again.scores, again.calibration, again.measured_on) == (
        record.scores, record.calibration, record.measured_on,
    )  # fmt: skip
    assert (again.examples, again.legend) == (record.examples, record.legend)

    # A second time nothing is measured, and several go side by side into the current folder.
    monkeypatch.setattr(run_report, "measure_run", None)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["report", str(run), str(older), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": "report.html", "runs": ["mine", "older"]}
    both = (tmp_path / "report.html").read_text()
    assert 'id="run1"' in both
    assert "older" in both
    # A folder of runs, as the demo leaves it, stands for all of them; the baseline comes first.
    (tmp_path / "demo").mkdir()
    run.rename(tmp_path / "demo" / "source_only")
    older.rename(tmp_path / "demo" / "iccld")
    assert main(["report", str(tmp_path / "demo")]) == 0
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "<title>ICCLD report: source_only, iccld</title>" in page
    assert len(page) < 5_000_000


def test_an_unfinished_run_is_reported_as_far_as_it_went(
    flags: Flags, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(flags(out, "--method", "source_only", "--stop-at", "2")) == 0
    assert not (out / "report.html").exists()
    assert (out / "README.txt").is_file()
    assert main(["report", str(out)]) == 0
    text = (out / "report.html").read_text()
    assert "This run is not finished: 2 of 6 steps." in text
    assert "segmentation loss, source" in text
    assert "precision" in text, "the environment is known from the start"
    (out / "metrics.csv").unlink()
    assert "holds no metrics.csv" in refuse(capsys, "report", str(out))


def test_a_run_that_is_trained_longer_keeps_its_start_and_its_record(run: Path, flags: Flags) -> None:
    first = read_record(run)
    assert first is not None
    assert first.step == 2
    longer = ("--method", "source_only", "--steps", "4", "--checkpoint-every", "1", "--log-every", "1")
    assert main(flags(run, *longer, "--stop-at", "3")) == 0
    stopped = read_record(run)
    assert stopped is not None
    (entry,) = stopped.environment["resumed"]
    assert replace(stopped, environment=first.environment) == first
    assert {**stopped.environment, "resumed": 0} == {**first.environment, "resumed": 0}
    assert main(["report", str(run)]) == 0
    text = (run / "report.html").read_text()
    assert "No scores: those of step 2 were measured before the run went on" in text
    assert "Confusion" not in text
    assert "<dt>resumed</dt>" in text
    assert str(entry["date"]) in text

    assert main(flags(run, *longer)) == 0
    last = read_record(run)
    assert last is not None
    assert last.step == 4
    assert last.environment["date"] == first.environment["date"]
    assert len(last.environment["resumed"]) == 2
    assert "Confusion" in (run / "report.html").read_text()
    # A run that starts over is a new one.
    shutil.rmtree(run / "checkpoints")
    assert main(flags(run, *longer, "--stop-at", "1")) == 0
    anew = read_record(run)
    assert anew is not None
    assert "resumed" not in anew.environment
    assert anew.scores is None


def test_without_target_labels_there_are_pictures_and_a_reason(
    flags: Flags, tiny_data: Path, tmp_path: Path
) -> None:
    target = tmp_path / "unlabeled"
    shutil.copytree(tiny_data / "target" / "train" / "images", target)
    out = tmp_path / "run"
    words = ("--steps", "2", "--data.target-root", str(target))
    assert main(flags(out, *words)) == 0
    record = read_record(out)
    assert record is not None
    assert record.scores is None
    assert "label" in record.no_scores
    assert [set(e.panels) for e in record.examples] == [{"image", "prediction", "uncertainty"}] * 4
    assert "No scores: " in (out / "report.html").read_text()


def test_a_report_that_fails_loses_no_training(
    flags: Flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr(run_report, "write_report", fail)
    out = tmp_path / "run"
    assert main(flags(out, "--method", "source_only", "--steps", "1")) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warnings == [
        f"iccld: warning: the model is saved, but no report was written (no luck); 'iccld report {out}' tries again"
    ]
    assert ICCLD.from_pretrained(out).label_space.name == "camvid11"


def test_an_evaluation_has_a_page_beside_its_scores(
    run: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--dataset", "folder", "--root", str(tiny_data / "target"), "--protocol", "camvid11")
    assert (
        main(["evaluate", str(run), *data, "--json", str(tmp_path / "scores.json"), "--device", "cpu"]) == 0
    )
    text = (tmp_path / "scores.html").read_text()
    assert f"report: {tmp_path / 'scores.html'}" in capsys.readouterr().out
    assert text.count("<img ") == 10
    assert "accuracy over confidence" in text
    assert json.loads((tmp_path / "scores.json").read_text())["protocol"] == "camvid11"
    maps = str(tiny_data / "target" / "val" / "labels")
    folders = ("--predictions", maps, "--labels", maps, "--protocol", "cityscapes19")
    assert main(["evaluate", *folders, "--report", str(tmp_path / "maps.html")]) == 0
    page = (tmp_path / "maps.html").read_text()
    assert "100.0 %" in page
    assert "<img " not in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--json scores.html", "scores.html: is the file of --json too"),
        ("--json a.json --report a.json", "a.json: is the file of --json too"),
        ("--json run/report.json", "run/report.json: belongs to the run in that folder; give another file"),
        ("--json run/config.json", "run/config.json: belongs to the run"),
        ("--json run/report.txt", "run/report.html: belongs to the run in that folder"),
        ("--json - --report run/report.html", "run/report.html: belongs to the run"),
    ],
)  # fmt: skip
def test_an_evaluation_writes_over_no_file_of_a_run(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    # There is no such model: the paths are looked at first.
    assert message in refuse(capsys, *f"evaluate gone --dataset folder --root data {words}".split())
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["run.json"]


def test_folders_that_are_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such folder; give the folder of a run" in refuse(capsys, "report", str(tmp_path / "gone"))
    assert "holds no run.json" in refuse(capsys, "report", str(tmp_path))
    (tmp_path / "run.json").write_text("{")
    assert "run.json: cannot be read" in refuse(capsys, "report", str(tmp_path))
    (tmp_path / "metrics.csv").write_text("step,train/loss\n1,2\n")
    for text, reason in (
        ("{}", "preset = None must be text"),
        (
            '{"steps": "many", "seed": 0, "method": "iccld", "data": {}, "model": {}}',
            "steps = 'many' must be",
        ),
        (
            '{"steps": 2, "seed": 0, "method": "iccld", "data": {"source": 3}, "model": {}}',
            "source = 3 must be text",
        ),
    ):
        (tmp_path / "run.json").write_text(text)
        error = refuse(capsys, "report", str(tmp_path))
        assert f"{tmp_path / 'run.json'}: " in error
        assert reason in error
