"""``iccld predict`` on video, alone and beside images, from the command line."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from iccld.cli import main
from iccld.data.image_files import read_label
from iccld.inference.segmenter import predict_image


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
    """Its files, but for those that come with all predictions."""
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return sorted(
        f for f in files if f.rpartition("/")[2] not in ("classes.json", "legend.png", ".iccld.json")
    )


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
        ((clip, "--smoothing", 1), "--smoothing = 1.0 must be"),
        ((clip, "--max-frames", 0), "--max-frames = 0 must be"),
        ((drive / "photo.png", "--max-frames", 0), "--max-frames = 0 must be"),
        ((clip, "--seconds", -1), "--seconds = -1.0 must be"),
        ((clip, "--write"), "--write names nothing"),
    ):
        assert run("predict", model, *words, "--out", tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert error.startswith("iccld: error: ")
        assert error.count("\n") == 1
        assert message in error
    assert files_in(tmp_path) == []


def interrupt_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the frame of that number is predicted."""
    calls = iter(range(1, 1_000_000))

    def predict(*arguments: Any) -> Any:
        if next(calls) == count:
            signal.raise_signal(signal.SIGINT)
        return predict_image(*arguments)

    monkeypatch.setattr("iccld.inference.video.predict_image", predict)


@pytest.mark.signals
def test_an_interrupted_file_plays_up_to_there(
    model: str,
    drive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    interrupt_after(3, monkeypatch)
    clip = tmp_path / "another.mp4"
    clip.write_bytes((drive / "clip.mp4").read_bytes())
    handler = signal.getsignal(signal.SIGINT)
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"x")
    words = (bad, drive / "clip.mp4", clip, "--out", tmp_path / "out", "--json", tmp_path / "facts.json")
    assert run("predict", model, *words) == 130
    assert signal.getsignal(signal.SIGINT) is handler
    captured = capsys.readouterr()
    assert captured.out == f"{drive}/clip.mp4: 3 frames (0.1 s) predicted: {tmp_path}/out/ (overlay)\n"
    lines = captured.err.splitlines()
    assert lines[0] == "iccld: 1 of 3 inputs could not be predicted:"
    assert lines[1].startswith(f"  {bad}: cannot be opened")
    assert lines[2:] == ["iccld: interrupted"]
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert [video["frames"] for video in facts["videos"]] == [3]
    assert len(facts["failures"]) == 1
    assert files_in(tmp_path / "out") == ["overlay/clip.mp4"]
    with av.open(str(tmp_path / "out" / "overlay" / "clip.mp4")) as file:
        assert sum(1 for _ in file.decode(video=0)) == 3


@pytest.mark.signals
def test_ctrl_c_is_the_ordinary_end_of_a_recording(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class FakeCapture:
        def __init__(self, index: int) -> None:
            assert index == 0

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def get(self, _: int) -> float:
            return 0.0

        def read(self) -> tuple[bool, np.ndarray]:
            return True, np.full((64, 64, 3), 90, np.uint8)

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    interrupt_after(4, monkeypatch)
    assert run("predict", model, "camera:0", "--out", tmp_path) == 0
    assert capsys.readouterr().out.startswith("camera:0: 4 frames (")
    with av.open(str(tmp_path / "overlay" / "camera_0.mp4")) as file:
        assert sum(1 for _ in file.decode(video=0)) == 4
    assert files_in(tmp_path) == ["overlay/camera_0.mp4"]


def test_annotations_of_videos_are_refused_before_any_work(
    model: str, drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("predict", model, drive, "--write", "labelme", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "--write labelme: is for images" in error
    assert "clip.mp4 is a video" in error
    assert not (tmp_path / "out").exists()
    assert run("predict", model, drive / "photo.png", "--write", "labelme", "--out", tmp_path / "out") == 0
    assert files_in(tmp_path / "out") == ["labelme/photo.json"]
