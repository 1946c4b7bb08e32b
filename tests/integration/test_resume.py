"""A run that was stopped ends exactly where it would have ended anyway."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from iccld.cli import main
from iccld.threads import Choice
from iccld.training import loop, rehearsal
from iccld.training.checkpoint import Checkpoint
from iccld.training.tracking import read_metrics
from iccld.training.update import Update

Flags = Callable[..., list[str]]


def _tensors(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:08d}.safetensors")


def _assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    differing = [name for name, value in one.items() if not torch.equal(value, other[name])]
    assert not differing


def _rows(run: Path) -> list[dict[str, str]]:
    rows = read_metrics(run / "metrics.csv")
    return [{k: v for k, v in row.items() if k != "train/seconds_per_step"} for row in rows]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs without a stop, by precision, made when first asked for."""
    return {"folder": tmp_path_factory.mktemp("straight")}


def _straight(straight: dict[str, Path], flags: Flags, precision: str) -> Path:
    out = straight["folder"] / precision
    if not out.exists():
        assert main(flags(out, "--precision", precision)) == 0
    return out


@pytest.mark.parametrize(("precision", "stop"), [("fp32", 3), ("bf16", 3), ("fp32", 1)])
def test_stopped_and_resumed(
    precision: str,
    stop: int,
    flags: Flags,
    straight: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    read_events: Callable[[Path], list[tuple[int, str, float]]],
) -> None:
    whole = _straight(straight, flags, precision)
    out = tmp_path / "run"
    capsys.readouterr()
    assert main(flags(out, "--precision", precision, "--stop-at", str(stop))) == 0
    captured = capsys.readouterr()
    assert (
        f"stopped after step {stop} and saved; run the same command without --stop-at to go on"
        in captured.err
    )
    assert not (out / "model.safetensors").exists()
    assert main(flags(out, "--precision", precision)) == 0
    assert f"resuming from step {stop}" in capsys.readouterr().out
    one, other = _tensors(whole, 6), _tensors(out, 6)
    parts = {name.split("/")[0] for name in one}
    assert parts == {"student", "teacher", "discriminator", "optimizer", "discriminator_optimizer"}
    _assert_equal(one, other)
    assert (whole / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    assert _rows(whole) == _rows(out)
    events = read_events(out / "tensorboard")
    rows = read_metrics(out / "metrics.csv")
    table = sorted((int(row["step"]), k, float(v)) for row in rows for k, v in row.items() if k != "step")
    assert [event[:2] for event in events] == [figure[:2] for figure in table]
    assert [event[2] for event in events] == pytest.approx([figure[2] for figure in table], rel=1e-5)


@pytest.mark.parametrize("method", ["advent", "mic"])
def test_rivals_resume(method: str, flags: Flags, tmp_path: Path) -> None:
    """With a deterministic head, whose label encoder has no gradients and no moments."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    words = ("--method", method, "--steps", "4", "--log-every", "3")
    assert main(flags(whole, *words)) == 0
    assert main(flags(out, *words, "--stop-at", "2")) == 0
    assert main(flags(out, *words)) == 0
    _assert_equal(_tensors(whole, 4), _tensors(out, 4))
    assert (whole / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    assert _rows(whole) == _rows(out)


def test_checkpoints_by_time_change_no_number(
    flags: Flags, straight: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = _straight(straight, flags, "fp32"), tmp_path / "run"
    written: list[int] = []
    original = loop.save_checkpoint

    def save(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
        written.append(checkpoint.step)
        return original(folder, checkpoint, keep=keep)

    monkeypatch.setattr(loop, "save_checkpoint", save)
    rare = ("--checkpoint-every", "1000", "--checkpoint-minutes")
    assert main(flags(out, *rare, "1e-9", "--stop-at", "4")) == 0
    assert written == [1, 2, 3, 4]
    assert main(flags(out, *rare, "10")) == 0  # another number does not keep a run from going on
    assert written == [1, 2, 3, 4, 6]
    _assert_equal(_tensors(whole, 6), _tensors(out, 6))
    assert (whole / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf"])
def test_checkpoints_never_are_refused(
    minutes: str, flags: Flags, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags(tmp_path / "run", "--checkpoint-minutes", minutes)) == 2
    assert "--checkpoint-minutes" in capsys.readouterr().err


def test_threads_that_were_chosen_are_kept(
    flags: Flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With another number of threads sums differ in their last bits; the run that goes on has the same one."""
    now = [0]
    monkeypatch.setattr(rehearsal, "most_threads", lambda num: 2)
    monkeypatch.setattr(rehearsal, "set_threads", lambda number: now.__setitem__(0, number))

    def choose(work: Callable[[], object], most: int, *, helpers: int) -> Choice:
        work()
        return Choice(2, {1: 0.5, 2: 0.4})

    monkeypatch.setattr(rehearsal, "choose_threads", choose)
    used: list[int] = []
    original = Update.__call__

    def update(self: Update, step: int, items: Any) -> Any:
        used.append(now[0])
        return original(self, step, items)

    monkeypatch.setattr(Update, "__call__", update)
    out = tmp_path / "run"
    assert main(flags(out, "--threads", "0", "--stop-at", "3")) == 0
    assert "threads: 2 (a trial took 0.5 s with 1 thread, 0.4 s with 2)" in capsys.readouterr().out
    now[0] = 0
    assert main(flags(out, "--threads", "0")) == 0
    assert "threads: 2 (as before: a trial took" in capsys.readouterr().out
    assert used == [2] * 6


def test_teacher_is_no_copy_of_the_student(flags: Flags, straight: dict[str, Path]) -> None:
    tensors = _tensors(_straight(straight, flags, "fp32"), 6)
    assert int(tensors["teacher/n_averaged"]) == 6
    name = "label_decoder.head.weight"
    assert not torch.equal(tensors[f"student/{name}"], tensors[f"teacher/module.{name}"])


def test_damaged_newest_checkpoint_costs_only_time(
    flags: Flags, straight: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(flags(out, "--stop-at", "5")) == 0
    newest = out / "checkpoints" / "step-00000005.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    capsys.readouterr()
    assert main(flags(out)) == 0
    captured = capsys.readouterr()
    assert f"warning: {newest}: damaged checkpoint" in captured.err
    assert "resuming from step 3" in captured.out
    whole = _straight(straight, flags, "fp32")
    _assert_equal(_tensors(whole, 6), _tensors(out, 6))
    assert _rows(whole) == _rows(out)


def test_with_loader_processes_and_without(flags: Flags, straight: dict[str, Path], tmp_path: Path) -> None:
    """Their number may even change when the run is resumed."""
    out = tmp_path / "run"
    assert main(flags(out, "--stop-at", "3", "--data.num-workers", "1")) == 0
    assert main(flags(out, "--data.num-workers", "2")) == 0
    _assert_equal(_tensors(_straight(straight, flags, "fp32"), 6), _tensors(out, 6))


def test_a_longer_run_goes_on(flags: Flags, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(flags(out, "--steps", "2", "--method", "source_only")) == 0
    first = (out / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert main(flags(out, "--steps", "4", "--method", "source_only")) == 0
    captured = capsys.readouterr()
    assert "was begun for 2 steps, now 4" in captured.err
    assert [row["step"] for row in _rows(out)] == ["2", "4"]
    assert (out / "model.safetensors").read_bytes() != first
    assert main(flags(out, "--steps", "3", "--method", "source_only")) == 2
    assert "has 4 steps already, more than --steps 3" in capsys.readouterr().err


# -- signals ------------------------------------------------------------------------------------------


def _start(words: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error::ResourceWarning"}
    return subprocess.Popen(
        [sys.executable, "-m", "iccld", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait_for_steps(process: subprocess.Popen[str], run: Path, steps: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (run / "metrics.csv").is_file() and len(read_metrics(run / "metrics.csv")) >= steps:
            return
        time.sleep(0.02)
    pytest.fail(f"no steps came: {process.communicate()[1]}" if process.poll() is not None else "too slow")


@pytest.mark.usefixtures("own_network")
def test_a_signal_to_a_group_with_its_loaders(
    flags: Flags, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As terminals and job queues send it; the run saves, and resumes to the same numbers."""
    out, other = tmp_path / "run", tmp_path / "other"
    long = ("--steps", "5000", "--log-every", "1", "--checkpoint-every", "5000", "--data.num-workers", "1")
    process = _start(flags(out, *long))
    _wait_for_steps(process, out, 3)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    match = re.search(r"stopped after step (\d+) and saved; run the same command again to go on", errors)
    assert match, errors
    step = int(match[1])
    assert main(flags(out, *long, "--stop-at", str(step + 2))) == 0
    assert f"resuming from step {step}" in capsys.readouterr().out
    assert main(flags(other, *long, "--stop-at", str(step + 2))) == 0
    _assert_equal(_tensors(other, step + 2), _tensors(out, step + 2))


@pytest.mark.signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(
    number: signal.Signals,
    flags: Flags,
    straight: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, whole = tmp_path / "run", _straight(straight, flags, "fp32")
    with monkeypatch.context() as patch:
        _signal_in_step(patch, 4, number)
        assert main(flags(out)) == 128 + number
    assert "stopped after step 4 and saved; run the same command again to go on" in capsys.readouterr().err
    assert (out / "checkpoints" / "step-00000004.safetensors").exists()
    assert main(flags(out)) == 0
    _assert_equal(_tensors(whole, 6), _tensors(out, 6))
    assert _rows(whole) == _rows(out)


@pytest.mark.signals
def test_a_signal_in_the_last_step_changes_nothing(
    flags: Flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _signal_in_step(monkeypatch, 3, signal.SIGINT)
    assert main(flags(tmp_path / "run", "--steps", "3")) == 0
    assert (tmp_path / "run" / "model.safetensors").exists()


def _signal_in_step(patch: pytest.MonkeyPatch, number: int, what: signal.Signals) -> None:
    """Sends this process a signal in the middle of a step, counted from 1."""
    original = Update.__call__

    def interrupted(self: Update, step: int, items: Any) -> Any:
        if step + 1 == number:
            signal.raise_signal(what)
        return original(self, step, items)

    patch.setattr(Update, "__call__", interrupted)
