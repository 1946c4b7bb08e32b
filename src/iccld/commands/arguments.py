"""Parsing of flags with tyro. Help texts are printed by tyro. Errors are one line instead of tyro's boxes."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, get_type_hints

from iccld.documents import typed
from iccld.errors import InputError
from iccld.escaping import undisguised


def parse(target: Any, words: Sequence[str], *, prog: str, **settings: Any) -> Any:
    """Builds an instance of the dataclass ``target``, whose fields are flags, from command-line arguments (``words``).

    ``prog`` is the command before these arguments. ``settings`` are further parameters of ``tyro.cli``.

    Raises:
        InputError: An argument is invalid. The message is one line.
        SystemExit: Help was requested and has been printed.
    """
    import tyro

    said = io.StringIO()
    is_help = not {"-h", "--help"}.isdisjoint(words)
    # Without a request for help, tyro only reads the style of its error boxes from standard output.
    output = undisguised(sys.stdout) if is_help else io.TextIOWrapper(io.BytesIO(), "utf-8")
    try:
        with (
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(output),
            contextlib.nullcontext() if is_help else _wide_boxes(),
        ):
            read = tyro.cli(target, args=list(words), prog=prog, **settings)
    except SystemExit as ended:
        if not ended.code:
            raise
        raise InputError(f"{_explain(said.getvalue())}; see {prog} --help") from None
    check_values(read)
    return read


def check_values(values: Any, prefix: str = "--") -> None:
    """Raises ``InputError`` if a field of a dataclass has a wrong type or range. The message names the field's flag.

    ``prefix`` is the beginning of the flags' names.
    """
    for name, hint in get_type_hints(type(values), include_extras=True).items():
        value, flag = getattr(values, name), f"{prefix}{name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            check_values(value, f"{flag}.")
            continue
        try:
            typed(hint, value, flag)
        except InputError as error:
            raise InputError(str(error).removesuffix(" or null")) from None


@contextlib.contextmanager
def _wide_boxes() -> Iterator[None]:
    """Makes tyro's error boxes so wide that no word of a message is split."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def _explain(box: str) -> str:
    """Returns the message in an error box of tyro as one line, without the help texts of flags."""
    lines = [re.sub(r"^│ ?| *│$", "", line) for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    sections = re.split(r"^─+$", "\n".join(lines), flags=re.MULTILINE)
    said = []
    for section in sections:
        text = section.strip("\n").partition("\n\n")[0]
        if not text.startswith(("For full helptext", "Argument helptext")):
            said.append(" ".join(line.strip() for line in text.splitlines() if not line.startswith(" " * 8)))
    # For a wrong value in PredictSettings, tyro prints "Error parsing settings: NAME". Users must see --NAME.
    pattern = r"^Error parsing settings: ([a-z ]+)(?=\[| = )"
    return re.sub(pattern, lambda match: f"--{match[1].replace(' ', '-')}", "; ".join(said)).rstrip(".")
