from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from iccld import progress
from iccld.progress import busy, format_seconds, is_live, track


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (7.4, "7 s"),
        (59.6, "1:00"),
        (125, "2:05"),
        (3725, "1:02:05"),
        (-3, "0 s"),
        (90000, "25:00:00"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_plain_progress_says_how_far_and_how_long_but_not_at_every_item(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = 0.0

    def items() -> Iterator[int]:
        nonlocal clock
        for item in range(10):
            clock += 4.0
            yield item

    monkeypatch.setattr(progress.time, "monotonic", lambda: clock)
    assert list(track(items(), 10, "images")) == list(range(10))
    captured = capsys.readouterr()
    assert captured.out == ""
    # 4 s an item and a line at most every 10 s: after items 3, 6 and 9.
    assert captured.err.splitlines() == [
        "images: 3/10, 28 s left",
        "images: 6/10, 16 s left",
        "images: 9/10, 4 s left",
    ]


def test_short_work_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(iter("ab"), 2, "images")) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_live_progress_passes_items_through_and_writes_to_stderr_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(track(range(3), 3, "images")) == [0, 1, 2]
    assert capsys.readouterr().out == ""


def test_errors_of_the_source_come_through() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise RuntimeError("broken source")

    with pytest.raises(RuntimeError, match="broken source"):
        list(track(items(), 2, "images"))


def test_speed_and_work_of_unknown_length(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = 0.0

    def items() -> Iterator[int]:
        nonlocal clock
        for item in range(6):
            clock += 4.0
            yield item

    monkeypatch.setattr(progress.time, "monotonic", lambda: clock)
    list(track(items(), 6, "clip.mp4", unit="fps"))
    list(track(items(), None, "camera:0", unit="fps"))
    assert capsys.readouterr().err.splitlines() == [
        "clip.mp4: 3/6, 0.2 fps, 12 s left",
        "clip.mp4: 6/6, 0.2 fps, 0 s left",
        "camera:0: 3, 0.2 fps",
        "camera:0: 6, 0.2 fps",
    ]


def test_live_progress_of_unknown_length(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(track(range(3), None, "[camera:0]", unit="fps")) == [0, 1, 2]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "[camera:0]" in captured.err
    assert "fps" in captured.err


def test_work_of_unknown_length_is_one_line_or_none(capsys: pytest.CaptureFixture[str]) -> None:
    with busy("exporting", hint="a minute or two"), busy("loading"):
        pass
    assert capsys.readouterr() == ("", "exporting: a minute or two\n")


def test_work_of_unknown_length_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with busy("loading [model]"):
        pass
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "loading [model]" in captured.err


def test_terminals_that_cannot_move_get_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    assert not is_live()
    monkeypatch.setenv("TERM", "xterm")
    assert is_live()
