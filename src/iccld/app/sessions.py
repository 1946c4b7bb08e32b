"""What belongs to one open page, kept apart from every other page, and removed with it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from iccld.app.uploads import Upload, safe_name, suffix_of
from iccld.errors import InputError

MAX_SESSIONS = 32
IDLE_SECONDS = 600
"""An open page tells of itself twice a minute; one that is silent for so long is gone."""
_GIVES_WAY_SECONDS = 120  # a silent page, when there are too many


class FullError(InputError):
    """There is no room for another page or another file."""


@dataclass(eq=False)
class Session:
    """What one open page has: at most one upload, the answers to it, or the clips made of it.

    Attributes:
        token: 192 random bits; whoever knows them is this page.
        folder: that holds its files and nothing else.
        upload: the newest file.
        answers: key of the answers in the store.
        clips: overlays of a video, one for each model, and the file name to save each under.
        seen: when it last asked for something, by ``time.monotonic``.
        working: predictions that wait or run.
        ended: set when everything here is removed; work for it stops.
    """

    token: str
    folder: Path
    upload: Upload | None = None
    answers: str | None = None
    clips: tuple[tuple[Path, str], ...] = ()
    seen: float = 0.0
    working: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def size(self) -> int:
        """Bytes of its files."""
        total = 0
        with contextlib.suppress(FileNotFoundError):  # removed while we count
            for entry in os.scandir(self.folder):
                total += entry.stat(follow_symlinks=False).st_size
        return total


class Sessions:
    """All open pages, and the limits on what they take together.

    Args:
        root: an empty folder that is nobody else's.
        forget: drops the answers of a key.
        max_upload_bytes: of one file.
        max_disk_bytes: of all files of all pages.
        max_sessions: pages at a time.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        root: Path,
        forget: Callable[[str | None], None],
        *,
        max_upload_bytes: int,
        max_disk_bytes: int,
        max_sessions: int = MAX_SESSIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._forget, self._clock = root, forget, clock
        self.max_upload_bytes, self.max_disk_bytes, self.max_sessions = (
            max_upload_bytes,
            max_disk_bytes,
            max_sessions,
        )
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def begin(self) -> Session:
        """Opens a session.

        Raises:
            FullError: too many are open.
        """
        self.sweep()
        if len(self._open) >= self.max_sessions:
            self.sweep(_GIVES_WAY_SECONDS)
        with self._lock:
            if len(self._open) >= self.max_sessions:
                raise FullError(
                    f"{self.max_sessions} pages are open already; close one, or try again in some minutes"
                )
            token = secrets.token_urlsafe(24)
            session = Session(token, self._root / secrets.token_hex(8), seen=self._clock())
            session.folder.mkdir(mode=0o700)
            self._open[token] = session
        return session

    def find(self, token: str) -> Session | None:
        """The session of a token, which is alive by that; None if there is none."""
        with self._lock:
            session = self._open.get(token)
            if session is not None:
                session.seen = self._clock()
            return session

    def end(self, session: Session) -> None:
        """Removes a session and everything of it."""
        with self._lock:
            self._open.pop(session.token, None)
        session.ended.set()
        self._forget(session.answers)
        shutil.rmtree(session.folder, ignore_errors=True)

    def sweep(self, idle_seconds: float = IDLE_SECONDS) -> None:
        """Ends the sessions that were silent for so long and wait for nothing."""
        with self._lock:
            latest = self._clock() - idle_seconds
            silent = [s for s in self._open.values() if s.seen <= latest and not s.working]
        for session in silent:
            self.end(session)

    def end_all(self) -> None:
        """Ends every session."""
        for session in list(self._open.values()):
            self.end(session)

    def clear(self, session: Session) -> None:
        """Removes what a session has, and leaves it open."""
        self._forget(session.answers)
        session.answers, session.clips, session.upload = None, (), None
        for path in session.folder.glob("*"):
            path.unlink(missing_ok=True)

    def receive(self, session: Session, name: str) -> Receiving:
        """Begins to take a file, in place of everything that the session has.

        Args:
            session: whose file it is.
            name: what the visitor calls it.

        Raises:
            InputError: the name is that of no image and no video.
        """
        name = safe_name(name)
        path = session.folder / f"{secrets.token_hex(8)}{suffix_of(name)}"
        self.clear(session)
        return Receiving(self, session, Upload(path, session.folder, name))

    def room(self) -> int:
        """Bytes that may still be written."""
        with self._lock:
            sessions = list(self._open.values())
        return self.max_disk_bytes - sum(session.size() for session in sessions)


class Receiving:
    """A file on its way: the limits hold for what arrives, whatever was announced.

    Leaving the ``with`` block without ``done`` removes it.
    """

    def __init__(self, sessions: Sessions, session: Session, upload: Upload) -> None:
        self._sessions, self._session, self._upload = sessions, session, upload
        self._received, self._room = 0, sessions.room()

    def __enter__(self) -> Receiving:
        self._file: BinaryIO = open(self._upload.path, "xb")
        return self

    def write(self, chunk: bytes) -> None:
        """Takes a part of the file.

        Raises:
            FullError: the file, or all files together, would be too large.
        """
        self._received += len(chunk)
        if self._received > self._sessions.max_upload_bytes:
            most = self._sessions.max_upload_bytes / 2**20
            raise FullError(f"{self._upload.name}: is larger than the {most:g} MiB that are taken here")
        if self._received > self._room:
            raise FullError(f"{self._upload.name}: there is no room for it; try again in some minutes")
        try:
            self._file.write(chunk)
        except OSError as error:
            raise FullError(f"{self._upload.name}: could not be stored ({error.strerror})") from error

    def done(self) -> Upload:
        """The whole file is there: it becomes the upload of the session."""
        self._file.close()
        self._session.upload = self._upload
        return self._upload

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._session.upload is not self._upload or self._session.ended.is_set():
            self._upload.path.unlink(missing_ok=True)
