"""Every way that work can end. What the command line makes of it is in ``test_cli.py``."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from iccld import exits
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


def test_an_exit_passes_through() -> None:
    with pytest.raises(SystemExit) as caught:
        run_guarded(fail(SystemExit(3)))
    assert caught.value.code == 3


class OutOfMemoryError(RuntimeError):
    """As torch has one for GPUs."""


def missing() -> int:
    Path("/nowhere/at/all").read_bytes()
    return 0


@pytest.mark.parametrize(
    ("work", "code", "message"),
    [
        (fail(RunFailedError("the loss diverged")), 1, "the loss diverged"),
        (fail(MemoryError()), 1, "out of memory (none left); ask for less"),
        (
            fail(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")),
            1,
            "out of memory ([enforce",
        ),
        (fail(OutOfMemoryError("CUDA: none left")), 1, "out of memory (CUDA: none left)"),
        (fail(OSError(errno.ENOMEM, "Cannot allocate memory")), 1, "out of memory"),
        (fail(OSError(errno.ENOSPC, "No space left on device")), 1, "the disk is full"),
        (fail(OSError(errno.EIO, "Input/output error", "a.png")), 1, "a.png: Input/output error"),
        (fail(PermissionError(errno.EACCES, "Permission denied", "a.png")), 2, "a.png: Permission denied"),
        (missing, 2, "/nowhere/at/all: No such file or directory"),
    ],
)
def test_failures_and_mistakes_have_two_codes(
    work: Callable[[], int], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_guarded(work) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"iccld: error: {message}")


def test_a_bug_is_one_line_and_its_traceback_is_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> int:
        exec(compile("def broken(): 1 / 0\nbroken()", exits.__file__, "exec"), {})
        return 0

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run_guarded(work) == 1
    err = capsys.readouterr().err
    (kept,) = tmp_path.iterdir()
    assert err == (
        "iccld: error: unexpected ZeroDivisionError: division by zero; this is a fault of iccld: "
        f"please report it with {kept}\n"
    )
    assert "in broken\n" in kept.read_text()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert run_guarded(work) == 1
    assert "run it again with ICCLD_DEBUG=1" in capsys.readouterr().err


def test_a_bug_in_the_users_own_code_is_not_ours(capsys: pytest.CaptureFixture[str]) -> None:
    """The error is raised in a library that the user's code calls."""
    assert run_guarded(lambda: int(json.loads("{"))) == 1
    line = _own_line("json.loads")
    assert capsys.readouterr().err == (
        f"iccld: error: {__file__}, line {line}: JSONDecodeError: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1); ICCLD_DEBUG=1 shows the traceback\n"
    )


def _own_line(text: str) -> int:
    return next(n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if text in line)


PRINT = """
import os, sys
from iccld.exits import run_guarded
def work():
    for _ in range({count}):
        print("a line")
    print("progress", file=sys.stderr, flush=True)
    if {code} == 3:
        sys.exit(0)
    os.write(9, b"work was done")
    return {code}
sys.exit(run_guarded(work))
"""


@pytest.mark.parametrize(
    ("streams", "code", "expected", "reason"),
    [
        (">/dev/full", 0, 1, "No space left on device"),
        (">&-", 0, 1, "it is closed"),
        (">/dev/full", 2, 2, ""),
        ("2>/dev/full >/dev/null", 0, 0, ""),
        ("2>&- >/dev/null", 0, 0, ""),
        (">&- 2>&- <&-", 0, 1, ""),
        (">/dev/full", 3, 1, "No space left on device"),
    ],
)
def test_output_that_cannot_be_written(
    streams: str, code: int, expected: int, reason: str, tmp_path: Path
) -> None:
    """The work is done all the same; a command whose output is lost has failed."""
    script = PRINT.format(count=5000, code=code)
    words = ["bash", "-c", f'exec 9>"$3"; exec "$1" -c "$2" {streams}', "-", sys.executable, script]
    done = subprocess.run([*words, str(tmp_path / "done")], capture_output=True, text=True, check=False)
    assert done.returncode == expected, done.stderr
    assert (tmp_path / "done").read_text() == ("" if code == 3 else "work was done")
    lines = done.stderr.replace("progress\n", "")
    wanted = f"iccld: error: standard output cannot be written ({reason}); give it another place\n"
    assert lines == (wanted if reason else "")


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    script = """
import os, sys
from iccld.exits import run_guarded
def work():
    with open(sys.argv[1], "w") as file:
        os.write(2, b"a library complains")
        file.write("mine")
    return 0
run_guarded(work)
"""
    path = tmp_path / "file"
    words = ["bash", "-c", 'exec "$1" -c "$2" "$3" <&- >&- 2>&-', "-", sys.executable, script, str(path)]
    subprocess.run(words, check=False)
    assert path.read_text() == "mine"


def test_too_many_open_files_name_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(fail(OSError(errno.EMFILE, "Too many open files", "a.png"))) == 1
    line = "iccld: error: too many open files; raise the limit (ulimit -n) and run the same command again\n"
    assert capsys.readouterr() == ("", line)
