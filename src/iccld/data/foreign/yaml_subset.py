"""Reads the part of YAML that ``data.yaml`` files of YOLO use: texts, lists and tables of texts, without nesting."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.files import printable, read_bounded

MOST_OF_YAML = 1_000_000
"""Largest size of a YAML file in bytes."""
_MOST_ITEMS = 10_000
_KEY = re.compile(r"""(?P<key>[\w.-]+|'[^'\n]*'|"[^"\\\n]*")\s*:(?:\s+(?P<rest>.*))?""")
_TOKEN = re.compile(r"""\s*(?:(?P<mark>[\[\]{},:])|'(?P<single>(?:[^']|'')*)'|"(?P<double>[^"\\]*)"|(?P<plain>[^\[\]{},:'"\s](?:[^\[\]{},:]|:(?!\s))*))""")  # fmt: skip  # noqa: E501

Value = str | list[str] | dict[str, str]


def read_yaml(path: Path, wanted: Collection[str]) -> dict[str, Value]:
    """Returns the values of the ``wanted`` keys of a YAML table. All other keys are skipped.

    Values are texts, lists of texts, and tables from texts to texts. Numbers are returned as texts. A key without a
    value is left out. Anchors, tags, nested values and escapes are refused.

    Raises:
        InputError: The file is missing, is too large, or uses YAML beyond this subset.
    """
    shown = printable(str(path))
    try:
        text = read_bounded(path, MOST_OF_YAML).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{shown}: is no UTF-8 text; save it as UTF-8") from error
    blocks: dict[str, list[str]] = {}
    key = ""
    for line in map(_without_comment, text.splitlines()):
        match = _KEY.fullmatch(line)
        if match and not line.startswith("- "):
            key = _plain(match["key"])
            if key in blocks and key in wanted:
                raise InputError(f"{shown}: has the key {shortened(key)} twice; remove one")
            blocks[key] = [match["rest"] or ""]
        elif line and line != "---" and key:
            blocks[key].append(line)
    values = {}
    for key in wanted:
        try:
            value = _value(blocks.get(key, [""]))
        except ValueError as error:
            form = "write plain names, a list [a, b], or lines '0: a'"
            raise InputError(f"{shown}: {key} cannot be read ({error}); {form}") from error
        if value:
            values[key] = value
    return values


def _without_comment(line: str) -> str:
    """Removes a comment and spaces at the end of a line. A # inside of quotes or of a word is not a comment."""
    quote = ""
    for place, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"" and (not place or line[place - 1] in " [{,:"):
            quote = char
        elif char == "#" and (not place or line[place - 1].isspace()):
            return line[:place].rstrip()
    return line.rstrip()


def _value(lines: list[str]) -> Value:
    first, *others = lines
    first = first.strip()
    others = [line.strip() for line in others if line.strip()]
    if first[:1] in ("[", "{"):
        return _flow("\n".join([first, *others]))
    if first:
        if others:
            raise ValueError(f"more than one line after {shortened(first)}")
        return _plain(first)
    if len(others) > _MOST_ITEMS:
        raise ValueError(f"more than {_MOST_ITEMS} entries")
    if others and all(line.startswith("- ") for line in others):
        return [_plain(line[2:].strip()) for line in others]
    table: dict[str, str] = {}
    for line in others:
        match = _KEY.fullmatch(line)
        if match is None or not match["rest"]:
            raise ValueError(f"at {shortened(line)}")
        _put(table, _plain(match["key"]), _plain(match["rest"].strip()))
    return table


def _put(table: dict[str, str], key: str, value: str) -> None:
    if key in table:
        raise ValueError(f"{shortened(key)} stands twice")
    table[key] = value


def _plain(text: str) -> str:
    """Returns the text of a quoted or plain value. Raises ``ValueError`` for anything else."""
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) > 1 and text[0] == text[-1] == '"' and "\\" not in text and '"' not in text[1:-1]:
        return text[1:-1]
    if text[:1] in tuple("&*!|>%@`'\"[]{}") and text:
        raise ValueError(f"at {shortened(text)}")
    return "" if text in ("~", "null") else text


def _flow(text: str) -> Value:
    """Parses a list ``[a, b]`` or a table ``{0: a, 1: b}``."""
    tokens: list[tuple[str, bool]] = []
    place = 0
    while place < len(text.rstrip()):
        match = _TOKEN.match(text, place)
        if match is None or len(tokens) > 4 * _MOST_ITEMS:
            raise ValueError(f"at {shortened(text[place : place + 20])}")
        place = match.end()
        if match["mark"]:
            tokens.append((match["mark"], True))
        else:
            quoted = match["single"] if match["single"] is not None else match["double"]
            word = match["plain"] if quoted is None else quoted.replace("''", "'")
            tokens.append((_plain(word.strip()) if quoted is None else word, False))
    close = "]" if text[0] == "[" else "}"
    if tokens[-1] != (close, True):
        raise ValueError(f"no {close} at the end")
    items: list[list[str]] = [[]]
    for word, is_mark in tokens[1:-1]:
        if not is_mark:
            items[-1].append(word)
        elif word == ",":
            items.append([])
        elif word != ":" or close == "]":
            raise ValueError(f"at {word!r}")
    if not items[-1]:
        items.pop()
    if any(len(item) != (1 if close == "]" else 2) for item in items):
        raise ValueError("an entry is not one name" if close == "]" else "an entry is not 'id: name'")
    if close == "]":
        return [item[0] for item in items]
    table: dict[str, str] = {}
    for name, value in items:
        _put(table, name, value)
    return table
