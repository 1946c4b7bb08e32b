"""Builds the text of a ``dataset.toml`` for a detected data set, with comments about findings and assumptions."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from iccld.data.autodetect.guess import Guess
from iccld.errors import InputError
from iccld.escaping import visible
from iccld.labels import IGNORE

_WIDTH = 100


def sections(guess: Guess) -> dict[str, list[str]]:
    """Returns the messages about a detected data set: a list of sentences for each of three titles."""
    seen, guessed, checks = [], [f"The folder was taken for {guess.layout}."], list(guess.notes)
    for name, entry in guess.splits.items():
        labels = f"{entry.num_labels} with a label map" if entry.labels else "no label maps"
        seen.append(f"{name}: {_count(entry.num_images, 'image')}, {labels}")
    evidence = guess.evidence
    if guess.meaning is not None and evidence is not None:
        guessed.append(f"The label maps hold {guess.meaning.text}.")
        ids = ", ".join(map(str, sorted(evidence.ids)[:30])) + (", …" if len(evidence.ids) > 30 else "")
        kinds = f"{_count(len(evidence.ids), 'id')}: {ids}"
        if evidence.colors:
            kinds = _count(len(evidence.colors), "color")
        num = f"{evidence.num_read} of {_count(evidence.num_files, 'label map')}"
        seen.append(f"{num} were read, with {kinds}")
        checks += guess.meaning.checks
        if evidence.num_read < evidence.num_files:
            all_of_them = "'iccld data check' reads all and names ids or colors that are missing"
            checks.append(f"Not every label map was read: {all_of_them}.")
    bare = [f"{s} of {n}" for n, e in guess.splits.items() if (s := e.num_images - e.num_labels) and e.labels]
    if bare:
        checks.append(f"Some images have no label map: {', '.join(bare)}.")
    return {"Seen": seen, "Guessed": guessed, "Please check": checks}


def to_toml(guess: Guess, *, role: str | None = None, outside: bool = False) -> str:
    """Returns the text of ``dataset.toml``.

    Args:
        guess: Detected data set.
        role: Role that replaces the detected role. With ``None``, the detected role is used.
        outside: Whether the file will be stored outside of the data set's folder. If so, all paths are absolute.
    """
    start = guess.root.resolve().as_posix() + "/" if outside else ""
    if re.search(r"[*?{}]", start):
        raise InputError(f"{guess.root}: globs cannot name the characters * ? {{ }}; rename the folder")
    value = guess.document(role, start)
    tables = {key: value.pop(key) for key, item in [*value.items()] if isinstance(item, dict)}
    lines = [*_head(guess), ""]
    for key, item in value.items():
        lines += _classes(guess, item) if key == "classes" and isinstance(item, list) else _entry(key, item)
    if "role" not in value:
        lines.append('# role = "source"   # or "target", which needs no labels')
    tables |= {f"splits.{name}": table for name, table in tables.pop("splits", {}).items()}
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(line for key, item in table.items() for line in _entry(key, item))]
    return "\n".join(lines) + "\n"


def _head(guess: Guess) -> list[str]:
    lines = ["# Written by 'iccld data init'. docs/data.md explains every key; edit the file as you like."]
    for title, sentences in sections(guess).items():
        lines += ["#", f"# {title}:"] if sentences else []
        for text in sentences:
            lines += textwrap.wrap(visible(text), _WIDTH, initial_indent="#   ", subsequent_indent="#     ")
    return lines


def _classes(guess: Guess, names: list[str]) -> list[str]:
    """Returns the lines of the class list. A comment beside each class gives the class's fraction of the pixels."""
    pixels = dict.fromkeys(range(len(names)), 0)
    if guess.meaning is not None and guess.evidence is not None:
        description, evidence = guess.meaning.description, guess.evidence
        labels: Mapping[Any, int] = description.ids if description.colors is None else description.colors
        for raw, count in (evidence.ids if description.colors is None else evidence.colors).items():
            if labels.get(raw, IGNORE) != IGNORE:
                pixels[labels[raw]] += count
    total = max(1, sum(pixels.values()))
    rows = [f"  {_value(name)}," for name in names]
    width = max(map(len, rows))
    shares = [f"{n / total:.2%} of the pixels read" if n else "not seen" for n in pixels.values()]
    lines = [f"{row:<{width}}  # {share}" for row, share in zip(rows, shares, strict=True)]
    return ["classes = [", *lines, "]"]


def _entry(key: str, item: Any) -> list[str]:
    """Returns the lines of a key and its value. A long list has one line per item."""
    key = key if re.fullmatch(r"[\w-]+", key, re.ASCII) else _value(key)
    line = f"{key} = {_value(item)}"
    if len(line) <= _WIDTH or not isinstance(item, list):
        return [line]
    return [f"{key} = [", *(f"  {_value(each)}," for each in item), "]"]


def _value(item: Any) -> str:
    """Returns a string, number, boolean or list in TOML syntax, which equals JSON syntax for these types."""
    written = json.dumps(item, ensure_ascii=False)
    return "".join(c if visible(c) == c else f"\\U{ord(c):08x}" for c in written)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
