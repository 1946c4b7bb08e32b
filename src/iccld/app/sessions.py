"""Sessions of the app. Each open page has its own session with an uploaded file and the predictions for this file."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from iccld.app.answers import Answers, AppModel
from iccld.data.image_files import IMAGE_SUFFIXES, image_size, read_image
from iccld.data.inputs import VIDEO_SUFFIXES
from iccld.drawing import Image
from iccld.errors import InputError

MAX_PIXELS = 40_000_000
"""Maximum number of pixels of an image or frame. At the maximum, the probabilities of 19 classes need 3 GB."""
IDLE_SECONDS = 600
"""Seconds without a request after which a page counts as closed. An open page sends a request twice a minute."""
_GIVES_WAY_SECONDS = 120  # idle seconds after which a session ends if too many pages are open
_LONGEST_NAME = 100


class FullError(InputError):
    """The error that is raised if no further page can be opened, or a file cannot be stored."""


@dataclass(frozen=True)
class Upload:
    """An uploaded file. ``path`` has a generated name. ``name`` is the user's file name, cleaned by ``safe_name``."""

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether the file name has the extension of a video."""
        return self.path.suffix in VIDEO_SUFFIXES

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Yields the path. Raises ``InputError`` if the file has been removed.

        If the ``with`` block raises an ``InputError``, ``name`` replaces the path in the message of the error.
        """
        try:
            if not self.path.exists():
                raise InputError(f"{self.name}: is no longer here; upload it again")
            yield self.path
        except InputError as error:
            said = str(error).replace(str(self.path), self.name).replace(str(self.path.parent), "")
            raise InputError(said.replace(self.path.name, self.name)) from error

    def read(self) -> Image:
        """Reads the file as an RGB image. Raises ``InputError`` if the image is too large or unreadable."""
        with self.opened() as path:
            if path.stat().st_size:  # an empty file has no height and width; ``read_image`` raises the error
                check_pixels(self.name, *image_size(path))
            return read_image(path)


def safe_name(name: str) -> str:
    """Shortens a file name and removes folders, control characters, and characters that some file systems refuse."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(c for c in last if c not in '<>:"|?*' and unicodedata.category(c)[0] != "C").rstrip(" .")
    stem, dot, suffix = kept.rpartition(".")
    if not dot:
        stem, suffix = suffix, ""
    return f"{stem.strip(' .')[:_LONGEST_NAME] or 'upload'}{dot}{suffix[:10]}"


def suffix_of(name: str) -> str:
    """Returns a file name's extension in lower case. Raises ``InputError`` if the extension is not supported."""
    suffix = Path(name).suffix.lower()
    if suffix not in IMAGE_SUFFIXES and suffix not in VIDEO_SUFFIXES:
        raise InputError(f"{name}: is no image and no video by its name; give a PNG, a JPEG or an MP4")
    return suffix


def check_pixels(name: str, height: int, width: int, *, max_pixels: int = MAX_PIXELS) -> None:
    """Raises ``InputError`` if an image has more than ``max_pixels`` pixels, which would need too much memory."""
    if height * width > max_pixels:
        most = f"{max_pixels / 1e6:g} million that are taken here"
        raise InputError(f"{name}: has {width}×{height} pixels, more than the {most}; make it smaller")


@contextmanager
def storing(upload: Upload, *, most: int, room: int) -> Iterator[Callable[[bytes], None]]:
    """Creates the file of an upload. Yields a function that writes the next part of the file.

    ``most`` is the maximum size of the file in bytes, and ``room`` is the number of bytes left for all files. If the
    ``with`` block ends with an error, the file is removed. Raises ``FullError`` if the file would be too large or
    cannot be written.
    """
    received = 0

    def write(part: bytes) -> None:
        nonlocal received
        received += len(part)
        if received > most:
            raise FullError(f"{upload.name}: is larger than the {most / 2**20:g} MiB that are taken here")
        if received > room:
            raise FullError(f"{upload.name}: there is no room for it; try again in some minutes")
        try:
            file.write(part)
        except OSError as error:
            raise FullError(f"{upload.name}: could not be stored ({error.strerror})") from error

    try:
        with open(upload.path, "xb") as file:
            yield write
    except BaseException:
        upload.path.unlink(missing_ok=True)
        raise


@dataclass(eq=False)
class Session:
    """The data of one open page: at most one upload, and the predictions or videos made from the upload.

    ``token`` is the secret that identifies the page's requests. ``folder`` contains only the files of this session.
    ``models`` are the models that segment the upload. If it is empty, the models of the app are used.
    ``clips`` contains the path of each written video and the file name for downloads of the video. ``seen`` is the time
    of the last request. ``working`` is the number of waiting and running predictions. These predictions stop when
    ``ended`` is set.
    """

    token: str
    folder: Path
    models: tuple[AppModel, ...] = ()
    upload: Upload | None = None
    answers: Answers | None = None
    clips: tuple[tuple[Path, str], ...] = ()
    seen: float = 0.0
    working: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def kept_answers(self) -> Answers:
        """Returns the stored predictions.

        Raises ``InputError`` if there are no predictions, for example because of a removal for lack of memory.
        """
        if (answers := self.answers) is None:  # read once, because other threads can set it to None
            raise InputError("This answer is no longer kept; upload the image again")
        return answers

    def forget(self) -> None:
        """Removes the predictions and videos made from the upload, but keeps the upload."""
        clips, self.answers, self.clips = self.clips, None, ()
        for path, _ in clips:
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes all data of the session, but keeps the session open."""
        self.forget()
        self.upload = None
        for path in self.folder.glob("*"):
            path.unlink(missing_ok=True)


@dataclass
class Sessions:
    """All open sessions, with limits on their files and memory.

    ``root`` is an empty folder for all uploads and videos. Other code must not use this folder. ``max_upload_bytes`` is
    the maximum size of one uploaded file. ``max_disk_bytes`` is the maximum total size of all files.
    ``max_answer_bytes`` is the maximum memory of all predictions.
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
        """Opens a session for a new page. Raises ``FullError`` if too many sessions are open."""
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
        """Returns the session with the given token, or ``None``. Records the time of the request."""
        session = self._open.get(token)
        if session is not None:
            session.seen = self.clock()
        return session

    def end(self, session: Session) -> None:
        """Ends a session and removes all its data."""
        self._open.pop(session.token, None)
        session.ended.set()
        session.answers = None
        shutil.rmtree(session.folder, ignore_errors=True)

    def sweep(self, idle_seconds: float = IDLE_SECONDS) -> None:
        """Ends each session that had no request for ``idle_seconds`` and has no waiting or running predictions."""
        latest = self.clock() - idle_seconds
        for session in list(self._open.values()):
            if session.seen <= latest and not session.working:
                self.end(session)

    def keep(self, session: Session, answers: Answers) -> None:
        """Stores the predictions of a session.

        If all predictions together exceed the memory limit, predictions of other sessions are removed, starting with
        the session that has been idle longest.
        """
        session.answers = answers
        kept = [(s, a.num_bytes) for s in list(self._open.values()) if (a := s.answers) is not None]
        total = sum(size for _, size in kept)
        for other, size in sorted(kept, key=lambda pair: pair[0].seen):
            if total > self.max_answer_bytes and other is not session:
                other.answers = None
                total -= size

    @contextmanager
    def receive(self, session: Session, name: str) -> Iterator[Callable[[bytes], None]]:
        """Replaces all data of a session by a new upload. Yields a function that writes the next part of the file.

        ``name`` is the file name that the page sent. If the ``with`` block ends with an error, the file is removed.
        Raises ``InputError`` if the name does not have the extension of an image or video. Raises ``FullError`` if the
        file or all files together would be too large, or if the file cannot be written.
        """
        name = safe_name(name)
        upload = Upload(session.folder / f"{secrets.token_hex(8)}{suffix_of(name)}", name)
        session.clear()
        try:
            with storing(upload, most=self.max_upload_bytes, room=self.room()) as write:
                yield write
            session.upload = upload
        finally:
            if session.ended.is_set():
                upload.path.unlink(missing_ok=True)

    def room(self) -> int:
        """Returns the number of bytes left for further files. The number is negative if the limit is exceeded."""
        room = self.max_disk_bytes
        for path in self.root.glob("*/*"):
            with suppress(FileNotFoundError):  # the file was removed meanwhile
                room -= path.stat().st_size
        return room
