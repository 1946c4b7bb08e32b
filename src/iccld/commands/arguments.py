"""Reading flags: ``--help`` as tyro prints it, mistakes in one line instead of tyro's boxes."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from iccld.documents import Range
from iccld.errors import InputError
from iccld.escaping import undisguised
from iccld.labels import suggest

_WIDE = "1000"  # columns: no word of a message is broken in two


def parse(target: Any, words: Sequence[str], *, prog: str, **settings: Any) -> Any:
    """Reads the words after a command's name.

    Args:
        target: a dataclass whose fields are the flags.
        words: as typed.
        prog: name of the command for help and messages.
        **settings: further arguments of ``tyro.cli``.

    Returns:
        An instance of the dataclass.

    Raises:
        InputError: a mistake, said in one line.
        SystemExit: help was asked for and printed.
    """
    import tyro

    said = io.StringIO()
    try:
        # Help is drawn, and holds nothing of others.
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(undisguised(sys.stdout)):
            read = tyro.cli(target, args=list(words), prog=prog, **settings)
        check_numbers(read)
        return read
    except SystemExit as ended:
        if not ended.code:
            raise
    said = io.StringIO()
    # Reading has no effects, so it is done again for the message's sake: of --flag=value tyro knows no likeness.
    split = [part for w in words for part in (w.split("=", 1) if w.startswith("--") else (w,))]
    unicode = io.TextIOWrapper(io.BytesIO(), "utf-8")  # where stdout is ASCII, boxes have another form
    with (
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(unicode),
        _columns(_WIDE),
        contextlib.suppress(SystemExit),
    ):
        tyro.cli(target, args=split, prog=prog, **settings)
    raise InputError(f"{_explain(said.getvalue())}; see {prog} --help")


def check_numbers(values: Any, prefix: str = "--") -> None:
    """Refuses numbers that are not finite or beyond the ``Range`` in the types of a dataclass's fields.

    Args:
        values: an instance; fields may be such dataclasses themselves.
        prefix: what its flags begin with.

    Raises:
        InputError: names the flag and what it takes.
    """
    hints = get_type_hints(type(values), include_extras=True)
    for field in dataclasses.fields(values):
        value, flag = getattr(values, field.name), f"{prefix}{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            check_numbers(value, f"{flag}.")
            continue
        limits = next(_ranges(hints[field.name]), Range(-math.inf, math.inf))
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                fits = math.isfinite(number) and limits.low <= number <= limits.high
                if not fits:
                    given = " ".join(map(str, value)) if isinstance(value, tuple) else number
                    raise InputError(f"{flag} is {given}; give {_allowed(limits)}")


def _ranges(hint: Any) -> Iterator[Range]:
    """The ranges within a type, outer ones first."""
    if get_origin(hint) is Annotated:
        yield from (part for part in get_args(hint)[1:] if isinstance(part, Range))
    for part in get_args(hint):
        if not isinstance(part, Range):
            yield from _ranges(part)


def _allowed(limits: Range) -> str:
    if math.isinf(limits.low):
        return "a finite number"
    above_zero = 0 < limits.low < 1e-9
    if limits.high >= 10**9:
        return "a number above 0" if above_zero else f"{limits.low:g} or more"
    if above_zero:
        return f"a number above 0, {limits.high:g} at most"
    return f"{limits.low:g} to {limits.high:.10g}"


@contextlib.contextmanager
def _columns(width: str) -> Iterator[None]:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = width
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _explain(box: str) -> str:
    """What a box of tyro's says, in a few words; the words of the box itself where its form is not known."""
    lines = [re.sub(r"^│ ?| *│$", "", line) for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    parts: list[list[str]] = [[]]
    for line in lines:
        if line.strip("─ "):
            parts[-1].append(line)
        elif line.strip():
            parts.append([])
    text = " ".join(line.strip() for line in parts[0])
    if match := re.fullmatch(r"Unrecognized options: (.*)", text):
        return _explain_unknown(match[1].split(", "), [line for part in parts[1:] for line in part])
    if text.startswith("Missing from "):
        # The names are indented once, their help twice.
        names = [line.strip() for line in parts[0][1:] if re.match(r" {4}\S", line)]
        missing = f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} missing"
        strange = [part for part in parts[1:] if part[0].startswith("Unrecognized options:")]
        if not strange:
            return missing
        return f"{_explain_unknown([line.strip() for line in strange[0][1:]], parts[0])}; {missing}"
    if match := re.match(r"invalid choice '(.*?)' for argument '(.*?)'\. Expected one of \((.*?)\)", text):
        choices = re.findall(r"'([^']+)'", match[3])
        return f"{match[2]} cannot be {match[1]!r}; {suggest(match[1], choices)}"
    if match := re.match(r"Error parsing (\S+): no type matching (.+?) could be .*? from \[(.*?)\]", text):
        kinds = re.sub(r"\{None\}\||[{}]", "", match[2])
        return f"{match[1]} takes {kinds}, not {match[3].replace(',', '')}"
    text = text.split(" Got errors:")[0].removeprefix("Error parsing ").rstrip(".")
    return text[:1].lower() + text[1:]


def _explain_unknown(words: Sequence[str], hints: Sequence[str]) -> str:
    unknown = next((word for word in words if word.startswith("-")), None)
    if unknown is None:
        return f"unexpected argument {words[0]!r}"
    name = unknown.split("=")[0]
    flags = [match[1] for line in hints if (match := re.match(r" {4}(?:|\S.*?)(--[\w.-]+)", line))]
    near = difflib.get_close_matches(name, flags, 1, cutoff=0.4)
    return f"unknown flag {name}" + (f"; did you mean {near[0]}?" if near else "")
