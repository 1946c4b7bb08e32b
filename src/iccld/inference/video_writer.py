"""Writing video: RGB images and their times become an MP4 file that browsers play."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from jaxtyping import UInt8

from iccld.errors import InputError
from iccld.files import replacing
from iccld.inference.sound import open_sound

_ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "18", "preset": "veryfast"},
    "libopenh264": {"b": "8000000"},
    "mpeg4": {"q:v": "3"},  # no browser plays it, but every player does
}
"""In the order of preference; which of them there are depends on how FFmpeg was built."""
_BT709 = 1  # in the numbering of ITU-T H.273: matrix, primaries and transfer alike


class VideoWriter:
    """An MP4 file in the making: H.264, 4:2:0, or MPEG-4 where there is no encoder for it.

    Colors are stored for blocks of 2×2 pixels, so an odd side becomes one pixel longer by repeating the edge: the
    formats without that limit are not played by every browser.

    Args:
        path: the file, ending in ``.mp4``.
        size: height and width of the images.
        time_base: seconds of one unit of the images' times.
        rate: frames a second on average; the times decide, this is what the file announces.
        pixel_aspect: width over height of a pixel.
        sound_of: a file whose sound goes with the images.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        *,
        time_base: Fraction,
        rate: Fraction,
        pixel_aspect: Fraction = Fraction(1),
        sound_of: Path | None = None,
    ) -> None:
        self.size = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        encoder = _choose_encoder()
        # MPEG-4 video counts time in at most 65535 units a second.
        fine = encoder != "mpeg4" or time_base.denominator < 1 << 16
        self._unit = time_base if fine else Fraction(1, 60_000)
        self._scale, self._last = time_base / self._unit, -1
        # Without the second option a file that does not start at 0 would start at a whole millisecond.
        options = {"movflags": "+faststart", "movie_timescale": str(min(self._unit.denominator, 1 << 30))}
        self._container = av.open(f"file:{path}", "w", format="mp4", options=options)
        stream = self._container.add_stream(encoder, rate=rate, options=_ENCODERS[encoder])
        assert isinstance(stream, VideoStream)
        self._stream = stream
        stream.height, stream.width = self.size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        stream.time_base = context.time_base = self._unit
        context.sample_aspect_ratio = pixel_aspect
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = ColorRange.MPEG
        self._sound = [] if sound_of is None else open_sound(sound_of, self._container)

    def add(self, image: UInt8[np.ndarray, "h w 3"], pts: int, duration: int = 0) -> None:
        """Adds an image.

        Args:
            image: RGB; one of another size is scaled.
            pts: when it is shown, in units of the time base; later than the one before.
            duration: how long, 0 if unknown.
        """
        height, width = self.size
        if image.shape[:2] != self.size:
            image = _fit(image, self.size)
        frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(
            width, height, "yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        self._last = max(round(pts * self._scale), self._last + 1)
        frame.pts, frame.time_base = self._last, self._unit
        frame.duration = round(duration * self._scale)
        self._container.mux(self._stream.encode(frame))
        end = float((self._last + frame.duration) * self._unit)
        for track in self._sound:
            track.copy_until(end)

    def close(self) -> None:
        """Ends the file; from here on it can be played."""
        self._container.mux(self._stream.encode(None))
        self.abandon()

    def abandon(self) -> None:
        """Closes files without a care for what was written."""
        for track in self._sound:
            track.close()
        self._container.close()


@contextmanager
def writing_video(
    path: str | os.PathLike[str],
    size: tuple[int, int],
    *,
    time_base: Fraction,
    rate: Fraction,
    pixel_aspect: Fraction = Fraction(1),
    sound_of: Path | None = None,
) -> Iterator[VideoWriter]:
    """Writes a video that appears under its name when it is whole; see ``VideoWriter``.

    Raises:
        InputError: it cannot be written.
    """
    path = Path(path)
    with replacing(path) as temporary:
        try:
            writer = VideoWriter(
                temporary,
                size,
                time_base=time_base,
                rate=rate,
                pixel_aspect=pixel_aspect,
                sound_of=sound_of,
            )
            try:
                yield writer
                writer.close()
            except BaseException:
                writer.abandon()
                raise
        except av.FFmpegError as error:
            if isinstance(error, OSError):  # a full disk and its like
                raise
            raise InputError(f"{path}: cannot be written as a video ({error.strerror})") from error


def _choose_encoder() -> str:
    for name in _ENCODERS:
        try:
            av.Codec(name, "w")
        except (av.FFmpegError, ValueError):
            continue
        return name
    raise InputError("this build of PyAV has no encoder for H.264 or MPEG-4; install it with pip install av")


def _fit(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Makes odd sides even; scales what has another size altogether."""
    below, right = size[0] - image.shape[0], size[1] - image.shape[1]
    if below in (0, 1) and right in (0, 1):
        return np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge")
    scaled = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(scaled, dtype=np.uint8)
