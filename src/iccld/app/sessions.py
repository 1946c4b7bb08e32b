"""What belongs to one open page: its file, kept apart from every other page and removed with it, and its answers."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from iccld.app.answers import Answers
from iccld.app.uploads import Upload, safe_name, suffix_of
from iccld.errors import InputError

IDLE_SECONDS = 600
"""An open page tells of itself twice a minute; one that is silent for so long is gone."""
_GIVES_WAY_SECONDS = 120  # a silent page, when there are too many


class FullError(InputError):
    """There is no room for another page or another file."""


@dataclass(eq=False)
class Session:
    """What one open page has: at most one upload, the answers to it, or the clips made of it.

    Whoever knows the token is this page. Its folder holds its files and nothing else. Each clip has the file name to
    save it under. ``seen`` is when it last asked for something, ``working`` counts predictions that wait or run, and
    work stops once it has ``ended``.
    """

    token: str
    folder: Path
    upload: Upload | None = None
    answers: Answers | None = None
    clips: tuple[tuple[Path, str], ...] = ()
    seen: float = 0.0
    working: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def forget(self) -> None:
        """Removes what was made of the upload."""
        clips, self.answers, self.clips = self.clips, None, ()
        for path, _ in clips:
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes everything that the session has, and leaves it open."""
        self.forget()
        self.upload = None
        for path in self.folder.glob("*"):
            path.unlink(missing_ok=True)


@dataclass
class Sessions:
    """All open pages, and the limits on what they take together, in ``root``, an empty folder that is nobody else's.

    ``max_upload_bytes`` is of one file, ``max_disk_bytes`` of all files and ``max_answer_bytes`` of the memory of all
    answers.
    """

    root: Path
    max_upload_bytes: int
    max_disk_bytes: int
    max_answer_bytes: int = 2**30
    max_sessions: int = 32
    clock: Callable[[], float] = time.monotonic
    _open: dict[str, Session] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._open)

    def begin(self) -> Session:
        """Opens a session, or raises ``FullError`` if too many are open."""
        self.sweep()
        if len(self) >= self.max_sessions:
            self.sweep(_GIVES_WAY_SECONDS)
        if len(self) >= self.max_sessions:
            raise FullError(f"{self.max_sessions} pages are open already; close one, or try again later")
        token = secrets.token_urlsafe(24)
        session = Session(token, self.root / secrets.token_hex(8), seen=self.clock())
        session.folder.mkdir(mode=0o700)
        self._open[token] = session
        return session

    def find(self, token: str) -> Session | None:
        """The session of a token, which is alive by that; None if there is none."""
        session = self._open.get(token)
        if session is not None:
            session.seen = self.clock()
        return session

    def end(self, session: Session) -> None:
        """Removes a session and everything of it."""
        self._open.pop(session.token, None)
        session.ended.set()
        session.answers = None
        shutil.rmtree(session.folder, ignore_errors=True)

    def sweep(self, idle_seconds: float = IDLE_SECONDS) -> None:
        """Ends the sessions that were silent for so long and wait for nothing."""
        latest = self.clock() - idle_seconds
        for session in list(self._open.values()):
            if session.seen <= latest and not session.working:
                self.end(session)

    def keep(self, session: Session, answers: Answers) -> None:
        """Keeps the answers of a session; those of pages that were silent longest make room for them."""
        session.answers = answers
        kept = [(s, a.num_bytes) for s in list(self._open.values()) if (a := s.answers) is not None]
        total = sum(size for _, size in kept)
        for other, size in sorted(kept, key=lambda pair: pair[0].seen):
            if total > self.max_answer_bytes and other is not session:
                other.answers = None
                total -= size

    @contextmanager
    def receive(self, session: Session, name: str) -> Iterator[Callable[[bytes], None]]:
        """Takes a file in place of everything that a session has; gives a function that takes the next part.

        Leaving the ``with`` block by an error removes the file.

        Raises:
            InputError: the name is that of no image and no video.
            FullError: the file, or all files together, would be too large.
        """
        name = safe_name(name)
        upload = Upload(session.folder / f"{secrets.token_hex(8)}{suffix_of(name)}", name)
        session.clear()
        room, received = self.room(), 0

        def write(part: bytes) -> None:
            nonlocal received
            received += len(part)
            if received > self.max_upload_bytes:
                most = self.max_upload_bytes / 2**20
                raise FullError(f"{name}: is larger than the {most:g} MiB that are taken here")
            if received > room:
                raise FullError(f"{name}: there is no room for it; try again in some minutes")
            try:
                file.write(part)
            except OSError as error:
                raise FullError(f"{name}: could not be stored ({error.strerror})") from error

        try:
            with open(upload.path, "xb") as file:
                yield write
            session.upload = upload
        finally:
            if session.upload is not upload or session.ended.is_set():
                upload.path.unlink(missing_ok=True)

    def room(self) -> int:
        """Bytes that may still be written."""
        room = self.max_disk_bytes
        for path in self.root.glob("*/*"):
            with suppress(FileNotFoundError):  # removed meanwhile
                room -= path.stat().st_size
        return room
