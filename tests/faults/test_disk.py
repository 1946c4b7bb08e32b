"""Full disks, read-only folders, folders that disappear, files that change while they are read, clocks set back."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trials import Ended, Launcher, content, leftovers

Words = Callable[..., list[str]]


def _assert_one_line(ended: Ended, *codes: int) -> None:
    assert not ended.timed_out, f"hung: {ended.text[-500:]}"
    assert ended.code in codes, (ended.code, ended.text[-2000:])
    assert "Traceback" not in ended.text, ended.text[-2000:]
    if ended.code:
        assert len(ended.error_lines) == 1, ended.text[-2000:]


@pytest.mark.parametrize("name", ["train", "predict", "evaluate", "export", "scenes", "rank"])
def test_disk_full_at_any_write(
    name: str, commands: dict[str, Callable[[Path], list[str]]], iccld: Launcher, tmp_path: Path
) -> None:
    """The k-th change of a file fails; once there is room, the same command ends as if nothing had been."""
    rng = random.Random(name)
    straight = tmp_path / "straight"
    straight.mkdir()
    assert iccld(*commands[name](straight), cwd=straight).code == 0
    expected = content(straight)
    trials = {"train": 10, "predict": 6, "export": 2}.get(name, 3)
    for trial in range(trials):
        out = tmp_path / f"trial{trial}"
        out.mkdir()
        at = rng.randint(1, 30)
        ended = iccld(*commands[name](out), cwd=out, fail_at=at)
        _assert_one_line(ended, 0, 1, 2)
        if ended.code:
            assert "disk is full" in ended.text, (at, ended.text)
        again = iccld(*commands[name](out), cwd=out)
        assert again.code == 0, (at, again.text)
        assert not leftovers(out), (at, leftovers(out))
        assert content(out).keys() == expected.keys(), at


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts memory of a given size; skips where that is not allowed."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"disk{size}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("a file system can be mounted by root alone")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=False)


@pytest.mark.parametrize("name", ["train", "predict", "export"])
@pytest.mark.parametrize("size", ["8k", "24k", "48k"])
def test_small_disk(
    name: str,
    size: str,
    small_disk: Callable[[str], Path],
    commands: dict[str, Callable[[Path], list[str]]],
    iccld: Launcher,
) -> None:
    disk = small_disk(size)
    ended = iccld(*commands[name](disk), cwd=disk)
    _assert_one_line(ended, 1, 2)
    assert "disk is full" in ended.text, ended.text
    assert not leftovers(disk)


def test_limit_of_file_size(
    commands: dict[str, Callable[[Path], list[str]]], iccld: Launcher, tmp_path: Path
) -> None:
    ended = iccld(*commands["train"](tmp_path), cwd=tmp_path, file_size=50_000)
    _assert_one_line(ended, 1, 2)
    assert not leftovers(tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "words",
    [["presets"], ["--help"], ["train", "--help"], ["completion", "bash"], ["presets", "--json", "-"]],
)
@pytest.mark.parametrize("stream", ["full", "closed"])
def test_stdout_is_full_or_closed(words: list[str], stream: str, tmp_path: Path) -> None:
    import sys

    redirect = ">/dev/full" if stream == "full" else ">&-"
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m iccld "$@" {redirect}', sys.executable, *words],
        stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False, timeout=60,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) <= 1, done.stderr
    if stream == "full":
        assert done.returncode == 1, (done.returncode, done.stderr)
        assert done.stderr.strip()


@pytest.mark.parametrize("name", ["train", "predict", "evaluate", "export", "scenes", "rank"])
def test_read_only_folder(
    name: str,
    small_disk: Callable[[str], Path],
    commands: dict[str, Callable[[Path], list[str]]],
    iccld: Launcher,
) -> None:
    disk = small_disk("4m")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    ended = iccld(*commands[name](disk), cwd=disk.parent)
    _assert_one_line(ended, 2)
    assert str(disk) in ended.text


def test_out_folder_disappears(
    commands: dict[str, Callable[[Path], list[str]]], iccld: Launcher, tmp_path: Path
) -> None:
    def remove() -> None:
        for _ in range(200):
            if (tmp_path / "run" / "checkpoints").is_dir():
                shutil.rmtree(tmp_path / "run", ignore_errors=True)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=remove)
    thread.start()
    ended = iccld(*commands["train"](tmp_path), cwd=tmp_path.parent)
    thread.join()
    _assert_one_line(ended, 0, 1, 2)
    shutil.rmtree(tmp_path / "run", ignore_errors=True)  # what was written while it was removed
    assert iccld(*commands["train"](tmp_path), cwd=tmp_path.parent).code == 0


def test_data_disappear_or_change_during_a_run(
    tiny_data: Path, train_words: Words, iccld: Launcher, tmp_path: Path
) -> None:
    for trial, change in enumerate(
        (
            lambda path: shutil.rmtree(path),
            lambda path: [p.write_bytes(p.read_bytes()[:40]) for p in path.rglob("*.png")],
            lambda path: [p.write_bytes(b"") for p in path.rglob("*.png")],
        )
    ):
        copy = tmp_path / f"data{trial}"
        shutil.copytree(tiny_data, copy)
        words = [word.replace(str(tiny_data), str(copy)) for word in train_words(tmp_path / f"run{trial}")]
        words[words.index("--steps") + 1] = "400"
        late = threading.Timer(3, change, [copy / "source"])
        late.start()
        ended = iccld(*words, cwd=tmp_path)
        late.join()
        _assert_one_line(ended, 0, 1, 2)
        if ended.code:
            assert str(copy) in ended.error_lines[0]


def test_clock_set_back(train_words: Words, iccld: Launcher, tmp_path: Path) -> None:
    """Files from the future and a clock that runs backwards change nothing."""
    words = train_words(tmp_path / "run")
    assert iccld(*words, "--stop-at", "4", cwd=tmp_path).code == 0
    future = time.time() + 10 * 365 * 86400
    for path in (tmp_path / "run").rglob("*"):
        os.utime(path, (future, future))
    ended = iccld(*words, cwd=tmp_path)
    assert ended.code == 0, ended.text
    assert "resuming from step 4" in ended.text
    straight = iccld(*train_words(tmp_path / "straight"), cwd=tmp_path)
    assert straight.code == 0
    one, other = (tmp_path / name / "model.safetensors" for name in ("run", "straight"))
    assert _weights(one) == _weights(other)


def _weights(path: Path) -> dict[str, bytes]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as handle:
        return {key: handle.get_tensor(key).tobytes() for key in handle.keys()}  # noqa: SIM118 - not a mapping
