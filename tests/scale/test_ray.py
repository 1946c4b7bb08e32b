"""Prediction by the workers of Ray, on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD

pytest.importorskip("ray", reason="Ray is not installed")
NUM_IMAGES = 450


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words of a prediction, without the output folder. One of the images cannot be read."""
    folder = tmp_path_factory.mktemp("ray")
    ICCLD(CAMVID11, width=16, latent_channels=4).save_pretrained(folder / "model")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(NUM_IMAGES):
        image = rng.integers(0, 256, (40, 64, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / "images" / f"{number:03d}.png"), image)
    (folder / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    kinds = ["--write", "labels", "table", "--device", "cpu", "--threads", "1", "--shard", "0/1"]
    return ["predict", str(folder / "model"), str(folder / "images"), *kinds]


def start(words: list[str], out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "iccld", *words, "--out", str(out), *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, text=True
    )


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".iccld"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def local(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("local") / "out"
    process = start(words, out)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 1, said
    assert "broken.png" in said
    return contents(out)


def test_two_workers_write_the_bytes_of_one_process(
    words: list[str], local: dict[str, bytes], tmp_path: Path
) -> None:
    process = start(words, tmp_path / "out", "--engine", "ray", "--workers", "2")
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 1, said
    assert "1 of 451 images could not be predicted" in said
    assert "broken.png" in said
    assert contents(tmp_path / "out") == local


def test_a_lost_worker_loses_no_image(words: list[str], local: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(words, out, "--engine", "ray", "--workers", "2")
    deadline = time.monotonic() + 120
    while len(list((out / "labels").glob("*.png"))) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found = subprocess.run(["pgrep", "-f", "ray::MapWorker"], capture_output=True, text=True)
    os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 1, said
    assert contents(out) == local


def test_a_cluster_that_is_not_there_is_one_line(words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "iccld", *words, "--out", str(tmp_path / "out"), "--engine", "ray"]
    environment = os.environ | {"RAY_ADDRESS": "127.0.0.1:1"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert ended.returncode == 2
    lines = [line for line in ended.stderr.splitlines() if line.startswith("iccld:")]
    assert len(lines) == 1
    assert "127.0.0.1:1" in lines[0]
