from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from iccld.app.answers import Answers
from iccld.app.sessions import FullError, Session, Sessions
from iccld.errors import InputError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(tmp_path: Path, clock: Clock) -> Sessions:
    limits = {"max_upload_bytes": 100, "max_disk_bytes": 250, "max_answer_bytes": 3000}
    return Sessions(tmp_path, **limits, max_sessions=3, clock=clock)


def _store(sessions: Sessions, session: Session, *parts: bytes, name: str = "a.png") -> None:
    with sessions.receive(session, name) as write:
        for part in parts:
            write(part)


def _answers(size: int) -> Answers:
    return Answers("a.png", np.zeros((size, 1, 3), np.uint8), ())


def test_answers_of_the_page_that_was_silent_longest_make_room(sessions: Sessions, clock: Clock) -> None:
    first, second, third = (sessions.begin() for _ in range(3))
    for session in (first, second):
        sessions.keep(session, _answers(500))
    clock.now = 1
    sessions.find(first.token)
    sessions.keep(third, _answers(500))
    assert first.answers is not None
    assert second.answers is None
    sessions.keep(third, _answers(5000))
    assert third.answers is not None, "the newest are kept, whatever their size"
    assert first.answers is None
    sessions.keep(third, _answers(500))
    sessions.keep(first, _answers(500))
    assert third.answers is not None, "new answers of a page replace its old ones"


def test_a_session_is_found_by_its_token_alone(sessions: Sessions) -> None:
    session = sessions.begin()
    assert len(session.token) >= 32
    assert sessions.find(session.token) is session
    assert session.folder.name not in session.token
    for wrong in ("", session.token[:-1], session.token.upper() + "x", session.folder.name):
        assert sessions.find(wrong) is None
    assert session.folder.stat().st_mode & 0o077 == 0, "nobody else on this machine reads it"


def test_an_upload_replaces_what_was_there(sessions: Sessions) -> None:
    session = sessions.begin()
    _store(sessions, session, b"first")
    _store(sessions, session, b"second", name="../../etc/b.JPG")
    assert session.upload is not None
    assert [path.read_bytes() for path in session.folder.iterdir()] == [b"second"]
    assert session.upload.name == "b.JPG"
    assert session.upload.path.parent == session.folder
    assert session.upload.path.suffix == ".jpg"
    assert session.upload.path.stem != "b"


@pytest.mark.parametrize("name", ["notes.txt", "", "png", "a.png/", "x.svg", "weights.pt"])
def test_what_is_no_image_by_name_is_not_taken(sessions: Sessions, name: str) -> None:
    session = sessions.begin()
    with pytest.raises(InputError, match="is no image and no video by its name"):
        _store(sessions, session, b"x", name=name)
    assert not list(session.folder.iterdir())


def test_limits_hold_for_what_arrives(sessions: Sessions) -> None:
    first, second, third = sessions.begin(), sessions.begin(), sessions.begin()
    with pytest.raises(FullError, match="larger than"):
        _store(sessions, first, bytes(90), bytes(11))
    assert not list(first.folder.iterdir()), "half a file is removed"
    assert first.upload is None
    _store(sessions, first, bytes(100))
    _store(sessions, second, bytes(100))
    with pytest.raises(FullError, match="no room"):
        _store(sessions, third, bytes(100))
    sessions.end(first)
    _store(sessions, third, bytes(100))


def test_a_file_that_stops_arriving_is_removed(sessions: Sessions) -> None:
    session = sessions.begin()
    with contextlib.suppress(ConnectionError), sessions.receive(session, "a.png") as write:
        write(b"half")
        raise ConnectionError
    assert session.upload is None
    assert not list(session.folder.iterdir())


def test_silent_sessions_end(sessions: Sessions, clock: Clock) -> None:
    silent, alive, busy = sessions.begin(), sessions.begin(), sessions.begin()
    busy.working = 1
    _store(sessions, silent, b"x")
    sessions.keep(silent, _answers(10))
    clock.now = 500
    sessions.find(alive.token)
    clock.now = 601
    sessions.sweep()
    assert sessions.find(silent.token) is None
    assert silent.ended.is_set()
    assert not silent.folder.exists()
    assert silent.answers is None
    assert sessions.find(alive.token) is alive
    assert sessions.find(busy.token) is busy


def test_too_many_pages(sessions: Sessions, clock: Clock) -> None:
    first, *_ = [sessions.begin() for _ in range(3)]
    with pytest.raises(FullError, match="3 pages are open already"):
        sessions.begin()
    clock.now = 121
    sessions.find(first.token)
    sessions.begin()  # the silent ones gave way
    assert len(sessions) == 2
