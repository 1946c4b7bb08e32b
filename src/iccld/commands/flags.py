"""Flags: types that several commands share, and parsing with tyro.

The types contain the placeholders that ``--help`` shows for the values of flags. If the help text of a flag is the same
in all commands, the type also contains the help text. Errors are printed in one line instead of tyro's boxes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from iccld.commands.output import environment_variable
from iccld.documents import Range, typed
from iccld.errors import InputError
from iccld.escaping import undisguised
from iccld.models.settings import PredictSettings

Model = Annotated[Positional[str], arg(metavar="MODEL")]
"""Required argument: one model."""
OptionalModel = Annotated[Positional[str | None], arg(metavar="[MODEL]", help_behavior_hint="")]
Inputs = Annotated[Positional[tuple[str, ...]], arg(metavar="INPUT...", help_behavior_hint="(required)")]
"""Required arguments: one or more files, folders or glob patterns."""
Runs = Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN...", help_behavior_hint="(required)")]
"""Required arguments: one or more folders of runs."""
OutFolder = Annotated[Path, arg(metavar="DIR")]
OptionalFolder = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")]
OptionalFile = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")]
JsonFile = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(- for standard output)")]
"""File for a command's result as JSON, or ``-`` for standard output. See ``iccld.commands.output``."""
_MAP = (
    "Predict other classes, whose probabilities are sums over the model's classes: cityscapes19, synthia16, camvid11, "
    "or a TOML file whose table 'classes' lists the model's classes of each new class."
)
ClassMap = Annotated[str | None, arg(metavar="NAME|FILE", help=_MAP, help_behavior_hint="")]
OptionalName = Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")]
Count = Annotated[int, Range(1, 10**9)]
OptionalCount = Annotated[Count | None, arg(metavar="N", help_behavior_hint="")]
OptionalSeconds = Annotated[
    Annotated[float, Range(1e-12, 1e9)] | None, arg(metavar="S", help_behavior_hint="")
]
ShardFlag = Annotated[str | None, arg(metavar="I/N", help_behavior_hint="")]
Jobs = Annotated[int, Range(0, 4096)]
"""Number of threads or processes. 0 means automatic."""
Threads = Annotated[Jobs, arg(help="Number of CPU threads. 0 means automatic.")]
Device = Annotated[str, arg(help="Device: auto, cpu, cuda, cuda:1, ...")]
Seed = Annotated[int, Range(0, 2**62)]
Prediction = Annotated[PredictSettings, OmitArgPrefixes]
"""Settings of prediction. Each field of ``PredictSettings`` becomes a flag without a prefix."""


def parse(target: Any, words: Sequence[str], *, prog: str, **settings: Any) -> Any:
    """Builds an instance of the dataclass ``target``, whose fields are flags, from command-line arguments (``words``).

    ``prog`` is the command before these arguments. ``settings`` are further parameters of ``tyro.cli``.

    Raises:
        InputError: An argument is invalid. The message is one line.
        SystemExit: Help was requested and has been printed.
    """
    said = io.StringIO()
    is_help = not {"-h", "--help"}.isdisjoint(words)
    # Without a request for help, tyro only reads the style of its error boxes from standard output.
    output = undisguised(sys.stdout) if is_help else io.TextIOWrapper(io.BytesIO(), "utf-8")
    try:
        with (
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(output),
            environment_variable("COLUMNS", None if is_help else "1000"),  # so wide that no word is split
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
