from __future__ import annotations

import re
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from iccld.data.folders import Glob, data_glob, fixed_folders
from iccld.errors import InputError


def by_backtracking(pattern: str, name: str) -> tuple[str, ...] | None:
    """Returns the expected result of ``Glob.match``, by a regular expression with backtracking."""
    forms = {"**/": "(?:(.*)/)?", "*": "([^/]*)", "?": "([^/])"}
    words = re.findall(r"(?<![^/])\*\*/|.", pattern)
    match = re.fullmatch("".join(forms.get(word, re.escape(word)) for word in words), name)
    return None if match is None else tuple(group or "" for group in match.groups())


PATTERNS = st.lists(st.sampled_from(["a", "b", "/", "*", "?", "**/", "."]), min_size=1, max_size=7).map(
    "".join
)
NAMES = st.text("ab/.", min_size=1, max_size=9)


@given(PATTERNS, NAMES)
def test_globs_mean_what_a_regular_expression_that_tries_all_places_finds(pattern: str, name: str) -> None:
    assume("//" not in pattern + name and not name.startswith("/") and not name.endswith("/"))
    assert data_glob(pattern).match(name) == by_backtracking(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("*.{jpg,png}", "a.png", ("a",)),
        ("{a,b*}/{c,d}?", "bx/d1", ("x", "1")),
        ("{a,b*}/{c,d}?", "a/c1", ("", "1")),
        ("{a,{b,c}}x", "cx", ()),
        ("**/x.png", "x.png", ("",)),
        ("**/x.png", "a/b/x.png", ("a/b",)),
        ("a[1].png", "a[1].png", ()),
        ("*_*.png", "a_b_c.png", ("a_b", "c")),
        ("a\nb*", "a\nbc", ("c",)),
    ],
)
def test_what_wildcards_stand_for(pattern: str, name: str, found: tuple[str, ...]) -> None:
    assert data_glob(pattern).match(name) == found


@pytest.mark.parametrize(
    ("pattern", "fits", "fails"),
    [
        ("[abc].png", "b.png", "d.png"),
        ("[!a-c].png", "d.png", "b.png"),
        ("[]].png", "].png", "a.png"),
        ("[a-].png", "-.png", "b.png"),
        ("a[.png", "a[.png", "a.png"),
        ("{a,b}.png", "{a,b}.png", "a.png"),
    ],
)
def test_sets_of_the_globs_of_the_command_line(pattern: str, fits: str, fails: str) -> None:
    glob = Glob(pattern, sets=True)
    assert glob.match(fits) is not None
    assert glob.match(fails) is None


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*a*a*a*a*a*c.png", "a" * 250 + ".png"),
        ("*a" * 40 + "c.png", "a" * 250 + ".png"),
        ("*?" * 100 + "c", "a" * 255),
        ("c" + "*a" * 40 + ".png", "a" * 250 + ".png"),
        ("c/" + "*a*a*a/**/" * 20 + "x", "b/" + "aaaaaaaaaaa/" * 100 + "x"),
        ("c" + "{*a,*aa}" * 5, "a" * 250),
        ("**/" * 14 + "x.png", "a/" * 60 + "y.png"),
        ("**/*a*a*a/" * 20 + "c", "aaaaaaaaaaa/" * 100 + "b"),
        ("{*a,*aa}" * 5 + "c", "a" * 250),
    ],
)
def test_no_glob_takes_long(pattern: str, name: str) -> None:
    begin = time.perf_counter()
    assert data_glob(pattern).match(name) is None
    assert time.perf_counter() - begin < 5  # backtracking would take years


def test_braces_that_multiply_are_refused() -> None:
    with pytest.raises(InputError, match="alternatives"):
        Glob("{a,b}" * 40, braces=True)
    with pytest.raises(InputError, match="alternatives"):
        Glob("{" + "a," * 400 + "a}", braces=True)
    with pytest.raises(InputError, match="characters"):
        Glob("*" * 2000)


def test_folders_before_the_first_wildcard() -> None:
    assert fixed_folders("a/b/*.png", "*?{") == (["a", "b"], "*.png")
    assert fixed_folders("a/{b,c}/x.png", "*?{") == (["a"], "{b,c}/x.png")
    assert fixed_folders("a/x.png", "*?{") == (["a"], "x.png")
