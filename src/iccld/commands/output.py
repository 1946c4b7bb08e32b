"""Output of commands: results as JSON (flag ``--json``), help texts and lists of failures.

With ``--json -``, standard output contains only the JSON, and all other text is printed on stderr. The module can also
set environment variables temporarily.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from iccld.escaping import one_line
from iccld.exits import EXIT_USAGE
from iccld.files import write_json

STDOUT = Path("-")


def human_text(target: Path | None) -> contextlib.AbstractContextManager[Any]:
    """Returns a context for printed text. If ``target`` is ``-`` (JSON on standard output), the text goes to stderr."""
    return contextlib.redirect_stdout(sys.stderr) if target == STDOUT else contextlib.nullcontext()


def write_result(target: Path | None, value: Any) -> None:
    """Writes a result as JSON to a file, or to standard output for ``-``. Writes nothing if ``target`` is ``None``."""
    if target == STDOUT:
        print(json.dumps(value, indent=2, allow_nan=False))
    elif target is not None:
        write_json(target, value)


def print_usage(text: str, *, asked: bool) -> int:
    """Prints a help text and returns the exit code.

    If the user requested help (``asked``), the text goes to standard output with exit code 0. Otherwise, the command
    was used wrongly, and the text goes to stderr.
    """
    (sys.stdout if asked else sys.stderr).write(text)
    return 0 if asked else EXIT_USAGE


def print_failures(headline: str, failures: Sequence[str]) -> None:
    """Prints a headline and one line per failure on stderr. Without failures, nothing is printed."""
    if failures:
        print("\n  ".join([f"iccld: {headline}:", *map(one_line, failures)]), file=sys.stderr)


@contextlib.contextmanager
def environment_variable(name: str, value: str | None) -> Iterator[None]:
    """Sets an environment variable within the context. If ``value`` is ``None``, the variable is left as it is."""
    before = os.environ.get(name)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
