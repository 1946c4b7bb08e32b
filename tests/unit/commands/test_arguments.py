from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from tyro.conf import Positional, arg

from iccld.commands.flags import OptionalCount, parse
from iccld.documents import Range
from iccld.errors import InputError


@dataclass(frozen=True)
class _Args:
    """Tries. Example: iccld try MODEL"""

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """A model."""
    out: Annotated[Path, arg(metavar="DIR")]
    """A folder."""
    kind: Literal["labels", "color"] = "labels"
    steps: OptionalCount = None
    """How many, said in a text that is long enough to be broken into lines by a box that is eighty columns wide."""
    overlap: float = 0.25
    window: Annotated[tuple[int, int] | None, arg(metavar="H W", help_behavior_hint=""), Range(1, 2**16)] = (
        None
    )

    def __post_init__(self) -> None:
        if self.overlap > 1:
            raise InputError("overlap is too much; give less")


def test_good_words() -> None:
    args = parse(_Args, ["m", "--out", "o", "--window", "3", "4"], prog="iccld try")
    assert args == _Args("m", Path("o"), window=(3, 4))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("m --out o --stepz 3", "Unrecognized options: --stepz, 3; Perhaps you meant: --steps N"),
        ("m --out o --qqqqq", "Unrecognized options: --qqqqq"),
        ("m --out o n", "Unrecognized options: n"),
        ("m", "Missing from iccld try: --out DIR"),
        ("m --oot o", "Missing from iccld try: --out DIR; Unrecognized options: --oot o"),
        ("", "Missing from iccld try: MODEL --out DIR"),
        (
            "m --out o --kind colour",
            "invalid choice 'colour' for argument '--kind'. Expected one of ('labels', 'color')",
        ),
        ("m --out o --overlap x", "Error parsing --overlap: could not convert string to float: 'x'"),
        ("m --out o --steps", "Missing value for argument '--steps'. Expected 1 values"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    words: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with pytest.raises(InputError) as caught:
        parse(_Args, words.split(), prog="iccld try")
    assert str(caught.value) == f"{said}; see iccld try --help"
    assert capsys.readouterr() == ("", "")
    assert os.environ["COLUMNS"] == "40"


def test_what_the_class_itself_refuses() -> None:
    with pytest.raises(InputError, match="overlap is too much; give less"):
        parse(_Args, ["m", "--out", "o", "--overlap", "2"], prog="iccld try")


def test_long_words_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    word = "/very/long" * 30
    with pytest.raises(InputError, match=f"Unrecognized options: {word}"):
        parse(_Args, ["m", word, "--out", "o"], prog="iccld try")


def test_help_is_tyros(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(_Args, ["--help"], prog="iccld try")
    assert ended.value.code == 0
    assert "usage: iccld try" in capsys.readouterr().out
