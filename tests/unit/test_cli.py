from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import iccld
from iccld import cli
from iccld.errors import InputError

Install = Callable[[Callable[[], int]], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Gives a function that makes `iccld try` run what it is handed."""

    def install(run: Callable[[], int]) -> None:
        @dataclass(frozen=True)
        class TryArgs:
            """Tries."""

            count: int = 1

            def run(self) -> int:
                return run()

        module = types.ModuleType("iccld.commands.try_it")
        module.__dict__["TryArgs"] = TryArgs
        monkeypatch.setitem(sys.modules, "iccld.commands.try_it", module)
        monkeypatch.setattr(cli, "COMMANDS", (cli.Command("try", "tries", "try_it:TryArgs"),))

    return install


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in cli.COMMANDS:
        assert f"  {command.name} " in out
    assert max(map(len, out.splitlines())) <= 80


def test_help_lists_the_bench(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert re.search(r"^  bench +compare methods", capsys.readouterr().out, re.MULTILINE)


def test_help_of_the_bench(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["bench", "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for flag in ("--results", "--work", "--jobs", "--threads", "--only", "--roots", "--table"):
        assert flag in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--roots", "camvid"], "--roots camvid: give NAME=FOLDER"),
        (["--roots", "camvid="], "--roots camvid=: give NAME=FOLDER"),
        (["--jobs", "-1"], "--jobs = -1 must be a whole number from 0 to 4096"),
        (["--threads", "-2"], "--threads = -2 must be a whole number from 0 to 4096"),
        (["--only", "*/none/*"], "--only */none/* fits no run"),
        (["--table", "--json", "{results}/b.json"], "b.json: lies among the results"),
        (["--table", "--json", "{results}/../results/plan/b.json"], "b.json: lies among the results"),
    ],
)
def test_bad_flags_of_the_bench_start_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('seeds = [0]\n[tasks.a]\npreset = "demo"\n[variants.b]\nmethod = "iccld"\n')
    folders = ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    words = [word.replace("{results}", str(tmp_path / "results")) for word in words]
    assert cli.main(["bench", str(plan), *folders, *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("iccld: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == [plan]


def test_a_missing_plan_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", str(tmp_path / "gone.toml")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"iccld: error: {tmp_path / 'gone.toml'}: no such file")
    assert captured.err.count("\n") == 1


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: iccld")


def test_group_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "--help"]) == 0
    assert "data check" in capsys.readouterr().out
    assert cli.main(["data"]) == 2
    assert "data scenes" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"iccld {iccld.__version__}\n"


@pytest.mark.parametrize(
    ("words", "near"),
    [(["evalute"], "evaluate"), (["preset"], "presets"), (["Train"], "train"), (["data", "chek"], "check")],
)
def test_mistyped_command_gets_the_nearest_one(
    words: list[str], near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(rf"iccld: error: unknown command .*did you mean '{near}'\?.*\n", err)


def test_mistyped_flag_is_a_usage_error(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(lambda: 0)
    assert cli.main(["try", "--cuont", "3"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "iccld: error: Unrecognized options: --cuont, 3; Perhaps you meant: --count INT; see iccld try --help\n"
    )


def test_help_of_a_command(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(lambda: 0)
    for words in (["try", "--help"], ["help", "try"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(words)
        assert caught.value.code == 0
        assert "--count" in capsys.readouterr().out


def test_what_an_encoding_lacks_is_replaced(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> int:
        print("a → b")
        print("3 − 2", file=sys.stderr)
        return 0

    install(run)
    out, err = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="cp1252"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding="cp1252", errors="strict"))
    assert cli.main(["try"]) == 0
    sys.stderr.flush()
    assert (out.getvalue().split(), err.getvalue().split()) == ([b"a", b"?", b"b"], [b"3", b"?", b"2"])
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert cli.main(["try"]) == 0


def test_exit_code_is_the_commands(install: Install) -> None:
    install(lambda: 7)
    assert cli.main(["try"]) == 7


def test_input_error_is_one_line_without_a_traceback(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> int:
        raise InputError("a.png: truncated\n  after 10 bytes;\ncopy it again")

    monkeypatch.delenv("ICCLD_DEBUG", raising=False)
    install(run)
    assert cli.main(["try"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "iccld: error: a.png: truncated after 10 bytes; copy it again\n"


def test_debug_shows_the_traceback(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> int:
        raise InputError("bad")

    monkeypatch.setenv("ICCLD_DEBUG", "1")
    install(run)
    assert cli.main(["try"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("iccld: error: bad\n")


@pytest.mark.parametrize(
    "words", [["presets"], ["--help"], ["completion", "bash"], ["presets", "--json", "-"]]
)
@pytest.mark.parametrize("stream", [">/dev/full", ">&-"])
def test_full_or_closed_output_is_one_line(words: list[str], stream: str) -> None:
    script = ["bash", "-c", f'exec "$0" -m iccld "$@" {stream}', sys.executable, *words]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"iccld: error: standard output cannot be written \(.*\).*\n", done.stderr)


def test_interrupt(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        raise KeyboardInterrupt

    install(run)
    assert cli.main(["try"]) == 130
    assert capsys.readouterr().err == "iccld: interrupted\n"


@pytest.mark.signals
def test_termination_runs_the_cleanup_and_restores_the_handler(install: Install) -> None:
    cleaned = []

    def run() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append(True)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    install(run)
    assert cli.main(["try"]) == 143
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.signals
def test_training_reads_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def train(rest: list[str]) -> int:
        seen.append(rest)
        signal.raise_signal(signal.SIGTERM)  # before its first step, where it has no handlers of its own
        return 3

    module = types.ModuleType("iccld.commands.train")
    module.__dict__["main"] = train
    monkeypatch.setitem(sys.modules, "iccld.commands.train", module)
    assert cli.main(["train", "demo", "--steps", "5"]) == 143
    assert seen == [["demo", "--steps", "5"]]


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_every_listed_command_exists(command: cli.Command) -> None:
    module, _, name = command.entry.partition(":")
    target = getattr(importlib.import_module(f"iccld.commands.{module}"), name)
    assert callable(getattr(target, "run", target))


def test_closed_pipe_ends_quietly() -> None:
    """As in `iccld --help | true`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "iccld", "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_python_dash_m_is_the_same_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "iccld", "nonsense"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("iccld: error: unknown command 'nonsense'")


def test_every_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    calls = [command.name.split() for command in cli.COMMANDS]
    for words in ([], *calls, ["data"], ["train", "demo"]):
        with contextlib.suppress(SystemExit):
            assert cli.main([*words, "--help"]) == 0
        lines = capsys.readouterr().out.splitlines()
        wanted = " ".join(["iccld", *words])
        # Behind the usage line: a word that says so, or a whole call.
        examples = [line for line in lines[1:] if "xample" in line or line.strip(" │").startswith(wanted)]
        assert examples, wanted
