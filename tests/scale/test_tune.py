"""``iccld tune`` with Optuna: trials, interruption and objectives."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from iccld.cli import main
from iccld.config import TrainConfig, from_dict
from iccld.errors import RunFailedError
from iccld.training.loop import Trainer

SEARCH = (Path(__file__).parents[1] / "search.toml").read_text(encoding="utf-8")


@pytest.fixture
def search(tmp_path: Path) -> Path:
    path = tmp_path / "search.toml"
    path.write_text(SEARCH)
    return path


def tune(search: Path, work: Path, *more: str) -> tuple[int, dict[str, object]]:
    result = work.with_suffix(".json")
    code = main(["tune", str(search), "--work", str(work), "--json", str(result), *more])
    return code, json.loads(result.read_text()) if result.is_file() else {}


def test_an_interrupted_search_continues_with_the_same_trials(
    search: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, whole = tune(search, tmp_path / "whole", "--trials", "2")
    assert code == 0
    said = capsys.readouterr().out
    assert "agreement (higher is better)" in said
    assert "train with: iccld train demo --method iccld --steps 2 " in said
    original, begun = Trainer.run, []

    def run(self: Trainer) -> object:
        begun.append(self.out)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(Trainer, "run", run)
    assert tune(search, tmp_path / "parts", "--trials", "2") == (130, {})
    code, parts = tune(search, tmp_path / "parts", "--trials", "2")
    assert code == 0
    assert parts == whole
    assert [path.name for path in begun] == ["trial-0", "trial-1", "trial-1"]
    assert len(whole["trials"]) == 2  # type: ignore[arg-type]
    best = max(whole["trials"], key=lambda trial: trial["score"])  # type: ignore[attr-defined]
    assert whole["best"] == best
    assert whole["used_target_labels"] is False
    run_record = json.loads((tmp_path / "whole" / f"trial-{best['trial']}" / "run.json").read_text())
    config: TrainConfig = from_dict({k: v for k, v in run_record.items() if k != "preset"})
    assert config.adaptation.start == best["settings"]["adaptation.start"]
    assert config.data.batch_size == best["settings"]["data.batch_size"] in (1, 2)


@pytest.mark.parametrize("objective", ["entropy", "snd", "source", "target"])
def test_objectives(objective: str, search: Path, tmp_path: Path) -> None:
    more = ["--with-target-labels"] if objective == "target" else []
    code, found = tune(search, tmp_path / "work", "--trials", "1", "--objective", objective, *more)
    assert code == 0
    assert (found["objective"], found["used_target_labels"]) == (objective, bool(more))
    if objective == "target":  # what the run itself has measured
        record = json.loads((tmp_path / "work" / "trial-0" / "report.json").read_text())
        assert found["best"]["score"] == pytest.approx(record["scores"]["miou"], abs=0.2)  # type: ignore[index]


def test_a_failed_trial_is_told_and_the_search_goes_on(
    search: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original, begun = Trainer.run, []

    def run(self: Trainer) -> object:
        begun.append(1)
        if len(begun) == 1:
            raise RunFailedError("the loss is not finite")
        return original(self)

    monkeypatch.setattr(Trainer, "run", run)
    code, found = tune(search, tmp_path / "work", "--trials", "2")
    assert code == 0
    assert [trial["trial"] for trial in found["trials"]] == [1]  # type: ignore[attr-defined]
    assert "trial 0: failed (the loss is not finite)" in capsys.readouterr().err


def test_target_labels_must_be_allowed(
    search: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(search, tmp_path / "work", "--objective", "target") == (2, {})
    assert tune(search, tmp_path / "work", "--with-target-labels") == (2, {})
    assert capsys.readouterr().err.count("--with-target-labels") == 2
    assert not (tmp_path / "work").exists()


def test_another_objective_or_no_optuna(
    search: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(search, tmp_path / "work", "--trials", "1")[0] == 0
    assert main(["tune", str(search), "--work", str(tmp_path / "work"), "--objective", "snd"]) == 2
    assert "has a search by agreement, not by snd" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["tune", str(search), "--work", str(tmp_path / "other")]) == 2
    assert "pip install '.[tune]'" in capsys.readouterr().err
