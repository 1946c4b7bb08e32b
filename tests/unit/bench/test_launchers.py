"""Start of the runs of a bench, and several calls with one folder of results."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from iccld.bench import engine
from iccld.bench.engine import EXIT_TAKEN, Resources, run_plan
from iccld.bench.launchers import get_launcher, run_command
from iccld.bench.plan import Plan, Run
from iccld.errors import InputError
from iccld.locks import claiming_file


class Ended:
    def __init__(self, code: int) -> None:
        self.code = code

    def poll(self) -> int:
        return self.code

    def terminate(self) -> None:
        raise AssertionError

    def kill(self) -> None:
        raise AssertionError


def test_a_run_of_another_process_is_waited_for_and_not_trained(
    plan: Plan,
    runs: dict[str, Run],
    save_result: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(engine, "_ASK_AGAIN_SECONDS", 0.1)
    run = runs["near/iccld/1"]
    started: list[Sequence[str]] = []

    def launch(command: Sequence[str], log: Path, threads: int) -> Ended:
        started.append(command)
        if len(started) == 2:
            save_result(run)  # the other process has finished
        return Ended(EXIT_TAKEN)

    resources = Resources(tmp_path / "results", tmp_path / "work", 1, 1, {})
    assert run_plan(plan, [run], resources, launch) == []
    assert len(started) == 2
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "near/iccld/1: another process is training it"
    assert said[2].startswith("near/iccld/1: mIoU ")
    assert said[2].endswith(", trained by another process")


def test_a_file_is_claimed_once_and_free_again_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.json"
    with claiming_file(path) as first, claiming_file(path) as second:
        assert (first, second) == (True, False)
    with claiming_file(path) as third:
        assert third
    assert list(path.parent.iterdir()) == []
    script = (
        "import sys, time; from pathlib import Path; from iccld.locks import claiming_file\n"
        "with claiming_file(Path(sys.argv[1])) as free: print(free, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with claiming_file(path) as fourth:
            assert not fourth
        other.kill()
    with claiming_file(path) as fifth:
        assert fifth


@pytest.mark.signals
def test_the_command_of_an_interrupted_job_is_terminated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(print('saved'))); "
        "print('at work', flush=True); time.sleep(600)"
    )
    log = tmp_path / "log.txt"

    def interrupt() -> None:
        while not log.exists() or b"at work" not in log.read_bytes():
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    # A shell starts background jobs with SIGINT ignored, and Python then has no handler.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_command([sys.executable, "-c", script], str(log), 1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert log.read_text().split() == ["at", "work", "saved"]
    assert run_command([sys.executable, "-c", "raise SystemExit(7)"], str(log), 1) == 7


def test_packages_and_options_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"needs submitit.*\.\[cluster\]"):
        get_launcher("submitit", tmp_path)
    with pytest.raises(InputError, match=r"needs Ray.*\.\[ray\]"):
        get_launcher("ray", tmp_path)
    with pytest.raises(InputError, match="--submit is read by"):
        get_launcher("local", tmp_path, {"timeout_min": 3})
