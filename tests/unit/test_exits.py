"""Every way that work can end. What the command line makes of it is in ``test_cli.py``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from iccld.errors import InputError, RunFailedError
from iccld.exits import (
    EXIT_BROKEN_PIPE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    EXIT_USAGE,
    Terminated,
    run_guarded,
)


def fail(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


def test_codes_are_those_of_the_shell() -> None:
    assert (EXIT_FAILED, EXIT_USAGE) == (1, 2)
    assert (EXIT_INTERRUPTED, EXIT_BROKEN_PIPE, EXIT_TERMINATED) == (130, 141, 143)


@pytest.mark.parametrize("code", [0, 1, 130])
def test_work_chooses_its_code(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(lambda: code) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "message", ["a.png: truncated; copy it again", " a.png: truncated;\n\n  copy it again\n"]
)
def test_bad_input_is_one_line(
    message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ICCLD_DEBUG", raising=False)
    assert run_guarded(fail(InputError(message))) == 2
    assert capsys.readouterr() == ("", "iccld: error: a.png: truncated; copy it again\n")


@pytest.mark.parametrize(("value", "traced"), [("1", True), ("0", False)])
def test_debugging_shows_where(
    value: str, traced: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICCLD_DEBUG", value)
    assert run_guarded(fail(InputError("bad"))) == 2
    error = capsys.readouterr().err
    assert ("Traceback" in error) == traced
    assert error.endswith("iccld: error: bad\n")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [(KeyboardInterrupt(), 130, "interrupted"), (Terminated(), 143, "terminated")],
)
def test_interruption(error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(fail(error)) == code
    assert capsys.readouterr() == ("", f"iccld: {line}\n")


def test_work_that_failed_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(fail(RunFailedError("a loader was killed;\n lower it"))) == 1
    assert capsys.readouterr() == ("", "iccld: error: a loader was killed; lower it\n")


def test_a_reader_that_went_away(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(fail(BrokenPipeError())) == 141
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("count", [1, 100_000])
def test_a_closed_pipe_ends_quietly(count: int) -> None:
    """Found at the flush at the end, or by a print in between."""
    reader, writer = os.pipe()
    os.close(reader)
    code = f"""
import sys
from iccld.exits import run_guarded
def work():
    for _ in range({count}):
        print("a line")
    return 0
sys.exit(run_guarded(work))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit(3), OSError(5, "broken disk")])
def test_bugs_pass_through(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        run_guarded(fail(error))
    assert caught.value is error
