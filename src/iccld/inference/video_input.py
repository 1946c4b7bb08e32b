"""Opening of video files and streams with FFmpeg, restricted to the formats and protocols that are needed.

FFmpeg would interpret file names such as ``concat:…``, ``http:…`` or ``pipe:0`` as URLs. Therefore, Python opens a file
and passes the file object to FFmpeg. The protocols are restricted, so that a video file cannot refer to other files,
and a stream cannot refer to files of this computer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer

from iccld.errors import InputError
from iccld.files import open_regular, printable

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "srt", "udp", "rtp", "tcp", "mmsh", "mmst")
"""URL schemes of streams that can be opened."""

# Allowed formats of files and allowed protocols of streams, by their names in FFmpeg.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,asf,asf_o,flv,live_flv,ogg"
_PROTOCOLS = ",".join(
    (*SCHEMES, "tls", "crypto", "httpproxy", "srtp", "rtmpt", "rtmpts", "rtmpe", "ffrtmphttp")
)
_TIMEOUT = 10.0  # seconds without received data before a stream is aborted


@contextmanager
def open_file(path: Path) -> Iterator[InputContainer]:
    """Opens a video file. Raises ``InputError`` if the file is not regular or has an unsupported format."""
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
    with open_regular(path) as file:
        try:
            # Invalid UTF-8 in metadata is replaced instead of raising an error, because metadata is not used.
            container = av.open(file, "r", options=options, metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:  # an OSError comes from the file object
            raise InputError(
                f"{printable(str(path))}: cannot be opened as a video ({error.strerror}); name another file"
            ) from error
        with container:
            yield container


@contextmanager
def open_address(address: str, title: str) -> Iterator[InputContainer]:
    """Opens a stream URL, named ``title`` in messages. Raises ``InputError`` if the stream is not a readable video."""
    scheme = address.lower().partition("://")[0]
    if scheme not in SCHEMES:
        raise InputError(f"{title}: is no address of a stream; give a path, or one of {', '.join(SCHEMES)}")
    options = {"protocol_whitelist": _PROTOCOLS}
    if scheme.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"
    try:
        container = av.open(address, "r", options=options, timeout=_TIMEOUT, metadata_errors="replace")
    except av.FFmpegError as error:
        raise InputError(
            f"{title}: cannot be opened as a video ({error.strerror}); see that the address is right and answers"
        ) from error
    with container:
        yield container


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


def container_start(container: InputContainer, time_base: Fraction) -> int:
    """Returns the earliest start time of a file's streams in units of ``time_base``. A negative time becomes 0."""
    start = max(0, container.start_time or 0)
    return int(Fraction(start, av.time_base) / time_base)
