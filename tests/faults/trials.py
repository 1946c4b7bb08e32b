"""Running commands that are killed or starved, and comparing what they leave."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code; minus the signal's number if it was killed.
        text: what it printed, stdout and stderr together.
        seconds: its duration.
        peak: its largest resident memory in bytes, that of the forking process included.
        timed_out: whether it was killed because it ran past the limit.
    """

    code: int
    text: str
    seconds: float
    peak: int
    timed_out: bool

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.startswith("iccld: error:")]


class Launcher:
    """Runs ``iccld`` commands as forks of one warm process.

    Args:
        folder: for the logs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self._server = subprocess.Popen(
            [sys.executable, LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip

    def __call__(
        self,
        *argv: str | Path,
        cwd: Path,
        kill_after: float | None = None,
        limit: float = 120,
        **request: Any,
    ) -> Ended:
        """Runs one command.

        Args:
            *argv: the words after ``iccld``.
            cwd: its working directory.
            kill_after: seconds after which it gets SIGKILL.
            limit: seconds after which it is killed as hanging.
            **request: see ``launcher.py``.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._count += 1
        log = self._folder / f"{self._count}.log"
        line = json.dumps({"argv": [str(word) for word in argv], "cwd": str(cwd), "log": str(log), **request})
        self._server.stdin.write(line + "\n")
        self._server.stdin.flush()
        pid = json.loads(self._server.stdout.readline())
        start, late = time.monotonic(), threading.Event()

        def hang() -> None:
            late.set()
            _kill(pid)

        timers = [threading.Timer(limit, hang)]
        if kill_after is not None:
            timers.append(threading.Timer(kill_after, _kill, [pid]))
        for timer in timers:
            timer.start()
        code, peak = json.loads(self._server.stdout.readline())
        seconds = time.monotonic() - start
        for timer in timers:
            timer.cancel()
        text = log.read_text(encoding="utf-8", errors="replace")
        survivors = _wait_for_group(pid)
        assert not survivors, f"processes {survivors} outlived {argv}"
        return Ended(code, text, seconds, peak, late.is_set())

    def close(self) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(10)
        self._server.stdout.close()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _wait_for_group(pid: int, patience: float = 15) -> list[int]:
    """Processes of a command's session that are alive after it; they have some seconds to notice that it is gone."""
    end = time.monotonic() + patience
    while True:
        alive = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[3]) == pid and fields[0] != "Z" and int(entry.name) != pid:
                    alive.append(int(entry.name))
        if not alive or time.monotonic() > end:
            return alive
        time.sleep(0.1)


_TIMED = ("seconds", "time", "date")
_DESCRIBES_ITSELF = ("report.json", "curves.png", "adversary.png", "seconds.json", "tables.md", "log.txt")


def content(folder: Path) -> dict[str, str]:
    """Every file of a folder with a digest of what may not depend on how often the command was stopped.

    Durations and dates are left out: columns of seconds in tables, event files, and the report with its environment.
    """
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if "tfevents" in name:  # one file per call
            name = "tfevents"
        data = path.read_bytes()
        if path.suffix == ".csv":
            rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
            kept = [{k: v for k, v in row.items() if not any(t in k for t in _TIMED)} for row in rows]
            data = json.dumps(kept).encode()
        if path.suffix in (".txt", ".md", ".json"):
            data = data.replace(str(folder).encode(), b"FOLDER")
        if path.suffix == ".json":
            data = json.dumps(_without_times(json.loads(data))).encode()
        timed = name == "tfevents" or path.name in _DESCRIBES_ITSELF or path.suffix in (".html", ".lock")
        found[name] = "" if timed else hashlib.sha256(data).hexdigest()
    return found


def _without_times(value: Any) -> Any:
    """Plain data without the entries whose names speak of time or memory."""
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    if isinstance(value, dict):
        timed = (*_TIMED, "gib")
        return {k: _without_times(v) for k, v in value.items() if not any(t in k for t in timed)}
    return value


def leftovers(folder: Path) -> list[str]:
    """Temporary files of a writer that was killed."""
    return [str(p.relative_to(folder)) for p in folder.rglob(".*") if ".tmp" in p.name]
