from __future__ import annotations

import os
from pathlib import Path

import pytest

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
def forgotten() -> list[str | None]:
    return []


@pytest.fixture
def sessions(tmp_path: Path, clock: Clock, forgotten: list[str | None]) -> Sessions:
    return Sessions(
        tmp_path, forgotten.append, max_upload_bytes=100, max_disk_bytes=250, max_sessions=3, clock=clock
    )


def _store(sessions: Sessions, session: Session, content: bytes, name: str = "a.png") -> None:
    with sessions.receive(session, name) as file:
        file.write(content)
        file.done()


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
    _store(sessions, session, b"second", "../../etc/b.JPG")
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
        sessions.receive(session, name)
    assert not list(session.folder.iterdir())


def test_limits_hold_for_what_arrives(sessions: Sessions) -> None:
    first, second, third = sessions.begin(), sessions.begin(), sessions.begin()
    with sessions.receive(first, "a.png") as file:
        file.write(bytes(90))
        with pytest.raises(FullError, match="larger than"):
            file.write(bytes(11))
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
    with sessions.receive(session, "a.png") as file:
        file.write(b"half")
    assert not list(session.folder.iterdir())


def test_silent_sessions_end(sessions: Sessions, clock: Clock, forgotten: list[str | None]) -> None:
    silent, alive, busy = sessions.begin(), sessions.begin(), sessions.begin()
    silent.answers, busy.working = "key", 1
    _store(sessions, silent, b"x")
    silent.answers = "key"
    clock.now = 500
    sessions.find(alive.token)
    clock.now = 601
    sessions.sweep()
    assert sessions.find(silent.token) is None
    assert silent.ended.is_set()
    assert not silent.folder.exists()
    assert forgotten[-1] == "key"
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


def test_everything_goes_at_the_end(sessions: Sessions, tmp_path: Path) -> None:
    for _ in range(3):
        _store(sessions, sessions.begin(), b"x")
    sessions.end_all()
    assert os.listdir(tmp_path) == []
