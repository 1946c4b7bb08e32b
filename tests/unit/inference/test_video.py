from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from iccld.data.image_files import read_label
from iccld.errors import InputError
from iccld.inference.inputs import InputVideo
from iccld.inference.rendering import colorize, overlay
from iccld.inference.video import Limits, VideoResult, newest, predict_video
from iccld.inference.video_source import Frame, VideoSource, open_video
from iccld.inference.video_writer import writing_video
from iccld.labels import CITYSCAPES19

MakeClip = Callable[..., Path]


def pictures(count: int = 12, size: tuple[int, int] = (48, 64), seed: int = 0) -> list[np.ndarray]:
    """A field of classes that wanders to the right."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 19, (-(-size[0] // 16), -(-(size[1] + 2 * count) // 16))).astype(np.uint8)
    wide = colorize(np.kron(blocks, np.ones((16, 16), np.uint8)), CITYSCAPES19)
    return [np.ascontiguousarray(wide[: size[0], 2 * i : 2 * i + size[1]]) for i in range(count)]


def decoded(path: Path) -> list[np.ndarray]:
    """The frames as PyAV gives them, nothing of ours in between."""
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as file:
        return [frame.pts * frame.time_base for frame in file.decode(video=0)]


def sound(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as file:
        packets = [p for p in file.demux(audio=0) if p.size]
        return [(p.pts * p.time_base, bytes(p)) for p in packets]


def predict(model: Any, clip: Path | str, out: Path, **more: Any) -> VideoResult:
    return predict_video(model, InputVideo(str(clip), Path(clip).stem), out, **more)


# -- what is written ---------------------------------------------------------------------------------


def test_every_frame_is_predicted_exactly_as_if_alone(model: Any, make_clip: MakeClip, tmp_path: Path):
    clip = make_clip(tmp_path / "clip.mp4", pictures())
    result = predict(model, clip, tmp_path / "out", write=["labels"])
    assert result == VideoResult(12, 12 / 25, None, False)
    frames = decoded(clip)
    files = sorted((tmp_path / "out" / "labels" / "clip").iterdir())
    assert [f.name for f in files] == [f"{i:06d}.png" for i in range(12)]
    for frame, file in zip(frames, files, strict=True):
        assert np.array_equal(read_label(file), model.predict(frame).labels)


@pytest.mark.parametrize(("kind", "tolerance"), [("overlay", 4.0), ("color", 4.0), ("uncertainty", 4.0)])
def test_videos_show_what_was_predicted(
    model: Any, make_clip: MakeClip, tmp_path: Path, kind: Any, tolerance: float
):
    clip = make_clip(tmp_path / "clip.mp4", pictures())
    predict(model, clip, tmp_path / "out", write=[kind])
    (file,) = (p for p in (tmp_path / "out").rglob("*/*") if p.is_file())
    assert file == tmp_path / "out" / kind / "clip.mp4"
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.frames) == (64, 48, 12)
        assert stream.average_rate == 25
    for before, after in zip(decoded(clip), decoded(file), strict=True):
        labels = model.predict(before).labels
        if kind != "uncertainty":
            wanted = (
                overlay(before, labels, CITYSCAPES19) if kind == "overlay" else colorize(labels, CITYSCAPES19)
            )
            inside = np.ones(labels.shape, bool)  # colors at edges between classes are shared by 2×2 pixels
            inside[:, 1:] &= labels[:, 1:] == labels[:, :-1]
            inside[1:] &= labels[1:] == labels[:-1]
            inside[:, :-1] &= inside[:, 1:]
            inside[:-1] &= inside[1:]
            difference = np.abs(after.astype(int) - wanted)[inside]
            assert difference.mean() < tolerance
        else:
            levels = after.astype(int).sum(-1)
            assert np.corrcoef(levels.ravel(), before.mean(-1).ravel())[0, 1] > 0.9


def test_irregular_times_are_kept(model: Any, make_clip: MakeClip, tmp_path: Path):
    steps = np.random.default_rng(0).integers(1000, 9000, 12)
    clip = make_clip(
        tmp_path / "a.mp4", pictures(), times=[0, *map(int, np.cumsum(steps)[:-1])], unit=Fraction(1, 90_000)
    )
    predict(model, clip, tmp_path / "out")
    assert times(tmp_path / "out" / "overlay" / "a.mp4") == times(clip)
    assert len(set(np.diff([float(t) for t in times(clip)]).round(5))) > 5


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4")]
)
def test_other_containers_keep_their_times(
    model: Any, make_clip: MakeClip, tmp_path: Path, name: str, codec: str
):
    unit = Fraction(1, 25) if name.endswith("avi") else Fraction(1, 1000)
    clip = make_clip(tmp_path / name, pictures(), codec=codec, unit=unit)
    predict(model, clip, tmp_path / "out")
    assert times(tmp_path / "out" / "overlay" / "a.mp4") == times(clip)


def test_sound_is_copied_packet_by_packet(model: Any, make_clip: MakeClip, tmp_path: Path):
    clip = make_clip(tmp_path / "clip.mp4", pictures(30), sound="aac")
    predict(model, clip, tmp_path / "out", write=["overlay", "color"])
    for kind in ("overlay", "color"):
        file = tmp_path / "out" / kind / "clip.mp4"
        assert sound(file) == sound(clip)
        assert times(file) == times(clip)


def test_sound_keeps_its_place_beside_pictures_that_start_later(
    model: Any, make_clip: MakeClip, tmp_path: Path
):
    clip = make_clip(
        tmp_path / "clip.mp4",
        pictures(),
        sound="aac",
        times=[7001 + 3600 * i for i in range(12)],
        unit=Fraction(1, 90_000),
    )
    predict(model, clip, tmp_path / "out")
    file = tmp_path / "out" / "overlay" / "clip.mp4"
    assert times(file)[0] == times(clip)[0] == Fraction(7001, 90_000)
    assert sound(file)[:5] == sound(clip)[:5]


def test_sound_that_browsers_do_not_play_in_mp4_is_encoded_anew(
    model: Any, make_clip: MakeClip, tmp_path: Path
):
    clip = make_clip(tmp_path / "clip.mkv", pictures(50), sound="pcm_s16le", unit=Fraction(1, 1000))
    predict(model, clip, tmp_path / "out")
    with av.open(str(tmp_path / "out" / "overlay" / "clip.mp4")) as file:
        assert file.streams.audio[0].codec_context.name == "aac"
        wave = np.concatenate([f.to_ndarray()[0] for f in file.decode(audio=0)])
    assert len(wave) / 48000 == pytest.approx(2, abs=0.1)
    spectrum = np.abs(np.fft.rfft(wave[4800:-4800]))
    assert np.argmax(spectrum) * 48000 / (len(wave) - 9600) == pytest.approx(440, abs=2)


def test_a_turned_phone_gives_upright_pictures(model: Any, make_clip: MakeClip, tmp_path: Path):
    lying = [np.ascontiguousarray(np.rot90(p, -1)) for p in pictures(size=(48, 64))]
    clip = make_clip(tmp_path / "phone.mp4", lying, turned=90)  # 90° counterclockwise makes them upright
    predict(model, clip, tmp_path / "out", write=["labels", "overlay"])
    assert set(model.sizes) == {(48, 64)}
    upright = np.rot90(decoded(clip)[0])
    assert np.abs(upright.astype(int) - pictures()[0]).mean() < 12
    label = read_label(tmp_path / "out" / "labels" / "phone" / "000000.png")
    assert np.array_equal(label, model.predict(np.ascontiguousarray(upright)).labels)
    with av.open(str(tmp_path / "out" / "overlay" / "phone.mp4")) as file:
        assert (file.streams.video[0].width, file.streams.video[0].height) == (64, 48)
        assert next(file.decode(video=0)).rotation == 0


def test_odd_sides_grow_by_a_pixel_in_videos_and_not_in_label_maps(
    model: Any, make_clip: MakeClip, tmp_path: Path
):
    clip = make_clip(tmp_path / "odd.mp4", pictures(3, size=(47, 63)))
    predict(model, clip, tmp_path / "out", write=["labels", "color"])
    assert read_label(tmp_path / "out" / "labels" / "odd" / "000002.png").shape == (47, 63)
    (first, *_) = decoded(tmp_path / "out" / "color" / "odd.mp4")
    assert first.shape == (48, 64, 3)
    assert np.abs(first[:, 63].astype(int) - first[:, 62]).mean() < 8


def test_label_maps_of_a_longer_run_are_removed_and_other_files_stay(
    model: Any, make_clip: MakeClip, tmp_path: Path
):
    clip = make_clip(tmp_path / "clip.mp4", pictures())
    folder = tmp_path / "out" / "labels" / "clip"
    predict(model, clip, tmp_path / "out", write=["labels"])
    (folder / "notes.png").write_bytes(b"mine")
    predict(model, clip, tmp_path / "out", write=["labels"], limits=Limits(max_frames=2))
    assert sorted(p.name for p in folder.iterdir()) == ["000000.png", "000001.png", "notes.png"]


def test_without_an_h264_encoder_nothing_is_written(
    model: Any, make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("iccld.inference.video_writer._ENCODERS", {"libnone": {}})
    clip = make_clip(tmp_path / "a.mp4", pictures())
    with pytest.raises(InputError, match=r"no encoder for H\.264"):
        predict(model, clip, tmp_path / "out")
    assert not list(tmp_path.glob("out/**/*.mp4"))


@pytest.mark.parametrize("codec", ["aac", "mp2"])  # copied, and encoded anew
def test_joined_recordings_go_on_in_time(model: Any, make_clip: MakeClip, tmp_path: Path, codec: str):
    once = make_clip(tmp_path / "a.ts", pictures(), sound=codec, unit=Fraction(1, 90_000))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(once.read_bytes() * 2)
    result = predict(model, joined, tmp_path / "out")
    assert result.num_frames == 24
    file = tmp_path / "out" / "overlay" / "joined.mp4"
    assert np.diff([float(t) for t in times(file)]) == pytest.approx([0.04] * 23, abs=1e-3)
    assert float(sound(file)[-1][0]) == pytest.approx(0.96, abs=0.1)


def test_sound_that_cannot_be_written_does_not_cost_the_pictures(
    model: Any, make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Backwards:
        def steady(self, time: int, duration: int) -> int:
            return -time

    monkeypatch.setattr("iccld.inference.video_writer.SteadyClock", Backwards)
    clip = make_clip(tmp_path / "clip.mp4", pictures(30), sound="aac")
    assert predict(model, clip, tmp_path / "out").num_frames == 30
    file = tmp_path / "out" / "overlay" / "clip.mp4"
    assert len(times(file)) == 30
    assert len(sound(file)) < 3


def test_tags_that_are_no_utf8_are_no_matter(model: Any, make_clip: MakeClip, tmp_path: Path):
    clip = make_clip(tmp_path / "clip.avi", pictures(), codec="mpeg4", sound="mp2", unit=Fraction(1, 25))
    with av.open(str(clip)) as source, av.open(str(tmp_path / "tagged.avi"), "w") as file:
        file.metadata["title"] = "cafe"
        outs = {s.index: file.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = outs[packet.stream.index]
                file.mux(packet)
    tagged = tmp_path / "tagged.avi"
    whole = tagged.read_bytes()
    assert whole.count(b"cafe") == 1
    tagged.write_bytes(whole.replace(b"cafe", b"caf\xe9"))
    assert predict(model, tagged, tmp_path / "out").num_frames == 12


# -- where it ends -----------------------------------------------------------------------------------


def test_limits_count_frames_or_seconds(model: Any, make_clip: MakeClip, tmp_path: Path):
    clip = make_clip(tmp_path / "clip.mp4", pictures(30), sound="aac")
    assert predict(model, clip, tmp_path / "a", limits=Limits(max_frames=7)).num_frames == 7
    result = predict(model, clip, tmp_path / "b", limits=Limits(seconds=0.2))
    assert (result.num_frames, result.seconds, result.problem) == (5, pytest.approx(0.2), None)
    heard = sound(tmp_path / "b" / "overlay" / "clip.mp4")
    assert 0.15 < heard[-1][0] < 0.2
    for limits in ({"max_frames": 0}, {"seconds": 0.0}, {"seconds": 1e-7}, {"seconds": float("nan")}):
        with pytest.raises(InputError, match="give"):
            Limits(**limits)


def test_stopping_leaves_a_file_that_plays(model: Any, make_clip: MakeClip, tmp_path: Path):
    clip = make_clip(tmp_path / "clip.mp4", pictures(30), sound="aac")
    result = predict(model, clip, tmp_path / "out", stop=lambda: len(model.calls) >= 9)
    assert (result.num_frames, result.stopped) == (9, True)
    file = tmp_path / "out" / "overlay" / "clip.mp4"
    assert times(file) == times(clip)[:9]
    assert [p.name for p in file.parent.iterdir()] == ["clip.mp4"]


def test_an_error_on_the_way_leaves_the_old_file(model: Any, make_clip: MakeClip, tmp_path: Path):
    clip = make_clip(tmp_path / "clip.mp4", pictures(), sound="aac")
    file = tmp_path / "out" / "overlay" / "clip.mp4"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"old")
    whole = model.predict

    def fail(image: np.ndarray, **settings: Any) -> Any:
        if len(model.calls) == 5:
            raise InputError("out of memory")
        return whole(image, **settings)

    model.predict = fail
    with pytest.raises(InputError, match="out of memory"):
        predict(model, clip, tmp_path / "out")
    assert file.read_bytes() == b"old"
    assert [p.name for p in file.parent.iterdir()] == ["clip.mp4"]


def test_what_is_no_video_is_refused_by_name(model: Any, make_clip: MakeClip, tmp_path: Path):
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    (tmp_path / "empty.mp4").touch()
    whole = make_clip(tmp_path / "whole.mp4", pictures()).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # its index stood at the end
    with av.open(str(tmp_path / "tone.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=48000, layout="mono")
        piece = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        piece.sample_rate = 48000
        file.mux([*stream.encode(piece), *stream.encode(None)])
    for name, message in (
        ("text", "cannot be opened as a video"),
        ("empty", "cannot be opened as a video"),
        ("cut", "cannot be opened as a video"),
        ("tone", "holds no video"),
        ("gone", "no such file"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            predict(model, tmp_path / f"{name}.mp4", tmp_path / "out")
        assert str(caught.value).startswith(f"{tmp_path / name}.mp4: ")
    assert not list(tmp_path.glob("out/**/*.mp4"))


def test_a_file_that_was_cut_off_is_predicted_as_far_as_it_goes(
    model: Any, make_clip: MakeClip, tmp_path: Path
):
    noise = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), dtype=np.uint8)
    with writing_video(tmp_path / "a.mp4", (48, 64), time_base=Fraction(1, 25), rate=Fraction(25)) as writer:
        for index, picture in enumerate(noise):
            writer.add(picture, index, 1)
    whole = (tmp_path / "a.mp4").read_bytes()  # its index stands at the start
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    result = predict(model, cut, tmp_path / "out")
    assert 5 < result.num_frames < 30
    assert result.problem is not None
    assert result.problem.startswith(f"{cut}: ")
    assert len(times(tmp_path / "out" / "overlay" / "cut.mp4")) == result.num_frames
    assert predict(model, tmp_path / "a.mp4", tmp_path / "out").problem is None


def test_an_output_that_cannot_be_written_ends_the_work(model: Any, make_clip: MakeClip, tmp_path: Path):
    clip = make_clip(tmp_path / "clip.mp4", pictures())
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match=r"out/overlay/clip\.mp4: cannot be written"):
        predict(model, clip, tmp_path / "out")


# -- live sources ------------------------------------------------------------------------------------


class FakeCamera(VideoSource):
    """Gives frames for ever, a tenth of a second apart by its own clock."""

    time_base, rate, num_frames, pixel_aspect, live = Fraction(1, 1000), Fraction(10), None, Fraction(1), True

    def __init__(self, end: int | None = None) -> None:
        self.problem: str | None = None
        self.num_damaged = 0
        self.closed, self.given, self.end = False, 0, end
        self.go_on = threading.Semaphore(0)

    def frames(self) -> Iterator[Frame]:
        while self.given != self.end:
            assert not self.closed
            self.go_on.acquire(timeout=0.05)
            self.given += 1
            yield Frame(pictures(1)[0], (self.given - 1) * 100, 0)
        self.problem = "camera:0: gives no more pictures"

    def close(self) -> None:
        self.closed = True


def test_a_recording_ends_when_asked_and_can_be_played(model: Any, tmp_path: Path):
    camera = FakeCamera()
    video = InputVideo("camera:0", "camera_0")
    result = predict_video(
        model, video, tmp_path, stop=lambda: len(model.calls) >= 4, open_source=lambda _: camera
    )
    assert (result.num_frames, result.problem, result.stopped) == (4, None, True)
    assert camera.closed
    recorded = times(tmp_path / "overlay" / "camera_0.mp4")
    assert len(recorded) == 4
    assert {t * 10 % 1 for t in recorded} == {0}  # the camera's own times


def test_a_recording_that_the_camera_ends_is_kept_and_reported(model: Any, tmp_path: Path):
    video = InputVideo("camera:0", "camera_0")
    result = predict_video(model, video, tmp_path, open_source=lambda _: FakeCamera(end=3))
    assert result.problem == "camera:0: gives no more pictures"
    assert 1 <= result.num_frames <= 3
    assert len(times(tmp_path / "overlay" / "camera_0.mp4")) == result.num_frames


def test_dropped_frames_do_not_count(model: Any, tmp_path: Path):
    whole, camera = model.predict, FakeCamera()

    def slow(image: np.ndarray, **settings: Any) -> Any:
        given = camera.given
        for _ in range(5000):
            camera.go_on.release()
            if camera.given >= given + 4:
                break
            time.sleep(0.001)
        return whole(image, **settings)

    model.predict = slow
    video = InputVideo("camera:0", "camera_0")
    limits = Limits(max_frames=3)
    result = predict_video(model, video, tmp_path, limits=limits, open_source=lambda _: camera)
    assert result.num_frames == 3
    assert camera.given > 8
    assert "video" not in [thread.name for thread in threading.enumerate()]


def test_a_silent_camera_is_ended_by_the_limit_of_time(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("iccld.inference.video._TIMEOUT", 0.05)  # until its thread is given up
    silence = threading.Event()

    class Silent(FakeCamera):
        def frames(self) -> Iterator[Frame]:
            yield Frame(pictures(1)[0], 0, 0)
            if not silence.wait(5):
                raise InputError("the limit did not end it")

    limits, video = Limits(seconds=0.3), InputVideo("camera:0", "camera_0")
    result = predict_video(model, video, tmp_path, limits=limits, open_source=lambda _: Silent())
    assert (result.num_frames, result.problem) == (1, None)
    silence.set()


def test_a_slow_reader_gets_the_newest_frame(tmp_path: Path):
    image = pictures(1)[0]
    read = threading.Event()

    def source() -> Iterator[Frame]:
        for pts in range(100):
            yield Frame(image, pts, 0)
        read.set()

    frames = newest(source(), lambda: False)
    first = next(frames).pts
    assert read.wait(10)
    assert [first, *(frame.pts for frame in frames)][-1] == 99


def test_errors_of_a_live_source_reach_the_caller():
    def source() -> Iterator[Frame]:
        yield Frame(pictures(1)[0], 0, 0)
        raise InputError("the line is dead")

    with pytest.raises(InputError, match="the line is dead"):
        list(newest(source(), lambda: False))


def test_a_camera_gives_rgb_at_the_times_of_arrival(monkeypatch: pytest.MonkeyPatch):
    clock = iter([10.0, 10.5, 10.5, 12.0, 13.0])

    class FakeCapture:
        pictures = iter([(True, np.full((4, 6, 3), (250, 20, 10), np.uint8))] * 4 + [(False, None)])

        def __init__(self, index: int) -> None:
            assert index == 2
            self.isOpened, self.read, self.get = lambda: True, lambda: next(self.pictures), lambda _: 24.0

    monkeypatch.setattr("cv2.VideoCapture", FakeCapture)
    monkeypatch.setattr("iccld.inference.video_source.time.monotonic", lambda: next(clock))
    source = open_video(InputVideo("camera:2", "camera_2"))
    frames = list(source.frames())
    assert [float(frame.pts * source.time_base) for frame in frames] == pytest.approx(
        [0, 0.5, 0.5, 2], abs=1e-4
    )
    assert len({frame.pts for frame in frames}) == 4  # two at one time cannot be written
    assert (frames[0].image[0, 0] == (10, 20, 250)).all()
    assert (source.live, source.rate, source.problem) == (True, 24, "camera:2: gives no more pictures")


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A web server for the files of a folder, on this computer."""
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_an_address_is_read_like_a_file(model: Any, make_clip: MakeClip, tmp_path: Path):
    clip = make_clip(tmp_path / "clip.mp4", pictures())
    with serving(tmp_path) as address:
        predict(model, f"{address}/clip.mp4", tmp_path / "out", write=["overlay"])
    assert times(tmp_path / "out" / "overlay" / "clip.mp4") == times(clip)


def test_a_stream_cannot_make_files_of_this_computer_be_read(model: Any, make_clip: MakeClip, tmp_path: Path):
    clip = make_clip(tmp_path / "clip.ts", pictures())
    (tmp_path / "site").mkdir()
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{}\n#EXT-X-ENDLIST\n"
    (tmp_path / "site" / "list.m3u8").write_text(text.format(clip))
    with serving(tmp_path / "site") as address, pytest.raises(InputError):
        predict(model, f"{address}/list.m3u8", tmp_path / "out", write=["overlay"])
    assert not list(tmp_path.glob("out/**/*.mp4"))


def test_no_camera_and_nobody_at_the_address(model: Any, tmp_path: Path):
    with pytest.raises(InputError, match="camera:97: no such camera"):
        predict(model, "camera:97", tmp_path)
    address = "rtsp://me:secret@127.0.0.1:1/stream"
    with pytest.raises(InputError, match=r"^rtsp://127\.0\.0\.1:1/stream: cannot be opened") as caught:
        predict(model, address, tmp_path)
    assert "secret" not in str(caught.value)
