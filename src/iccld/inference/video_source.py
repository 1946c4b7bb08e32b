"""Video reading: yields frames of files, streams and cameras as upright RGB images with timestamps.

FFmpeg would interpret file names such as ``concat:…``, ``http:…`` or ``pipe:0`` as URLs. Therefore, Python opens a file
and passes the file object to FFmpeg. Formats and protocols are restricted, so that a video file cannot refer to other
files, and a stream cannot refer to files of this computer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.container import InputContainer
from jaxtyping import UInt8

from iccld.data.inputs import InputVideo
from iccld.errors import InputError
from iccld.files import open_regular, printable

MOST_PIXELS = 1 << 26
"""Maximum number of pixels of a decoded frame, for instance 8192 × 8192."""
SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "srt", "udp", "rtp", "tcp", "mmsh", "mmst")
"""URL schemes of streams that can be opened."""

# Allowed formats of files and allowed protocols of streams, by their names in FFmpeg.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,asf,asf_o,flv,live_flv,ogg"
_PROTOCOLS = ",".join((*SCHEMES, "tls,crypto,httpproxy,srtp,rtmpt,rtmpts,rtmpe,ffrtmphttp"))
_SILENCE = 10.0  # seconds without received data before a stream is aborted
_LONGEST = 100_000_000  # maximum distance of a timestamp from the start in seconds
_CLOCK = Fraction(1, 90_000)  # time base in seconds of sources without timestamps, such as cameras


@contextmanager
def open_file(path: Path) -> Iterator[InputContainer]:
    """Opens a video file. Raises ``InputError`` if ``path`` is not a regular file or the format is not supported."""
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
    with open_regular(path) as file:
        try:
            # Invalid UTF-8 in metadata is replaced instead of raising an error, because metadata is not used.
            container = av.open(file, "r", options=options, metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:  # an OSError comes from the file object
            problem = f"cannot be opened as a video ({error.strerror})"
            raise InputError(f"{printable(str(path))}: {problem}; name another file") from error
        with container:
            yield container


def _open_address(address: str, title: str) -> InputContainer:
    """Opens a stream URL. If it is no readable video, raises ``InputError``, whose message contains ``title``."""
    scheme = address.lower().partition("://")[0]
    if scheme not in SCHEMES:
        raise InputError(f"{title}: is no address of a stream; give a path, or one of {', '.join(SCHEMES)}")
    options = {"protocol_whitelist": _PROTOCOLS}
    if scheme.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"
    try:
        return av.open(address, "r", options=options, timeout=_SILENCE, metadata_errors="replace")
    except av.FFmpegError as error:
        problem = f"cannot be opened as a video ({error.strerror})"
        raise InputError(f"{title}: {problem}; see that the address is right and answers") from error


def container_start(container: InputContainer, time_base: Fraction) -> int:
    """Returns the earliest start time of a file's streams in units of ``time_base``. A negative time becomes 0."""
    return int(Fraction(max(0, container.start_time or 0), av.time_base) / time_base)


class SteadyClock:
    """A correction that makes timestamps always increase, even if recordings were joined or a sender restarted."""

    def __init__(self) -> None:
        self._offset = 0
        self._last: int | None = None

    def steady(self, time: int, duration: int) -> int:
        """Returns the corrected timestamp, which is later than the previous one.

        ``duration`` is the display time of the frame or packet. If ``time`` is earlier than the previous timestamp by
        more than ``duration``, a restart is assumed, and all following timestamps are shifted by the same amount.
        """
        time += self._offset
        if self._last is not None and time <= self._last:
            starts_over = self._last - time > duration
            due = self._last + (max(1, duration) if starts_over else 1)
            if starts_over:
                self._offset += due - time
            time = due
        self._last = time
        return time


@dataclass(frozen=True)
class Frame:
    """An upright RGB frame. Its timestamp ``pts`` and display time ``duration`` are in units of the source's time base.

    Timestamps increase from frame to frame. If the duration is unknown, ``duration`` is 0.
    """

    image: UInt8[np.ndarray, "h w 3"]
    pts: int
    duration: int


class VideoSource:
    """Base class of opened videos.

    ``time_base`` is the unit of timestamps in seconds. ``rate`` is the average number of frames per second. If the
    average is unknown, ``rate`` is an estimate. ``num_frames`` is the expected number of frames, or ``None`` if the
    number is unknown. ``pixel_aspect`` is the width of a pixel divided by its height and is valid after the first
    frame. If ``live`` is true, the source delivers frames in real time, even if the reader is not ready. After the last
    frame, ``problem`` describes errors, and ``num_damaged`` is the number of frames that could not be decoded.
    """

    time_base: Fraction = _CLOCK
    rate: Fraction
    num_frames: int | None = None
    pixel_aspect: Fraction = Fraction(1)
    live: bool = True
    problem: str | None = None
    num_damaged: int = 0

    @property
    def announced(self) -> dict[str, Fraction]:
        """Keyword arguments for ``writing_video``: timing and pixel aspect ratio of this source."""
        return {"time_base": self.time_base, "rate": self.rate, "pixel_aspect": self.pixel_aspect}

    def frames(self) -> Iterator[Frame]:
        """Yields the frames. Must be called only once."""
        raise NotImplementedError

    def close(self) -> None:
        """Closes the file or releases the device."""
        raise NotImplementedError


def open_video(video: InputVideo) -> VideoSource:
    """Opens a video. Raises ``InputError`` if the video does not exist, cannot be read or has no video stream."""
    return Container(video) if video.camera is None else Camera(video.camera)


class Container(VideoSource):
    """A video file or stream that FFmpeg decodes. Timestamps are relative to the start of the video.

    ``size`` is the height and width in pixels before rotation, as declared in the header. Unknown sizes are 0.
    """

    def __init__(self, video: InputVideo) -> None:
        self._video = video
        with ExitStack() as files:
            if video.is_file:
                self._container = files.enter_context(open_file(video.path))
            else:
                self._container = files.enter_context(_open_address(video.source, video.title))
            if not self._container.streams.video:
                raise InputError(f"{video.title}: holds no video; name another file")
            self._stream = stream = self._container.streams.video[0]
            # The codec context is missing if FFmpeg has no decoder.
            if getattr(stream.codec_context, "name", None) is None:
                raise InputError(f"{video.title}: has a codec that cannot be decoded; name another file")
            self.size = (stream.codec_context.height, stream.codec_context.width)
            if self.size[0] * self.size[1] > MOST_PIXELS:
                what = f"frames of {self.size[1]}×{self.size[0]} pixels, more than can be read safely"
                raise InputError(f"{video.title}: has {what} ({MOST_PIXELS:,}); make it smaller")
            # The limit is also set in the decoder, because frames can be larger than the header declares.
            stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
            stream.thread_type = "AUTO"
            self._files = files.pop_all()
        self.time_base = stream.time_base or _CLOCK
        rates = (rate for rate in (stream.average_rate, stream.guessed_rate) if rate)
        self.rate = next((rate for rate in rates if Fraction(1, 1000) <= rate <= 1000), Fraction(25))
        self.pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        self._seconds: float | None = None
        if stream.duration is not None:
            self._seconds = float(stream.duration * self.time_base)
        elif self._container.duration is not None:
            self._seconds = self._container.duration / av.time_base
        known = stream.frames or (None if self._seconds is None else round(self._seconds * self.rate))
        self.num_frames = known or None
        self.live = self._seconds is None and not video.is_file
        self._start = None if self.live else container_start(self._container, self.time_base)

    def frames(self) -> Iterator[Frame]:
        """Yields the frames that can be decoded. Raises ``InputError`` at the end if no frame can be decoded."""
        size: tuple[int, int] | None = None
        last, duration, count = None, round(1 / (self.rate * self.time_base)), 0
        longest = int(_LONGEST / self.time_base)
        clock, due = SteadyClock(), self._start or 0
        for frame in self._decoded():
            turns = round(frame.rotation / 90) % 4  # counterclockwise; phones store the rotation as metadata
            if size is None:
                size = (frame.width, frame.height)
                if turns % 2:
                    self.pixel_aspect = 1 / self.pixel_aspect
            pts = due if frame.pts is None else frame.pts
            due = pts + duration
            if self._start is None:  # a live stream can start at any timestamp
                self._start = pts
            # A timestamp that is years away from the start is treated as damaged and replaced.
            pts = pts - self._start if abs(pts - self._start) <= longest else (last or 0) + duration
            pts = clock.steady(pts, duration)
            # Frames are scaled to the size of the first frame, because the size cannot change within a written file.
            image = frame.reformat(*size, format="rgb24").to_ndarray()
            last, count = pts, count + 1
            yield Frame(np.ascontiguousarray(np.rot90(image, turns)), pts, frame.duration or 0)
        if last is None:
            raise InputError(self.problem or f"{self._video.title}: holds no frame; name another file")
        self._notice_missing(count, last + duration)

    def close(self) -> None:
        """Closes the file or connection."""
        self._files.close()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except av.EOFError:
                    break
                except av.FFmpegError:
                    self.num_damaged += 1
                    continue
                for frame in frames:
                    if frame.is_corrupt:  # the decoder concealed an error
                        self.num_damaged += 1
                    else:
                        yield frame
        except (av.FFmpegError, OSError) as error:
            self._note(f"cannot be read to its end ({error.strerror})")
        if self.num_damaged:
            lost, verb = ("frame", "is") if self.num_damaged == 1 else ("frames", "are")
            self._note(f"{self.num_damaged} {lost} could not be decoded and {verb} left out")

    def _notice_missing(self, count: int, end: int) -> None:
        """Adds a message to ``problem`` if a file has fewer frames and a shorter duration than its header declares."""
        # Fewer frames alone are not an error, because edited files can declare more frames than they show.
        seconds, declared = self._seconds, self._stream.frames
        if self.live or seconds is None or (declared and count >= declared):
            return
        begin = (self._stream.start_time or 0) - (self._start or 0)
        if (end - begin) * self.time_base < seconds - max(2 / float(self.rate), 0.01 * seconds):
            self._note(f"ends after {count} frames, {float(end * self.time_base):.1f} of {seconds:.1f} s")

    def _note(self, text: str) -> None:
        self.problem = f"{self.problem}, {text}" if self.problem else f"{self._video.title}: {text}"


class Camera(VideoSource):
    """A camera of this computer. Raises ``InputError`` if the camera does not exist or is in use."""

    def __init__(self, index: int) -> None:
        log: Any = cv2.utils.logging
        level = log.getLogLevel()
        log.setLogLevel(log.LOG_LEVEL_SILENT)  # a failure is reported by the error below
        try:
            self._capture = cv2.VideoCapture(index)
        finally:
            log.setLogLevel(level)
        self._title = f"camera:{index}"
        if not self._capture.isOpened():
            problem = "no such camera, or another program uses it"
            raise InputError(f"{self._title}: {problem}; plug it in, or free it")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(rate).limit_denominator(1001) if 1 <= rate <= 1000 else Fraction(30)

    def frames(self) -> Iterator[Frame]:
        """Yields frames until the camera delivers no more frames.

        A timestamp is the time between the arrival of the first frame and the arrival of the frame.
        """
        start, last = None, -1
        while True:
            ok, picture = self._capture.read()
            now = time.monotonic()
            if not ok:
                break
            start = now if start is None else start
            last = max(round((now - start) / self.time_base), last + 1)
            image = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)
            yield Frame(image, last, 0)
        if start is None:
            raise InputError(f"{self._title}: gives no picture; see that no other program uses it")
        self.problem = f"{self._title}: gives no more pictures"

    def close(self) -> None:
        """Releases the camera."""
        self._capture.release()
