from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from iccld.errors import InputError, RunFailedError
from iccld.files import read_bounded, write_atomic, write_json, write_text


def test_writes_and_makes_parent_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    assert write_text(path, "é\n") == path
    assert path.read_bytes() == "é\n".encode()
    assert os.listdir(path.parent) == ["b.txt"]


def test_replaces_the_old_file(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "old and longer")
    write_text(path, "new")
    assert path.read_text() == "new"


@pytest.mark.parametrize(
    "failure", [RuntimeError("bug"), KeyboardInterrupt(), OSError(errno.EIO, "bad disk")]
)
def test_failing_writer_leaves_the_old_file_and_no_temporary_one(
    tmp_path: Path, failure: BaseException
) -> None:
    path = write_text(tmp_path / "weights.bin", "old")

    def write(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise failure

    with pytest.raises((type(failure), RunFailedError)):
        write_atomic(path, write)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["weights.bin"]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "old")

    def write(temporary: Path) -> None:
        temporary.write_text("new")
        assert path.read_text() == "old"

    write_atomic(path, write)
    assert path.read_text() == "new"


def test_temporary_file_keeps_the_suffix_and_stays_in_the_folder(tmp_path: Path) -> None:
    seen = []

    def write(temporary: Path) -> None:
        seen.append(temporary)
        temporary.write_text("x")

    write_atomic(tmp_path / "image.png", write)
    assert seen[0].suffix == ".png"
    assert seen[0].parent == tmp_path  # another folder could be another disk, where renaming is not atomic


def test_full_disk_is_the_users_to_mend(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def write(temporary: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(temporary))

    with pytest.raises(RunFailedError, match="disk is full") as caught:
        write_atomic(path, write)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_full_disk_noticed_while_syncing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_text(tmp_path / "a.txt", "old")

    def fsync(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(RunFailedError, match="disk is full"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_parent_that_is_a_file(tmp_path: Path) -> None:
    parent = write_text(tmp_path / "taken", "")
    with pytest.raises(InputError, match="cannot be written"):
        write_text(parent / "a.txt", "x")


def test_path_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path, "x")


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", {"miou": 45.1, "iou": [None, 1]})
    assert json.loads(path.read_text()) == {"miou": 45.1, "iou": [None, 1]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"miou": float("nan")})
    assert json.loads(path.read_text())["miou"] == 45.1


def test_files_have_the_rights_of_any_new_file(tmp_path: Path) -> None:
    def write_for_the_owner_alone(temporary: Path) -> None:
        temporary.touch(mode=0o600)

    (tmp_path / "plain").touch()
    path = write_atomic(tmp_path / "file", write_for_the_owner_alone)
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_reads_a_regular_file_up_to_the_limit_and_through_links(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"12345")
    (tmp_path / "link").symlink_to(path)
    assert read_bounded(path, 5) == read_bounded(tmp_path / "link", 5) == b"12345"
    with pytest.raises(InputError, match=r"a.toml: is larger than the 4 bytes"):
        read_bounded(path, 4)
    path.write_bytes(b"")
    assert read_bounded(path, 4) == b""


@pytest.mark.parametrize("kind", ["fifo", "socket", "folder", "/dev/zero", "/dev/tty", "missing", "nul"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.json"
    words = {
        "fifo": r"a pipe \(FIFO\)",
        "socket": "a socket",
        "folder": "a folder",
        "missing": "no such file",
    }
    with contextlib.ExitStack() as opened:
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            opened.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX))).bind(str(path))
        elif kind == "folder":
            path.mkdir()
        elif kind == "nul":
            path = tmp_path / "x\0.json"
        elif kind != "missing":
            path.symlink_to(kind)
        pattern = words.get(kind, "no file has such a name" if kind == "nul" else "is a device")
        with pytest.raises(InputError, match=pattern):
            read_bounded(path, 100)


@pytest.mark.parametrize("change", ["shrinks", "grows", "rewritten"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"x" * 100)
    stat, calls = os.fstat, []

    def change_after_the_look(handle: int) -> os.stat_result:
        found = stat(handle)
        calls.append(handle)
        if len(calls) == 2:  # after the examination of its kind and of its size
            size = {"shrinks": 50, "grows": 150, "rewritten": 100}[change]
            path.write_bytes(b"y" * size)
            os.utime(path, ns=(0, 0))
        return found

    monkeypatch.setattr(os, "fstat", change_after_the_look)
    with pytest.raises(InputError, match="changed while it was read"):
        read_bounded(path, 1000)


def test_temporary_files_of_killed_writers_are_removed_and_no_others(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    writer = os.fork()
    if writer == 0:  # is killed with the file half written

        def write(temporary: Path) -> None:
            temporary.write_text("half")
            os.write(writing, b"x")
            os.kill(os.getpid(), signal.SIGKILL)

        write_atomic(tmp_path / "a.json", write)
    os.read(reading, 1)
    os.waitpid(writer, 0)
    (abandoned,) = os.listdir(tmp_path)
    assert abandoned.startswith(".a.")
    living = abandoned.replace(f"-{writer}-", f"-{os.getpid()}-")
    foreign = re.sub(r"\.[0-9a-f]{8}-", ".00000000-", abandoned)
    for name in (living, foreign, ".mine.tmp.json"):
        (tmp_path / name).write_text("kept")
    write_text(tmp_path / "b.json", "{}")
    assert sorted(os.listdir(tmp_path)) == sorted([living, foreign, ".mine.tmp.json", "b.json"])
