"""One process at a time in a folder; a lock is neither left behind nor in the way after a kill."""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from iccld.errors import InputError, RunFailedError
from iccld.locks import LOCK, working_in

HOLD = """
import os, sys, time
from iccld.locks import working_in
with working_in(sys.argv[1]):
    if os.fork() == 0:
        time.sleep(30)  # as an orphaned loader would
    print("in", flush=True)
    time.sleep(30)
"""


@pytest.fixture
def other(tmp_path: Path) -> subprocess.Popen[str]:
    """A process at work in ``run``, with a child that outlives it."""
    words = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_second_process_is_refused_and_a_killed_one_is_not_in_the_way(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    out = tmp_path / "run"
    with (
        pytest.raises(
            InputError, match=rf"run: process {other.pid} on \S+ is at work in this folder since 20"
        ),
        working_in(out),
    ):
        raise AssertionError
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert (out / LOCK).exists(), "left behind by the kill"
    with working_in(out):
        assert json.loads((out / LOCK).read_text())["pid"] == os.getpid()
    assert not (out / LOCK).exists()


def test_a_process_that_is_about_to_end_is_waited_for(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    timer = threading.Timer(0.2, os.kill, (other.pid, signal.SIGKILL))
    timer.start()
    with working_in(tmp_path / "run", patience=60):
        assert other.wait() == -signal.SIGKILL
    timer.join()


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with working_in(tmp_path / "a" / "b" / "new"):
        assert (tmp_path / "a" / "b" / "new" / LOCK).is_file()
    assert not (tmp_path / "a").exists(), "it was made for the lock alone"
    with working_in(tmp_path / "new"):
        (tmp_path / "new" / "file").touch()
    assert os.listdir(tmp_path / "new") == ["file"]
    (tmp_path / "old").mkdir()
    with working_in(tmp_path / "old"):
        pass
    assert os.listdir(tmp_path / "old") == []


def test_one_thread_may_enter_twice_and_two_may_not(tmp_path: Path) -> None:
    said: list[str] = []

    def enter() -> None:
        try:
            with working_in(tmp_path):
                said.append("in")
        except InputError as error:
            said.append(str(error))

    with working_in(tmp_path), working_in(tmp_path / "." / ""):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert f"process {os.getpid()} on {platform.node()} is at work" in said[0]
    enter()
    assert said[1:] == ["in"]


@pytest.mark.parametrize(
    ("owner", "taken"),
    [
        (
            {"pid": 4_000_000, "host": platform.node(), "boot": "of before"},
            True,
        ),  # gone, and the machine restarted
        ({"pid": os.getpid(), "host": platform.node()}, True),  # the number belongs to another process now
        ({"pid": 1, "host": "elsewhere", "boot": "another", "since": "2026-01-01"}, False),
        ({}, True),
    ],
)
def test_a_lock_that_was_left_behind(owner: dict[str, object], taken: bool, tmp_path: Path) -> None:
    path = tmp_path / LOCK
    path.write_text(json.dumps(owner))
    if taken:
        with working_in(tmp_path):
            pass
        assert not path.exists()
        return
    with pytest.raises(InputError, match=rf"on elsewhere is at work .* since 2026-01-01.*, remove {path}"):
        working_in(tmp_path).__enter__()
    assert json.loads(path.read_text()) == owner
    path.unlink()
    with working_in(tmp_path):
        pass


def test_a_container_with_a_new_name_on_the_same_machine(tmp_path: Path) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (tmp_path / LOCK).write_text(json.dumps({"pid": 7, "host": "0123456789ab", "boot": boot}))
    with working_in(tmp_path):
        pass


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK).symlink_to(mine)
    with pytest.raises(InputError, match="cannot be written"):
        working_in(tmp_path / "out").__enter__()
    assert mine.read_text() == "mine"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file: cannot be written"):
        working_in(tmp_path / "file").__enter__()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["open", "pwrite"])
def test_a_full_disk_is_a_failure_and_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        with pytest.raises(RunFailedError, match="the disk is full"):
            working_in(tmp_path / "out").__enter__()
    assert not (tmp_path / "out" / LOCK).exists()
    with working_in(tmp_path / "out"):
        pass
