"""A guess as the text of a ``dataset.toml``, with comments that tell what was seen and what was guessed."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from iccld.data.guessing.evidence import Evidence
from iccld.data.guessing.guess import Guess, SplitGlobs
from iccld.data.guessing.meaning import Meaning
from iccld.data.image_files import Color
from iccld.errors import InputError
from iccld.escaping import visible

_WIDTH = 100


def seen_lines(guess: Guess) -> list[str]:
    """What was found, a line each: the splits, then what the label maps hold."""
    lines = []
    for name, entry in guess.splits.items():
        labels = f"{entry.num_labels} with a label map" if entry.labels else "no label maps"
        lines.append(f"{name}: {_count(entry.num_images, 'image')}, {labels}")
    if guess.meaning is not None and guess.evidence is not None:
        e = guess.evidence
        kinds = (
            _count(len(e.colors), "color") if e.colors else f"{_count(len(e.ids), 'id')}: {_ranges(e.ids)}"
        )
        lines.append(f"{e.num_read} of {_count(e.num_files, 'label map')} were read, with {kinds}")
    return lines


def to_check(guess: Guess) -> list[str]:
    """What the user should look at, a sentence each."""
    checks = list(guess.meaning.checks) if guess.meaning is not None else []
    e = guess.evidence
    if e is not None and e.num_read < e.num_files and guess.meaning is not None:
        kind = "colors" if guess.meaning.color_coded else "ids"
        checks.append(
            f"Not every label map was read: 'iccld data check' reads all and names {kind} that are missing."
        )
    bare = [f"{s} of {n}" for n, e in guess.splits.items() if (s := e.num_images - e.num_labels) and e.labels]
    if bare:
        checks.append(f"Some images have no label map: {', '.join(bare)}.")
    return checks


def to_toml(guess: Guess, *, role: str | None = None, outside: bool = False) -> str:
    """Words the file.

    Args:
        guess: what the folder was taken for.
        role: ``source`` or ``target``, where the user says so.
        outside: whether the file will lie outside of the data set's folder, so that its paths must be whole.

    Raises:
        InputError: the folder's path cannot stand in a glob.
    """
    start = ""
    if outside:
        start = guess.root.resolve().as_posix() + "/"
        if re.search(r"[*?{}]", start):
            raise InputError(f"{guess.root}: globs cannot name the characters * ? {{ }}; rename the folder")
    bare = [entry for name, entry in guess.splits.items() if name == "train" and not entry.labels]
    role = role or guess.role or ("target" if bare else None)
    lines = [*_head(guess), "", f"name = {_quote(guess.root.resolve().name)}"]
    splits = dict(guess.splits)
    if "train" in splits:
        lines += _globs(splits.pop("train"), start)
    if guess.resize_labels:
        lines.append("resize_labels = true")
    if guess.meaning is not None:
        lines += _classes(guess.meaning, guess.evidence)
    lines.append(f'role = "{role}"' if role else '# role = "source"   # or "target", which needs no labels')
    if guess.meaning is not None:
        lines += _tables(guess.meaning)
    for name, entry in splits.items():
        lines += ["", f"[splits.{name}]", *_globs(entry, start)]
    return "\n".join(lines) + "\n"


def _head(guess: Guess) -> list[str]:
    guessed = [f"The folder has the layout of {guess.layout}."]
    if guess.layout.startswith("images"):
        guessed = [f"The folder holds {guess.layout}."]
    if guess.meaning is not None:
        guessed.append(f"The label maps hold {guess.meaning.text}.")
    lines = ["# Written by 'iccld data init'. docs/data.md explains every key; edit the file as you like."]
    parts: Mapping[str, Sequence[str]] = {
        "Seen": seen_lines(guess),
        "Guessed": [*guessed, *guess.notes],
        "Please check": to_check(guess),
    }
    for title, sentences in parts.items():
        if sentences:
            lines += ["#", f"# {title}:"]
            for text in sentences:
                lines += textwrap.wrap(
                    visible(text), _WIDTH, initial_indent="#   ", subsequent_indent="#     "
                )
    return lines


def _globs(entry: SplitGlobs, start: str) -> list[str]:
    lines = [f"images = {_quote(start + entry.images)}"]
    if entry.labels:
        lines.append(f"labels = {_quote(start + entry.labels)}")
    if entry.list_file:
        lines.append(f"list = {_quote(start + entry.list_file)}")
    return lines


def _classes(meaning: Meaning, evidence: Evidence | None) -> list[str]:
    lines: list[str] = []
    if isinstance(meaning.classes, str):
        lines.append(f"classes = {_quote(meaning.classes)}")
    else:
        shares = _shares(meaning, evidence)
        rows = [f"  {_quote(name)}," for name in meaning.classes]
        width = max(map(len, rows))
        lines += ["classes = ["]
        lines += [f"{row:<{width}}  # {share}" for row, share in zip(rows, shares, strict=True)]
        lines += ["]"]
    if meaning.color_coded:
        lines.append("color_coded = true")
    if meaning.colors:
        names = meaning.classes if not isinstance(meaning.classes, str) else [""] * len(meaning.colors)
        rows = [f"  {_color(color)}," for color in meaning.colors]
        lines += ["colors = ["]
        lines += [
            f"{row:<18}  # {visible(name)}" if name else row for row, name in zip(rows, names, strict=True)
        ]
        lines += ["]"]
    if meaning.ignore_colors:
        lines += _array("ignore_colors", map(_color, meaning.ignore_colors))
    if meaning.ignore is not None:
        lines += _array("ignore", map(str, meaning.ignore))
    return lines


def _shares(meaning: Meaning, evidence: Evidence | None) -> list[str]:
    """How much of each class was seen, as comments."""
    pixels = dict.fromkeys(meaning.classes, 0)
    if evidence is not None and meaning.color_coded:
        named = zip(meaning.classes, meaning.colors, strict=True)
        pixels = {name: evidence.colors[color] for name, color in named}
    elif evidence is not None:
        for raw, name in (meaning.ids or dict(enumerate(meaning.classes))).items():
            pixels[name] += evidence.ids[raw]
    total = max(1, sum(pixels.values()))
    return [f"{count / total:.2%} of the pixels read" if count else "not seen" for count in pixels.values()]


def _tables(meaning: Meaning) -> list[str]:
    lines: list[str] = []
    if meaning.ids is not None:
        lines += ["", "[ids]", *(f"{raw} = {_quote(name)}" for raw, name in sorted(meaning.ids.items()))]
        lines += [f"{span} = {_quote(name)}" for span, name in meaning.soft_ids.items()]
    if meaning.more_colors:
        lines += ["", "[more_colors]"]
        for name, colors in meaning.more_colors.items():
            lines += _array(_quote(name), map(_color, colors))
    return lines


def _array(key: str, items: Iterable[str]) -> list[str]:
    """A key and its array, over several lines if it is long."""
    items = list(items)
    line = f"{key} = [{', '.join(items)}]"
    if len(line) <= _WIDTH:
        return [line]
    return [f"{key} = [", *(f"  {item}," for item in items), "]"]


def _quote(text: str) -> str:
    if re.search("[\ud800-\udfff]", text):
        raise InputError(f"{text}: is no UTF-8, which TOML cannot hold; rename it")
    quoted = json.dumps(text, ensure_ascii=False)  # a basic string of TOML escapes as JSON does
    return "".join(c if visible(c) == c else f"\\U{ord(c):08x}" for c in quoted)


def _color(color: Color) -> str:
    return f"[{', '.join(map(str, color))}]"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _ranges(numbers: Iterable[int]) -> str:
    """Words numbers as 0–5, 7, 255."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    words = [str(low) if low == high else f"{low}–{high}" for low, high in spans]
    return ", ".join(words[:12]) + (" and more" if len(words) > 12 else "")
