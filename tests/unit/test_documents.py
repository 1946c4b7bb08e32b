from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iccld.config import TrainConfig, from_dict, to_dict
from iccld.documents import Length, Range, build, parse_json, read_json, read_toml, typed
from iccld.errors import InputError

BOMBS = {
    "lists": "[" * 100_000,
    "whole lists": "[" * 100_000 + "]" * 100_000,
    "tables": '{"a":' * 100_000,
    "deep": "[" * 40 + "]" * 40,
    "digits": "1" * 5_000,
    "negative digits": "[-" + "1" * 5_000 + "]",
    "65 bits": f"[{2**65}]",
    "NaN": "[NaN]",
    "infinity": '{"a": -Infinity}',
    "overflow": "[1e999]",
    "surrogate": '["\\ud800"]',
    "surrogate key": '{"\\udfff": 1}',
    "NUL": '["a\\u0000b"]',
    "long text": '["' + "x" * 100_000 + '"]',
    "nothing": "",
    "two": "{} {}",
    "control character": '["\x1b"]',
}


@pytest.mark.parametrize("name", BOMBS)
def test_json_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(BOMBS[name])
    with pytest.raises(InputError) as caught:
        read_json(path, remedy="train it again")
    message = str(caught.value)
    assert message.startswith(f"{path}: is not JSON (")
    assert message.endswith("; train it again")
    assert message.isprintable()
    assert len(message) < 400 + len(str(path))


def test_json_of_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')  # as editors of Windows write it
    assert read_json(path) == {"a": 1}
    for data in (b'"\xff"', '{"a": 1}'.encode("utf-16")):
        path.write_bytes(data)
        with pytest.raises(InputError, match="is not JSON"):
            read_json(path)


def test_no_more_than_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with open(path, "wb") as handle:
        handle.truncate(10**11)
    with pytest.raises(InputError, match="larger than"):
        read_json(path)
    with pytest.raises(InputError, match="larger than"):
        read_toml(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.json")
    for place in (tmp_path / "x.json", tmp_path, tmp_path / "gone.json", Path("/dev/zero")):
        with pytest.raises(InputError):
            read_json(place)


def test_json_from_memory_names_its_place() -> None:
    assert parse_json('{"a": [1, 2.5, null, true]}', "m.safetensors") == {"a": [1, 2.5, None, True]}
    with pytest.raises(InputError, match=r"^m\.safetensors: is not JSON"):
        parse_json("[", "m.safetensors")


TOML_BOMBS = {
    "lists": "a = " + "[" * 100_000,
    "inline tables": "a = " + "{a=" * 50_000,
    "dotted key": "a." * 100_000 + "b = 1",
    "dotted quoted key": '"a" . ' * 100_000 + "b = 1",
    "dotted table": "[" + "a." * 100_000 + "b]",
    "digits": "a = " + "1" * 5_000,
    "hexadecimal digits": "a = 0x" + "f" * 50_000,
    "not finite": "a = [nan, inf]",
    "NUL": 'a = "\\u0000"',
    "twins": "a = 1\na = 2",
    "long text": 'a = "' + "x" * 100_000 + '"',
    "open strings": '"""' * 100_000 + "\\",
    "no key": "=",
}


@pytest.mark.parametrize("name", TOML_BOMBS)
def test_toml_is_refused_in_one_line_and_soon(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(TOML_BOMBS[name])
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        read_toml(path)
    assert time.monotonic() - start < 10
    message = str(caught.value)
    assert message.startswith(f"{path}: is not valid TOML (")
    assert message.isprintable()
    assert len(message) < 400 + len(str(path))


def test_dots_and_brackets_in_text_are_no_depth(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    dots, brackets = "." * 100, "[{" * 100
    text = f'# {dots} {brackets}\na = "{dots}\\"{brackets}"\nb = \'{dots}{brackets}\'\nc = """\n{dots}{brackets}"""\n'
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_toml(path) == {"a": f'{dots}"{brackets}', "b": dots + brackets, "c": dots + brackets}


# -- types and ranges --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    size: tuple[int, int]
    weight: Annotated[float, Range(0, 1)] = 0.5


@dataclass(frozen=True)
class Whole:
    count: Annotated[int, Range(1, 9)]
    part: Part
    kind: Literal["a", "b"] = "a"
    name: Annotated[str, Length(5)] | None = None
    parts: tuple[Part, ...] = ()
    flag: bool = False
    figures: Mapping[str, float | None] = field(default_factory=dict)


GOOD: dict[str, Any] = {"count": 3, "part": {"size": [1, 2]}}


def test_values_become_a_dataclass() -> None:
    value = GOOD | {"parts": [{"size": (3, 4), "weight": 1}], "name": "x", "figures": {"a": 1, "b": None}}
    built = build(Whole, value, "f.json")
    assert built == Whole(3, Part((1, 2)), "a", "x", (Part((3, 4), 1),), figures={"a": 1, "b": None})
    assert build(Whole, GOOD, "f.json") == Whole(3, Part((1, 2)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"count": 0}, "f.json: count = 0 must be a whole number from 1 to 9"),
        ({"count": 10}, "from 1 to 9"),
        ({"count": True}, "count = True must be a whole number"),
        ({"count": 3.0}, "count = 3.0"),
        ({"count": "3"}, "count = '3'"),
        ({"count": None}, "count = None"),
        ({"count": 10**1000}, "count = a number of very many digits"),
        ({"flag": 1}, "flag = 1 must be true or false"),
        ({"kind": "c"}, "kind = 'c' must be one of a, b"),
        ({"kind": []}, "kind"),
        ({"name": "123456"}, "name = '123456' must be text of at most 5 characters or null"),
        ({"name": "x\x1b" + "y" * 10**6}, r"name = 'x\x1byyy"),
        ({"part": {"size": [1, 2, 3]}}, "f.json: part: size = [1, 2, 3] must be a list of 2"),
        ({"part": {"size": [1, 2.5]}}, "f.json: part: size[1] = 2.5 must be a whole number"),
        ({"part": {"size": "12"}}, "size = '12'"),
        ({"part": {"size": [1, 2], "weight": 1.5}}, "weight = 1.5 must be a number from 0 to 1"),
        ({"part": {"size": [1, 2], "weight": float("nan")}}, "weight = nan"),
        ({"part": {}}, "f.json: part: key 'size' of Part is missing"),
        ({"part": [1]}, "f.json: part: [1] must be a table"),
        ({"parts": [{"size": [1, 2]}, 3]}, "f.json: parts[1]: 3 must be a table"),
        ({"cuont": 1}, "f.json: unknown key 'cuont' of Whole; did you mean 'count'?"),
        ({"figures": {"a": "1"}}, "f.json: figures: 'a' = '1' must be a number or null"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        build(Whole, GOOD | change, "f.json")
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


def test_single_values() -> None:
    assert typed(list[str], ["a"], "x") == ["a"]
    for value in ("a", 1, None, {"a": 1}):
        with pytest.raises(InputError, match="must be a list, each text"):
            typed(list[str], value, "x")
    with pytest.raises(InputError, match=r"x\[1\] = 1 must be text"):
        typed(list[str], ["a", 1], "x")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(st.sampled_from([*to_dict(TrainConfig())]), plain)
def test_any_value_of_a_setting_is_taken_or_refused(name: str, value: object) -> None:
    stored = to_dict(TrainConfig()) | {name: value}
    try:
        config = from_dict(stored)
    except InputError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    assert refusal.isprintable()
