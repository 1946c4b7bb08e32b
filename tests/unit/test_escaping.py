from __future__ import annotations

import contextlib
import io
import os
import select
import sys
import unicodedata
from collections.abc import Iterator
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from iccld import progress
from iccld.errors import InputError
from iccld.escaping import (
    VisibleStream,
    in_csv,
    in_markdown,
    shortened,
    visible,
    visible_lines,
    visible_streams,
)

ORDINARY = ("road", "traffic light", "Bürgersteig", "дорога", "道路", "a_b", "café ½ →", "", "C:\\data", "😀")


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_names_stay(name: str) -> None:
    assert visible(name) == visible_lines(name) == name
    assert in_csv(name) == name


@given(st.text())
def test_nothing_unseen_is_left(text: str) -> None:
    assert not {unicodedata.category(c) for c in visible(text)} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert visible(visible(text)) == visible(text)
    left = visible_lines(text).replace("\n", "").replace("\t", "")
    assert visible(left) == left


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\rb\x07\x7f\x9b", r"a\rb\x07\x7f\x9b"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("a\u200bb\ufeff\u2028", r"a\u200bb\ufeff\u2028"),
        ("a\ud800\U000e0041", r"a\ud800\U000e0041"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == visible_lines(text) == shown


def test_lines_are_kept_where_they_may_be() -> None:
    assert visible("a\n\tb") == r"a\n\tb"
    assert visible_lines("a\n\tb") == "a\n\tb"


def test_the_stream_shows_and_its_ground_does_not() -> None:
    ground = io.StringIO()
    stream = VisibleStream(ground)
    print("name \x1b[2J", end="\n", file=stream)
    stream.writelines(["a\r", "b"])
    stream.flush()
    assert ground.getvalue() == "name \\x1b[2J\na\\rb"


@pytest.mark.parametrize(
    "text",
    ["a|b", "<img src=x onerror=alert(1)>", "[x](https://evil.example)", "![](//e)", "`code`", "**b**", "_e_", "~~s~~",
     "# head", "- item", "1. item", "a\n\n| b |", "&lt;b&gt;", "$x^2$", "http://evil.example", "www.evil.example",
     "@somebody", "\\| c", "<!-- hidden", "a\\"],
)  # fmt: skip
def test_markdown_is_text(text: str) -> None:
    """An independent reader of CommonMark with GitHub's tables and links gives back the text, and nothing else."""
    markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    page = f"| head |\n|---|\n| {in_markdown(text)} |\n\nA {in_markdown(text)}"
    tokens = [t for block in markdown.parse(page) for t in [block, *(block.children or ())]]
    kinds = {t.type for t in tokens} - {"inline", "text", "text_special", "paragraph_open", "paragraph_close"}
    assert all(kind.startswith(("table", "thead", "tbody", "tr", "th", "td")) for kind in kinds), kinds
    inline = [t for t in tokens if t.type == "inline"]
    read = ["".join(c.content for c in t.children or ()) for t in inline]
    assert len(read) == 3
    assert read[1].strip() == visible(text).strip()
    assert read[2].removeprefix("A ").strip() == visible(text).strip()
    assert "://" not in in_markdown(text)
    assert "@" not in in_markdown(text)


@pytest.mark.parametrize(
    "text", ["street_scenes", "traffic light", "facebook/convnextv2-tiny", "CamVid, split val"]
)
def test_markdown_leaves_ordinary_names(text: str) -> None:
    assert in_markdown(text) == text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1", "＝1", " =1"])
def test_cells_are_no_formulas(text: str) -> None:
    cell = str(in_csv(text))
    assert not cell.strip().startswith(("=", "+", "-", "@", "＝"))
    assert cell in (visible(text), f"./{visible(text)}")
    assert in_csv(-1.5) == -1.5


def test_long_values_are_cut() -> None:
    assert shortened("x" * 10**6).endswith("x…")
    assert len(shortened([1] * 10**6)) < 70
    assert "digits" in shortened(10**5000)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert len(shortened(deep)) < 70
    while deep:  # else its end is recursive
        deep = deep.pop()  # type: ignore[assignment]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudoterminals here")
def test_a_terminal_gets_bars_and_no_control_characters_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Printed before, in and beside a bar, and as its title."""
    title = "\x1b]0;owned\x07\u202e"
    master, slave = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    progress._console.cache_clear()
    with open(slave, "w") as terminal, visible_streams_on(monkeypatch, terminal):
        print(f"before {title}")
        for _ in progress.track(range(2), 2, f"bar {title}"):
            print(f"within {title}", file=sys.stderr)
            print(f"within {title}")
        with progress.busy(f"busy {title}"):
            pass
        with pytest.raises(InputError, match="error") as caught:
            raise InputError(f"error {title}\nsecond line")
        print(f"after {title}")
        terminal.flush()
        data = b""
        while b"after " not in data and select.select([master], [], [], 20)[0]:  # it comes in pieces
            data += os.read(master, 1 << 16)
        drawn = data.decode()
    os.close(master)
    progress._console.cache_clear()
    assert str(caught.value) == r"error \x1b]0;owned\x07\u202e second line"
    for word in ("before", "bar", "within", "busy", "after"):
        assert rf"{word} \x1b]0;owned\x07\u202e" in drawn
    assert "\x1b[" in drawn, "a bar is drawn over itself"
    assert not any(bad in drawn for bad in ("\x1b]", "\x07", "\u202e"))


@contextlib.contextmanager
def visible_streams_on(monkeypatch: pytest.MonkeyPatch, terminal: TextIO) -> Iterator[None]:
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    with visible_streams():
        yield
