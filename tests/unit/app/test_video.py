from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from iccld.app.answers import AppModel, Settings
from iccld.app.service import segment_video
from iccld.app.sessions import Upload, check_pixels
from iccld.errors import InputError
from iccld.labels import CITYSCAPES19

SKY = CITYSCAPES19.names.index("sky")


def _write(path: Path, *, frames: int = 6, size: tuple[int, int] = (48, 64), codec: str = "mpeg4") -> Path:
    """A gray clip: the model of these tests reads gray as class and uncertainty."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p" if codec == "mpeg4" else "yuv444p"
        for _ in range(frames):
            picture = np.full((*size, 3), SKY, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def _segment(model: AppModel, source: Path, target: Path, **options: object):
    progress = options.pop("progress", lambda done, total: None)
    upload = Upload(source, source.name)
    return segment_video(model, upload, target, Settings(opacity=100), progress, **options)


def _decode(path: Path) -> tuple[str, float, list[np.ndarray]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return stream.codec_context.name, float(stream.average_rate), frames


def test_clip_keeps_frames_rate_and_size(make_model: Callable[..., AppModel], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    clip = _segment(
        make_model(),
        _write(tmp_path / "a.mp4"),
        tmp_path / "out.mp4",
        progress=lambda done, total: told.append((done, total)),
    )
    codec, rate, frames = _decode(tmp_path / "out.mp4")
    assert codec == "h264"
    assert (rate, len(frames), frames[0].shape) == (5.0, 6, (48, 64, 3))
    assert (clip.frames, clip.cut, clip.size) == (6, False, (48, 64))
    assert told == [(n, 6) for n in range(1, 7)]
    np.testing.assert_allclose(
        frames[-1].mean((0, 1)), CITYSCAPES19.palette[SKY], atol=12, err_msg="the color of sky"
    )


@pytest.mark.parametrize(("limit", "frames", "cut"), [(4, 4, True), (6, 6, False)])
def test_long_clips_are_cut(
    make_model: Callable[..., AppModel], tmp_path: Path, limit: int, frames: int, cut: bool
) -> None:
    clip = _segment(make_model(), _write(tmp_path / "a.mp4"), tmp_path / "out.mp4", max_frames=limit)
    assert (clip.frames, clip.cut) == (frames, cut)
    assert len(_decode(tmp_path / "out.mp4")[2]) == frames


def test_odd_sides_gain_a_row(make_model: Callable[..., AppModel], tmp_path: Path) -> None:
    source = _write(tmp_path / "a.mkv", size=(33, 51), codec="ffv1")
    clip = _segment(make_model(), source, tmp_path / "out.mp4")
    assert clip.size == (33, 51)
    assert _decode(tmp_path / "out.mp4")[2][0].shape == (34, 52, 3)


def test_files_without_pictures(make_model: Callable[..., AppModel], tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux([*stream.encode(frame), *stream.encode(None)])
    (tmp_path / "junk.mp4").write_bytes(b"junk")
    for name in ("sound.mp4", "junk.mp4"):
        with pytest.raises(InputError, match=rf"^{name}: (holds no video|cannot be opened as a video)"):
            _segment(make_model(), tmp_path / name, tmp_path / "out.mp4")


def test_what_progress_raises_ends_the_work(make_model: Callable[..., AppModel], tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise InputError("stopped")

    model = make_model()
    with pytest.raises(InputError, match="stopped"):
        _segment(model, _write(tmp_path / "a.mp4"), tmp_path / "out.mp4", progress=stop)
    assert len(model.segmenter.calls) == 1


def test_frames_of_too_many_pixels_are_not_decoded(
    make_model: Callable[..., AppModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iccld.inference.video_source.Container.frames", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr("iccld.app.service.check_pixels", partial(check_pixels, max_pixels=1000))
    with pytest.raises(InputError, match=r"^a\.mp4: has 64×48 pixels"):
        _segment(make_model(), _write(tmp_path / "a.mp4"), tmp_path / "out.mp4")
