"""Tests that trackers receive each row of metrics.csv once, even if a run is stopped and resumed several times."""

from __future__ import annotations

import json
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iccld.config import TrainConfig
from iccld.errors import InputError
from iccld.training.tracking import STATE, RunLog, read_metrics, require_trackers

Figures = list[tuple[int, str, float]]
Read = Callable[[Path], Figures]


def _config(*names: Any) -> TrainConfig:
    return replace(TrainConfig(), trackers=("csv", *names))


def read_csv(path: Path) -> Figures:
    rows = read_metrics(path)
    return sorted((int(row["step"]), k, float(v)) for row in rows for k, v in row.items() if k != "step")


def assert_same(shown: Figures, written: Figures) -> None:
    assert [figure[:2] for figure in shown] == [figure[:2] for figure in written]
    assert [figure[2] for figure in shown] == pytest.approx([figure[2] for figure in written], rel=1e-5)


def _run(out: Path, steps: Sequence[int], *names: Any, resume: int = 0, last: int = 0) -> None:
    """Logs a loss at each step, and an mIoU at the step ``last``."""
    with RunLog(_config(*names), out, resume_step=resume) as log:
        for step in steps:
            log.add(step, {"train/loss": 1 / step, "train/rate": step / 7})
            if step == last:
                log.add(step, {"val/miou": 33.25})


def test_event_files_hold_what_the_table_holds(tmp_path: Path, read_events: Read) -> None:
    _run(tmp_path, (10, 20, 30), "tensorboard", last=30)
    written = read_csv(tmp_path / "metrics.csv")
    assert len(written) == 7
    assert_same(read_events(tmp_path / "tensorboard"), written)


def test_csv_alone(tmp_path: Path) -> None:
    _run(tmp_path, (10,))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv"]


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    with RunLog(_config("tensorboard"), tmp_path, resume_step=0, enabled=False) as log:
        log.add(10, {"train/loss": 1.0})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("resume", [0, 10, 15, 20, 30])
def test_resumed_event_files_have_each_figure_once(resume: int, tmp_path: Path, read_events: Read) -> None:
    """The run is stopped after step 30. The last checkpoint is that of step ``resume``."""
    _run(tmp_path, (10, 20, 30), "tensorboard", last=30)
    with RunLog(_config("tensorboard"), tmp_path, resume_step=resume) as log:
        for step in (10, 20, 30, 40):
            if step > resume:
                log.add(step, {"train/loss": 1 / step, "train/rate": step / 7})
    assert_same(read_events(tmp_path / "tensorboard"), read_csv(tmp_path / "metrics.csv"))


def test_event_files_of_a_killed_run(tmp_path: Path, read_events: Read) -> None:
    log = RunLog(_config("tensorboard"), tmp_path, resume_step=0)
    log.add(10, {"train/loss": 1.0})
    deadline = time.monotonic() + 20
    while not read_events(tmp_path / "tensorboard"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert_same(read_events(tmp_path / "tensorboard"), [(10, "train/loss", 1.0)])
    log.__exit__(None, None, None)


def test_a_tracker_that_joins_later_gets_the_earlier_steps(tmp_path: Path, read_events: Read) -> None:
    _run(tmp_path, (10, 20))
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "events.out.tfevents.1.other").write_bytes(b"")
    _run(tmp_path, (30,), "tensorboard", resume=20)
    _run(tmp_path, (40,), resume=30)
    _run(tmp_path, (50,), "tensorboard", resume=40)
    assert_same(read_events(tmp_path / "tensorboard"), read_csv(tmp_path / "metrics.csv"))
    assert not (tmp_path / "tensorboard" / "events.out.tfevents.1.other").exists()


# -- services ---------------------------------------------------------------------------------------


class _Service:
    """A substitute for the clients of W&B and MLflow, which stores logged metrics by run id."""

    def __init__(self) -> None:
        self.runs: dict[str, Figures] = {}
        self.settings: list[Mapping[str, Any]] = []
        self.finished: list[object] = []
        self.broken = ""
        self.id = ""

    def begin(self, known: str | None) -> _Service:
        if self.broken == "opening":
            raise ConnectionError("no route to host\nat all")
        self.id = known or f"run{len(self.runs)}"
        self.runs.setdefault(self.id, [])
        return self

    def add(self, figures: Mapping[str, float], step: int) -> None:
        if self.broken == "logging":
            raise ConnectionError("quota exceeded")
        self.runs[self.id] += [(step, name, value) for name, value in figures.items()]

    # W&B
    def init(self, *, id: str | None, config: Mapping[str, Any], **others: object) -> _Service:
        if id is None and self.broken != "opening":
            self.settings.append(config)
        return self.begin(id)

    log = add

    def finish(self, exit_code: int) -> None:
        self.finished.append(bool(exit_code))

    # MLflow
    info = property(lambda self: types.SimpleNamespace(run_id=self.id))

    def start_run(self, *, run_id: str | None, run_name: str) -> _Service:
        return self.begin(run_id)

    def log_params(self, settings: Mapping[str, Any]) -> None:
        self.settings.append(settings)

    log_metrics = add

    def end_run(self, status: str) -> None:
        self.finished.append(status == "FAILED")

    def set_tracking_uri(self, uri: str) -> None:
        assert uri.startswith("sqlite:///")

    def set_experiment(self, name: str) -> None:
        assert name == "iccld"


@pytest.fixture(params=["wandb", "mlflow"])
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, _Service]:
    """The name of a service, and the substitute for the service's client."""
    fake = _Service()
    monkeypatch.setitem(sys.modules, request.param, fake)  # type: ignore[misc]
    return request.param, fake


def test_services_get_the_same_figures(service: tuple[str, _Service], tmp_path: Path) -> None:
    name, fake = service
    _run(tmp_path, (10, 20), name, last=20)
    _run(tmp_path, (20, 30), name, resume=10, last=20)  # killed after 20, resumed from 10
    _run(tmp_path, (40,), name, resume=30)
    assert list(fake.runs) == ["run0"]
    assert_same(sorted(fake.runs["run0"]), read_csv(tmp_path / "metrics.csv"))
    assert len(fake.settings) == 1
    assert fake.settings[0].get("data.crop", fake.settings[0].get("data", {}).get("crop")) == "[128, 256]"
    assert fake.finished == [False] * 3


def test_a_service_that_cannot_be_reached_is_named_at_once(
    service: tuple[str, _Service], tmp_path: Path
) -> None:
    name, fake = service
    fake.broken = "opening"
    with pytest.raises(InputError, match=rf"--trackers {name}: cannot be opened \(no route to host\);"):
        RunLog(_config(name), tmp_path, resume_step=0)


def test_a_service_that_fails_later_ends_nothing(
    service: tuple[str, _Service], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, fake = service
    with RunLog(_config(name), tmp_path, resume_step=0) as log:
        log.add(10, {"train/loss": 1.0})
        fake.broken = "logging"
        log.add(20, {"train/loss": 2.0})
        log.add(30, {"train/loss": 3.0})
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"warning: tracker {name} failed and gets no more figures (quota exceeded)" in err
    assert fake.runs == {"run0": [(10, "train/loss", 1.0)]}
    assert len(read_csv(tmp_path / "metrics.csv")) == 3


def test_a_failed_run_is_closed_as_such(service: tuple[str, _Service], tmp_path: Path) -> None:
    name, fake = service
    with pytest.raises(RuntimeError), RunLog(_config(name), tmp_path, resume_step=0):
        raise RuntimeError
    assert fake.finished == [True]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"--trackers {name}: .*; .*: pip install '\.\[{name}\]'"):
        require_trackers(("csv", name))
    require_trackers(("csv", "tensorboard"))


def test_a_state_that_cannot_be_read_hands_everything_in_again(
    service: tuple[str, _Service], tmp_path: Path
) -> None:
    name, fake = service
    _run(tmp_path, (10,), name)
    assert json.loads((tmp_path / STATE).read_text()) == {name: {"id": "run0"}}
    (tmp_path / STATE).write_text("[")
    _run(tmp_path, (20,), name, resume=10)
    assert_same(sorted(fake.runs["run1"]), read_csv(tmp_path / "metrics.csv"))


def test_a_state_of_an_older_version_names_the_run(service: tuple[str, _Service], tmp_path: Path) -> None:
    name, fake = service
    _run(tmp_path, (10,), name)
    (tmp_path / STATE).write_text(json.dumps({name: {"step": 10, "names": ["train/loss"], "id": "run0"}}))
    _run(tmp_path, (20,), name, resume=10)
    assert list(fake.runs) == ["run0"]
