"""The sound of a video, copied into the videos that are made of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from iccld.inference.video_input import open_file
from iccld.inference.video_source import SteadyClock, container_start

T = TypeVar("T")

_COPIED = frozenset(("aac", "mp3", "opus", "flac"))
"""Codecs that browsers play in MP4; others are encoded anew as AAC, in mono or stereo."""
_SAMPLES = 1024  # that AAC takes at a time
_AAC_RATES = frozenset(
    (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000)
)


class SoundTrack:
    """One track of sound on its way from a file to another.

    Args:
        path: the file that it comes from.
        index: which of its tracks.
        output: where it goes; a stream is added.
    """

    def __init__(self, path: Path, index: int, output: OutputContainer) -> None:
        self._files = ExitStack()
        self._input: InputContainer = self._files.enter_context(open_file(path))
        self._output = output
        stream = self._input.streams.audio[index]
        assert stream.time_base is not None
        self._time_base: Fraction = stream.time_base
        self._start = container_start(self._input, self._time_base)
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
        """Copies what is heard before that time. Sound that the file cannot take ends; the pictures go on.

        Raises:
            OSError: the disk is full, or its like.
        """
        while self._next is not None:
            packet = self._next
            if packet.dts is not None and packet.dts * packet.time_base >= seconds:
                return
            try:
                self._output.mux(packet)
                self._next = next(self._packets, None)
            except av.FFmpegError as error:
                if isinstance(error, OSError):
                    raise
                self._next = None

    def close(self) -> None:
        """Closes the file that it comes from."""
        self._files.close()

    def _copied(self, stream: AudioStream) -> Iterator[Any]:
        clock = SteadyClock()
        for packet in _until_damaged(self._input.demux(stream)):
            if packet.dts is None or packet.pts is None:  # the empty one at the end
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


def open_sound(path: Path, output: OutputContainer) -> list[SoundTrack]:
    """Prepares all tracks of sound of a file to be copied."""
    with open_file(path) as container:
        tracks = container.streams.audio
        # There is no context where FFmpeg has no decoder.
        usable = [i for i, stream in enumerate(tracks) if getattr(stream.codec_context, "name", None)]
    return [SoundTrack(path, index, output) for index in usable]


def _until_damaged(items: Iterator[T]) -> Iterator[T]:
    """Sound that cannot be read ends; that is no reason to lose the pictures."""
    try:
        yield from items
    except av.FFmpegError:
        return
