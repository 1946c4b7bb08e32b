"""What ``--json`` means in every command: a file, or - for standard output, where nothing else is then printed."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from iccld.escaping import one_line
from iccld.files import write_json

STDOUT = Path("-")


@contextlib.contextmanager
def human_text(target: Path | None) -> Iterator[None]:
    """Sends what is printed for people to stderr where ``--json -`` has standard output for itself."""
    with contextlib.redirect_stdout(sys.stderr) if target == STDOUT else contextlib.nullcontext():
        yield


def write_result(target: Path | None, value: Any) -> None:
    """Writes a result as JSON to a file, to standard output or, if there is no target, not at all.

    Raises:
        InputError: the file cannot be written.
    """
    if target == STDOUT:
        print(json.dumps(value, indent=2, allow_nan=False))
    elif target is not None:
        write_json(target, value)


def print_failures(headline: str, failures: Sequence[str]) -> None:
    """Lists on stderr what could not be done; nothing if there is nothing.

    Args:
        headline: how many of what, and what is the matter.
        failures: a line each.
    """
    if failures:
        print("\n  ".join([f"iccld: {headline}:", *map(one_line, failures)]), file=sys.stderr)
