"""What commands print: results as ``--json`` says, help, and what could not be done.

``--json -`` has standard output for itself: nothing else is then printed there.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iccld.escaping import one_line
from iccld.exits import EXIT_USAGE
from iccld.files import write_json

STDOUT = Path("-")


def human_text(target: Path | None) -> contextlib.AbstractContextManager[Any]:
    """Sends what is printed for people to stderr where ``--json -`` has standard output for itself."""
    return contextlib.redirect_stdout(sys.stderr) if target == STDOUT else contextlib.nullcontext()


def write_result(target: Path | None, value: Any) -> None:
    """Writes a result as JSON to a file, to standard output or, if there is no target, not at all."""
    if target == STDOUT:
        print(json.dumps(value, indent=2, allow_nan=False))
    elif target is not None:
        write_json(target, value)


def print_usage(text: str, *, asked: bool) -> int:
    """Prints help on standard output where it was asked for, else as a usage error; gives the exit code."""
    (sys.stdout if asked else sys.stderr).write(text)
    return 0 if asked else EXIT_USAGE


def print_failures(headline: str, failures: Sequence[str]) -> None:
    """Lists on stderr what could not be done, a line each, below a headline; nothing if there is nothing."""
    if failures:
        print("\n  ".join([f"iccld: {headline}:", *map(one_line, failures)]), file=sys.stderr)
