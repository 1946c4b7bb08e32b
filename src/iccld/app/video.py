"""A clip segmented frame by frame into an overlay that browsers play."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from iccld.app.answers import to_levels
from iccld.app.layers import Drawing, compose
from iccld.app.models import AppModel
from iccld.app.uploads import check_pixels, without_folders
from iccld.errors import InputError
from iccld.inference.rendering import Image

MAX_FRAMES = 300
_ENCODERS = ("libx264", "libopenh264", "libvpx-vp9")


@dataclass(frozen=True)
class Clip:
    """What became of a video.

    Attributes:
        frames: that were segmented.
        cut: whether the video goes on beyond them.
        size: height and width of the frames.
        seconds_per_frame: of predicting.
    """

    frames: int
    cut: bool
    size: tuple[int, int]
    seconds_per_frame: float


def segment_video(
    model: AppModel,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    steps: int,
    draws: int,
    drawing: Drawing,
    max_frames: int = MAX_FRAMES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Clip:
    """Writes the overlay of a video as MP4 (H.264 where there is an encoder, else VP9).

    Args:
        model: segments the frames.
        source: the video; messages give its name without folders.
        target: the file to write, ending in ``.mp4``.
        steps: K.
        draws: N.
        drawing: how the answers are drawn.
        max_frames: frames that are taken from the beginning.
        progress: told frames done and to do after each; what it raises ends the work.

    Raises:
        InputError: no picture can be decoded, or frames are too large.
    """
    source = Path(source)
    with without_folders(source):
        capture = cv2.VideoCapture(str(source))
        try:
            rate = capture.get(cv2.CAP_PROP_FPS)
            total = min(max_frames, max(1, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))))
            frames, spent, size = 0, 0.0, (0, 0)
            with _Writer(Path(target), rate if 1 <= rate <= 240 else 25.0) as writer:
                for frame in _frames(capture, source.name):
                    if frames == max_frames:
                        break
                    size = frame.shape[:2]
                    start = time.perf_counter()
                    prediction = model.predict(frame, steps, draws)
                    spent += time.perf_counter() - start
                    levels = to_levels(prediction.uncertainty)
                    writer.add(compose(frame, prediction.labels, levels, model.shown, drawing))
                    frames += 1
                    progress(frames, max(total, frames))
                else:
                    max_frames = frames + 1  # it ended by itself
            if not frames:
                raise InputError(f"{source.name}: holds no picture that can be decoded; upload another video")
            return Clip(frames, frames == max_frames, size, spent / frames)
        finally:
            capture.release()


def _frames(capture: cv2.VideoCapture, name: str) -> Iterator[Image]:
    while True:
        there, frame = capture.read()
        if not there:
            return
        check_pixels(name, *frame.shape[:2])
        yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)


class _Writer:
    """An MP4 file that begins with its first frame."""

    def __init__(self, path: Path, rate: float) -> None:
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        self._rate = Fraction(rate).limit_denominator(1001)
        self._stream: Any = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def add(self, picture: Image) -> None:
        """Appends a picture; an odd last row or column is left out, as H.264 wants even sides."""
        if self._stream is None:
            name = next(name for name in _ENCODERS if name in av.codecs_available)
            self._stream = self._container.add_stream(name, rate=self._rate)
            self._stream.height, self._stream.width = (max(2, side // 2 * 2) for side in picture.shape[:2])
            self._stream.pix_fmt = "yuv420p"
        height, width = self._stream.height, self._stream.width
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
        self._container.mux(self._stream.encode(frame))
