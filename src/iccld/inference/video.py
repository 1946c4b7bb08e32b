"""Video segmentation, frame by frame: writes videos with the original timestamps and sound, and lossless label maps."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8

from iccld.data.description import Description
from iccld.data.image_files import write_png
from iccld.data.inputs import InputVideo
from iccld.errors import InputError
from iccld.files import AnyPath
from iccld.inference.media import OutputKind, draw, prepare
from iccld.inference.rendering import IdKind, write_class_key
from iccld.inference.segmenter import PredictSettings, Segmenter, predict_image
from iccld.inference.video_source import Frame, VideoSource, open_video
from iccld.inference.video_writer import VideoWriter, writing_video
from iccld.models.prediction import Prediction
from iccld.progress import track

VIDEO_OUTPUTS: tuple[OutputKind, ...] = ("overlay",)
"""Default outputs of a video. Label maps are not included because they need one file per frame."""
_CUT = 0.08
"""Threshold for scene cuts: mean difference of two gray thumbnails, as a fraction of the gray range. In CamVid, frames
1/15 s apart differ by at most 0.022 (100 pairs). Frames of different drives differ by at least 0.108 (about 2300
pairs)."""
_TIMEOUT = 10.0  # seconds to wait until the thread that reads a live source ends


@dataclass(frozen=True)
class Limits:
    """Limits on the segmented part of a video: number of frames and duration in seconds. ``None`` means no limit."""

    max_frames: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.max_frames is not None and self.max_frames < 1:
            raise InputError(f"max-frames is {self.max_frames}; give 1 or more")
        if self.seconds is not None and not 1e-6 <= self.seconds < float("inf"):
            raise InputError(f"seconds is {self.seconds}; give 0.000001 or more")

    def cut(self, frames: Iterator[Frame], time_base: Fraction) -> Iterator[Frame]:
        """Yields the frames up to the limits. After ``max_frames`` frames, no further frame is read."""
        start = None
        # Timestamps are exact fractions. Therefore, 0.2 must become exactly 1/5 instead of the nearest binary number.
        end = None if self.seconds is None else Fraction(self.seconds).limit_denominator(1_000_000)
        for count, frame in enumerate(frames, start=1):
            start = frame.pts if start is None else start
            if end is not None and (frame.pts - start) * time_base >= end:
                return
            yield frame
            if count == self.max_frames:
                return

    def total(self, source: VideoSource) -> int | None:
        """Returns the expected number of frames within the limits, or ``None`` if the number is unknown."""
        in_time = None if self.seconds is None else max(1, round(self.seconds * source.rate))
        known = (source.num_frames, self.max_frames, in_time)
        return min((number for number in known if number is not None), default=None)


class TemporalSmoothing:
    """Exponential smoothing over frames: mean = strength × mean + (1 − strength) × probabilities.

    The strength is in [0, 1), and 0 means no smoothing. The mean covers about 1 / (1 − strength) frames. At a detected
    scene cut, the mean restarts.
    """

    def __init__(self, strength: float) -> None:
        if not 0 <= strength < 1:
            raise InputError(f"smoothing is {strength}; give 0 (none) or more, below 1")
        self.strength = strength
        self._last: tuple[np.ndarray, Float32[np.ndarray, "k h w"]] | None = None

    def __call__(self, image: UInt8[np.ndarray, "h w 3"], prediction: Prediction) -> Prediction:
        """Returns the next frame's prediction with smoothed probabilities. The mutual information is not smoothed."""
        if self.strength == 0:
            return prediction
        small = cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA)
        thumbnail = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        if self._last is not None:
            before, mean = self._last
            same_size = mean.shape == prediction.probabilities.shape
            if same_size and float(np.abs(thumbnail - before).mean()) <= _CUT:
                mean = mean * self.strength + (1 - self.strength) * prediction.probabilities
                labels = torch.from_numpy(mean).max(dim=0).indices.to(torch.uint8).numpy()
                prediction = dataclasses.replace(prediction, labels=labels, probabilities=mean)
        self._last = thumbnail, prediction.probabilities
        return prediction


@dataclass(frozen=True)
class VideoResult:
    """The result of a video's segmentation.

    Attributes:
        num_frames: Number of segmented frames.
        seconds: Duration of the segmented frames in seconds.
        problem: Message about damage, which contains the name of the video. ``None`` if there is no damage.
        stopped: Whether the ``stop`` callback returned true.
        num_damaged: Number of damaged frames, which were skipped.
    """

    num_frames: int
    seconds: float
    problem: str | None
    stopped: bool
    num_damaged: int = 0


def predict_video(
    model: Segmenter,
    video: InputVideo,
    out: AnyPath,
    *,
    write: Sequence[OutputKind] = VIDEO_OUTPUTS,
    ids: IdKind | Description = "train",
    settings: PredictSettings | None = None,
    smoothing: float = 0.0,
    limits: Limits | None = None,
    stop: Callable[[], bool] = lambda: False,
    open_source: Callable[[InputVideo], VideoSource] = open_video,
) -> VideoResult:
    """Segments a video and writes ``out/<kind>/<name>.mp4`` for each kind of output, except label maps.

    The MP4 files have the timestamps of the frames and the sound of the video file. If a live source delivers frames
    faster than the model segments them, only the newest frame is segmented. An MP4 file appears when the video ends or
    is stopped. ``stop`` is called before each frame. If ``stop`` returns true, the segmentation ends. Label maps are
    PNG files such as ``out/labels/<name>/000000.png``, because lossy videos cannot store class ids. See
    ``TemporalSmoothing`` for ``smoothing`` and ``predict_files`` for ``write``, ``ids`` and ``settings``.

    Raises ``InputError`` if the video cannot be opened or has no frames, ``stop`` ends the work before the first frame,
    an output cannot be written, or a class has no id of the requested kind.
    """
    table = prepare(model, out, ids, settings)
    limits, smooth = limits or Limits(), TemporalSmoothing(smoothing)
    count, first, end = 0, 0, 0
    out, sound_of = Path(out), video.path if video.is_file else None
    labels, writers = out / "labels" / video.name, dict[OutputKind, VideoWriter]()
    with (
        closing(open_source(video)) as source,
        ExitStack() as files,
        closing(_frames(source, limits, stop)) as frames,
    ):
        for frame in track(frames, limits.total(source), video.title, unit="fps"):
            prediction = smooth(frame.image, predict_image(model, frame.image, settings))
            for kind in write:
                picture = draw(kind, frame.image, prediction, model.label_space, table)
                if kind == "labels":
                    write_png(labels / f"{count:06d}.png", picture)
                    continue
                if kind not in writers:
                    path, size = out / kind / f"{video.name}.mp4", picture.shape[:2]
                    opened = writing_video(path, size, sound_of=sound_of, **source.announced)
                    writers[kind] = files.enter_context(opened)
                writers[kind].add(picture, frame.pts, frame.duration)
            if count == 0:
                write_class_key(out, model.label_space, table)
            first = first if count else frame.pts
            end = frame.pts + (frame.duration or round(1 / (source.rate * source.time_base)))
            count += 1
    if count == 0:
        raise InputError(f"{video.title}: was stopped before its first frame; nothing was written")
    if "labels" in write:
        _remove_later_labels(labels, count)
    seconds = float((end - first) * source.time_base)
    return VideoResult(count, seconds, source.problem, stop(), source.num_damaged)


def _remove_later_labels(folder: Path, count: int) -> None:
    """Removes the label maps of frame ``count`` and later frames, which a longer previous run has left."""
    for path in folder.iterdir():
        if re.fullmatch(r"\d{6,}\.png", path.name) and int(path.stem) >= count:
            path.unlink()


def _frames(source: VideoSource, limits: Limits, stop: Callable[[], bool]) -> Generator[Frame, None, None]:
    """Yields the frames up to the limits. Dropped frames of a live source do not count towards ``max_frames``."""
    if not source.live:
        yield from takewhile(lambda _: not stop(), limits.cut(source.frames(), source.time_base))
        return
    shown, since, first = 0.0, time.monotonic(), None

    def over() -> bool:
        # The time without frames also counts, so that the time limit ends a source that delivers no more frames.
        silent = time.monotonic() - since
        return stop() or (limits.seconds is not None and shown + silent >= limits.seconds)

    with closing(newest(source.frames(), over)) as frames:
        for frame in limits.cut(frames, source.time_base):
            first = frame.pts if first is None else first
            shown, since = float((frame.pts - first) * source.time_base), time.monotonic()
            yield frame


def newest(frames: Iterator[Frame], stop: Callable[[], bool]) -> Generator[Frame, None, None]:
    """Yields the newest frame of a live source. Frames that arrive while the caller is busy are dropped.

    If no frames were dropped, the delay of a slow model would grow without limit. A separate thread reads the frames.
    While the iteration waits for a frame, ``stop`` is called several times per second. If ``stop`` returns true, the
    iteration ends.
    """
    slot: deque[Frame] = deque(maxlen=1)
    failures: list[BaseException] = []
    arrived, over, left = threading.Event(), threading.Event(), threading.Event()

    def read() -> None:
        try:
            for frame in frames:
                slot.append(frame)
                arrived.set()
                if left.is_set():
                    return
        except BaseException as error:  # raised again in the caller's thread
            failures.append(error)
        finally:
            over.set()
            arrived.set()

    thread = threading.Thread(target=read, name="video", daemon=True)
    thread.start()
    try:
        while not stop():
            arrived.wait(0.1)
            arrived.clear()
            ended = over.is_set()
            if slot:
                yield slot.popleft()
            if ended and not slot:
                if failures:
                    raise failures[0]
                return
    finally:
        left.set()
        thread.join(_TIMEOUT)
