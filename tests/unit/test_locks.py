"""One process at a time in a folder; a lock is neither left behind nor in the way after a kill."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iccld.errors import InputError, RunFailedError
from iccld.locks import CLAIM, LOCK, claiming, working_in

HOLD = """
import os, sys, time
from iccld.locks import working_in
with working_in(sys.argv[1]):
    if os.fork() == 0:  # an orphaned loader
        print("in", flush=True)  # only now has the child closed its copy of the lock
    time.sleep(30)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
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
    said = rf"run: process {other.pid} on \S+ since 20\S+ is at work in this folder"
    with pytest.raises(InputError, match=said), working_in(out):
        raise AssertionError
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert (out / LOCK).exists(), "left behind by the kill"
    with working_in(out):
        assert f"process {os.getpid()} on" in (out / LOCK).read_text()
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

    with working_in(tmp_path):
        with working_in(tmp_path / "." / ""):
            pass
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert f"process {os.getpid()} on {platform.node()} since" in said[0]
    enter()
    assert said[1:] == ["in"]


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


def test_a_full_disk_is_a_failure_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(RunFailedError, match="the disk is full"):
            working_in(tmp_path / "out").__enter__()
    assert not (tmp_path / "out").exists()
    with working_in(tmp_path / "out"):
        pass


def write(folder: Path, command: str, name: str, **known: Any) -> None:
    with claiming(folder, command, "pictures", **known):
        (folder / name).touch()


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    theirs, run, empty = (tmp_path / name for name in ("theirs", "run", "empty"))
    for folder in (theirs, run, empty):
        folder.mkdir()
    (theirs / "images").mkdir()
    (run / "run.json").touch()
    (empty / ".DS_Store").touch()
    for folder in (tmp_path / "new", run, empty):
        write(folder, "train", "threads.json", record="run.json")
    with pytest.raises(
        InputError, match=r"theirs: is not empty \(images\) and holds no pictures \(run\.json\);"
    ):
        write(theirs, "train", "threads.json", record="run.json")
    assert os.listdir(theirs) == ["images"]
    write(theirs, "train", "threads.json", besides=["images"])
    write(tmp_path / "new", "train", "loss.csv", record="run.json")  # its record comes later
    with pytest.raises(
        InputError, match=r"new: is not empty \(loss\.csv\) and holds no pictures \(scenes_\*\.json\)"
    ):
        write(tmp_path / "new", "data scenes", "a.png", record="scenes_*.json")


def test_only_own_files_are_replaced(tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    write(out, "predict", "classes.json")
    (out / "notes.txt").touch()
    write(out, "predict", "classes.json")
    with pytest.raises(InputError, match=r"out: is not empty \(classes\.json\) and holds no pictures;"):
        write(out, "rank", "rank.csv")
    other.mkdir()
    (other / "classes.json").symlink_to("nowhere")
    with pytest.raises(InputError, match="is not empty"):
        write(other, "predict", "classes.json")
    assert os.listdir(other) == ["classes.json"]
    (other / CLAIM).write_text("damaged")
    with pytest.raises(InputError, match="is not empty"):
        write(other, "predict", "classes.json")


def test_no_note_is_left_where_nothing_was_written(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ZeroDivisionError), claiming(tmp_path / "out", "predict", "pictures"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path / "out") == []
