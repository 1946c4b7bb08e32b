"""Opening files and streams with FFmpeg, which is told what it may read: it has far more formats than are needed.

A file is opened here and handed over, so that FFmpeg never interprets its name (``concat:…``, ``http:…``, ``pipe:0``),
and a container may not refer to other files. Streams may not refer to files of this computer.
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
"""Kinds of addresses that are opened."""

# As FFmpeg names them.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,asf,asf_o,flv,live_flv,ogg"
_PROTOCOLS = ",".join(
    (*SCHEMES, "tls", "crypto", "httpproxy", "srtp", "rtmpt", "rtmpts", "rtmpe", "ffrtmphttp")
)
_TIMEOUT = 10.0  # seconds that a stream may be silent


@contextmanager
def open_file(path: Path) -> Iterator[InputContainer]:
    """Opens a video file; ``InputError`` if it is no regular file, or none of the containers that are read."""
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
    with open_regular(path) as file:
        try:
            # Titles and their like, which we do not read, may be no UTF-8.
            container = av.open(file, "r", options=options, metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:  # the file's own errors come through FFmpeg as they are
            raise InputError(
                f"{printable(str(path))}: cannot be opened as a video ({error.strerror}); name another file"
            ) from error
        with container:
            yield container


@contextmanager
def open_address(address: str, title: str) -> Iterator[InputContainer]:
    """Opens a stream, which messages call ``title``; ``InputError`` if it does not answer, or with no video."""
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
    """Makes times rise that do not: where recordings were joined or a sender began anew, they start over."""

    def __init__(self) -> None:
        self._offset = 0
        self._last: int | None = None

    def steady(self, time: int, duration: int) -> int:
        """The next time, later than the one before; one that falls behind it by more than ``duration`` starts over."""
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
    """When a file's first stream starts, in units of a time base; not before 0."""
    start = max(0, container.start_time or 0)
    return int(Fraction(start, av.time_base) / time_base)
