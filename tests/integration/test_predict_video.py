"""``iccld predict`` on video, alone and beside images, from the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from iccld.cli import main
from iccld.data.image_files import read_label
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    ICCLD(CAMVID11, width=16, latent_channels=4).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory, make_clip: Callable[..., Path]) -> Path:
    """A folder with a clip of eight frames and a photo."""
    root = tmp_path_factory.mktemp("drive")
    rng = np.random.default_rng(0)
    wide = np.kron(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    make_clip(
        root / "clip.mp4", [np.ascontiguousarray(wide[:, 2 * i : 2 * i + 64]) for i in range(8)], sound="aac"
    )
    assert cv2.imwrite(str(root / "photo.png"), wide[:, :64])
    return root


def run(*words: object) -> int:
    return main([str(word) for word in words])


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_label_maps_are_those_of_the_frames_as_images(model: str, drive: Path, tmp_path: Path):
    settings = ("--steps", 2, "--write", "labels")
    with av.open(str(drive / "clip.mp4")) as file:
        for index, frame in enumerate(file.decode(video=0)):
            (tmp_path / "frames").mkdir(exist_ok=True)
            picture = frame.to_ndarray(format="bgr24")
            assert np.array_equal(picture[..., ::-1], frame.to_ndarray(format="rgb24"))
            assert cv2.imwrite(str(tmp_path / "frames" / f"{index:06d}.png"), picture)
    assert run("predict", model, tmp_path / "frames", "--out", tmp_path / "a", *settings) == 0
    assert run("predict", model, drive / "clip.mp4", "--out", tmp_path / "b", *settings) == 0
    names = files_in(tmp_path / "a" / "labels")
    assert len(names) == 8
    assert files_in(tmp_path / "b" / "labels" / "clip") == names
    found = set()
    for name in names:
        expected = read_label(tmp_path / "a" / "labels" / name)
        assert np.array_equal(read_label(tmp_path / "b" / "labels" / "clip" / name), expected)
        found.update(np.unique(expected))
    assert len(found) > 1


def test_images_and_videos_in_one_call(
    model: str, drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run("predict", model, drive, "--out", tmp_path, "--smoothing", 0.5, "--max-frames", 3) == 0
    kinds = ("color", "labels", "overlay", "uncertainty")
    assert files_in(tmp_path) == sorted([*(f"{kind}/photo.png" for kind in kinds), "overlay/clip.mp4"])
    assert capsys.readouterr().out.splitlines() == [
        f"1 image predicted: {tmp_path}/ (labels, color, overlay, uncertainty)",
        f"{drive}/clip.mp4: 3 frames (0.1 s) predicted: {tmp_path}/ (overlay)",
    ]


def test_a_bad_video_is_named_and_the_others_are_done(
    model: str, drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes((drive / "clip.mp4").read_bytes()[:500])
    out = tmp_path / "out"
    assert run("predict", model, bad, drive / "clip.mp4", "camera:97", "--out", out, "--max-frames", 1) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "iccld: 2 of 3 inputs could not be predicted:"
    assert lines[1].startswith(f"  {bad}: cannot be opened as a video")
    assert lines[2].startswith("  camera:97: no such camera")
    assert files_in(out) == ["overlay/clip.mp4"]


def test_one_line_where_nothing_can_be_done(
    model: str, drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    clip = drive / "clip.mp4"
    for words, message in (
        (("camera:97",), "camera:97: no such camera"),
        (("97",), "a camera is named camera:97"),
        (("rtsp://127.0.0.1:1/x",), "rtsp://127.0.0.1:1/x: cannot be opened as a video"),
        ((clip, "--smoothing", 1), "smoothing is 1"),
        ((clip, "--max-frames", 0), "max-frames is 0"),
        ((clip, "--seconds", -1), "seconds is -1"),
        ((clip, "--write"), "--write names nothing"),
    ):
        assert run("predict", model, *words, "--out", tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert error.startswith("iccld: error: ")
        assert error.count("\n") == 1
        assert message in error
    assert files_in(tmp_path) == []


def test_interrupted_as_a_program(model: str, make_clip: Callable[..., Path], tmp_path: Path):
    """Ctrl-C in the middle of a long video: exit code 130, and a file that can be played."""
    clip = make_clip(tmp_path / "long.mp4", [np.full((64, 64, 3), i % 256, np.uint8) for i in range(3_000)])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "OMP_NUM_THREADS": "1",
    }
    words = ["predict", model, str(clip), "--out", str(tmp_path / "out"), "--write", "labels", "overlay"]
    process = subprocess.Popen(
        [sys.executable, "-m", "iccld", *words], env=environment, stderr=subprocess.PIPE, text=True
    )
    third = tmp_path / "out" / "labels" / "long" / "000003.png"
    while process.poll() is None and not third.exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stderr is not None
    assert process.stderr.read().splitlines()[-1] == "iccld: interrupted"
    process.stderr.close()
    with av.open(str(tmp_path / "out" / "overlay" / "long.mp4")) as file:
        count = sum(1 for _ in file.decode(video=0))
    assert 4 <= count < 3_000
    assert len(files_in(third.parent)) == count
    assert files_in(tmp_path / "out" / "overlay") == ["long.mp4"]
