"""Video writing: encodes RGB images as an MP4 file that browsers can play, and adds the sound of another file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from jaxtyping import UInt8

from iccld.errors import InputError
from iccld.files import AnyPath, replacing
from iccld.inference.video_source import SteadyClock, container_start, open_file

T = TypeVar("T")

_ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "18", "preset": "veryfast"},
    "libopenh264": {"b": "8000000"},
}
"""FFmpeg's H.264 encoders with their options. The first encoder that the installed build of FFmpeg contains is used."""
_BT709 = 1  # code of BT.709 in ITU-T H.273 for matrix, primaries and transfer
_COPIED = ("aac", "mp3", "opus", "flac")
"""Audio codecs that browsers play in MP4. Audio in another codec is encoded as AAC, in mono or stereo."""
_SAMPLES = 1024  # audio samples per AAC frame
_AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000)


class VideoWriter:
    """A writer of one MP4 file with H.264 video and the sound of the file ``sound_of``.

    All browsers support the used pixel format (4:2:0). In this format, colors are stored for blocks of 2×2 pixels.
    Therefore, an odd height or width of the video is increased by one pixel. ``size`` is the height and width of the
    images. ``time_base`` is the unit of timestamps in seconds. ``rate``, in frames per second, is only metadata.
    ``pixel_aspect`` is the width of a pixel divided by its height. The MP4 file is closed when ``files`` is closed.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        files: ExitStack,
        *,
        time_base: Fraction,
        rate: Fraction,
        pixel_aspect: Fraction = Fraction(1),
        sound_of: Path | None = None,
    ) -> None:
        self.size = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        encoder = _choose_encoder()
        self._unit, self._last = time_base, -1
        # Without ``movie_timescale``, a start time other than 0 would be rounded to milliseconds.
        options = {"movflags": "+faststart", "movie_timescale": str(min(self._unit.denominator, 1 << 30))}
        self._container = files.enter_context(av.open(f"file:{path}", "w", format="mp4", options=options))
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
        self._sound = [] if sound_of is None else open_sound(sound_of, self._container, files)

    def add(self, image: UInt8[np.ndarray, "h w 3"], pts: int, duration: int = 0) -> None:
        """Adds an RGB image.

        If the image is one pixel smaller than the video in height or width, the last row or column is repeated. An
        image of another size is scaled to the size of the video. The timestamp ``pts`` and the display time
        ``duration`` are in units of the time base. If ``pts`` is not later than the previous timestamp, the frame gets
        the next possible timestamp. A duration of 0 means that the display time is unknown.
        """
        height, width = self.size
        below, right = height - image.shape[0], width - image.shape[1]
        if below in (0, 1) and right in (0, 1):
            image = np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge")
        else:
            image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(
            width, height, "yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        self._last = max(pts, self._last + 1)
        frame.pts, frame.time_base, frame.duration = self._last, self._unit, duration
        self._container.mux(self._stream.encode(frame))
        end = float((self._last + frame.duration) * self._unit)
        for track in self._sound:
            track.copy_until(end)

    def finish(self) -> None:
        """Writes the frames that are still buffered in the encoder."""
        self._container.mux(self._stream.encode(None))


@contextmanager
def writing_video(path: AnyPath, size: tuple[int, int], **announced: Any) -> Iterator[VideoWriter]:
    """Yields a ``VideoWriter`` with the given arguments. The MP4 file appears at ``path`` only when it is complete."""
    path = Path(path)
    with replacing(path) as temporary:
        try:
            with ExitStack() as files:
                writer = VideoWriter(temporary, size, files, **announced)
                yield writer
                writer.finish()
        except av.FFmpegError as error:
            if isinstance(error, OSError):  # for example a full disk
                raise
            raise InputError(f"{path}: cannot be written as a video ({error.strerror})") from error


def _choose_encoder() -> str:
    for name in _ENCODERS:
        try:
            return av.Codec(name, "w").name
        except (av.FFmpegError, ValueError):
            continue
    raise InputError("this build of PyAV has no encoder for H.264; install it with pip install av")


class _SoundTrack:
    """A copy of one audio track of ``source`` as a new stream of ``output``. ``index`` selects the track."""

    def __init__(self, source: InputContainer, index: int, output: OutputContainer) -> None:
        self._input, self._output = source, output
        stream = source.streams.audio[index]
        assert stream.time_base is not None
        self._start = container_start(self._input, stream.time_base)
        self._out: AudioStream
        if stream.codec_context.name in _COPIED:
            self._out = output.add_stream_from_template(stream)
            self._packets = self._copied(stream)
        else:
            rate = stream.rate if stream.rate in _AAC_RATES else 48_000
            layout = "mono" if stream.codec_context.channels == 1 else "stereo"
            self._out = output.add_stream("aac", rate=rate, layout=layout)
            self._packets = self._encoded(stream)
        self._next = next(self._packets, None)

    def copy_until(self, seconds: float) -> None:
        while self._next is not None:
            packet = self._next
            if packet.dts is not None and packet.dts * packet.time_base >= seconds:
                return
            try:
                self._output.mux(packet)
                self._next = next(self._packets, None)
            except av.FFmpegError as error:
                if isinstance(error, OSError):  # for example a full disk
                    raise
                self._next = None  # audio that cannot be written ends the track, but not the video

    def _copied(self, stream: AudioStream) -> Iterator[Any]:
        clock = SteadyClock()
        for packet in _until_damaged(self._input.demux(stream)):
            if packet.dts is None or packet.pts is None:  # for example the last packet, which is empty
                continue
            dts = clock.steady(packet.dts - self._start, packet.duration or 0)
            packet.pts += dts - packet.dts
            packet.dts = dts
            packet.stream = self._out
            yield packet

    def _encoded(self, stream: AudioStream) -> Iterator[Any]:
        context = self._out.codec_context
        resampler: av.AudioResampler | None = None
        clock = SteadyClock()
        for frame in _until_damaged(self._input.decode(stream)):
            if frame.pts is not None:
                frame.pts = clock.steady(frame.pts - self._start, frame.duration or 0)
            resampler = resampler or av.AudioResampler(context.format, context.layout, context.rate, _SAMPLES)
            for piece in resampler.resample(frame):
                yield from self._out.encode(piece)
        if resampler is not None:
            for piece in resampler.resample(None):
                yield from self._out.encode(piece)
            yield from self._out.encode(None)


def open_sound(path: Path, output: OutputContainer, files: ExitStack) -> list[_SoundTrack]:
    """Prepares all audio tracks of a file for copying to ``output``. The file is closed when ``files`` is closed."""
    with open_file(path) as container:
        tracks = container.streams.audio
        # If FFmpeg has no decoder for a track, the codec context is missing, and the track is skipped.
        usable = [i for i, stream in enumerate(tracks) if getattr(stream.codec_context, "name", None)]
    # Each track has a separate reader because the tracks are read at different speeds.
    return [_SoundTrack(files.enter_context(open_file(path)), index, output) for index in usable]


def _until_damaged(items: Iterator[T]) -> Iterator[T]:
    """Yields the items before the first decoding error, so that damaged sound does not end the video."""
    try:
        yield from items
    except av.FFmpegError:
        return
