"""Errors that end a command with one line instead of a traceback."""

from __future__ import annotations

import importlib
from typing import Any

from iccld.escaping import one_line


class InputError(ValueError):
    """Error for bad input. The message is one line that names the file, the problem and the remedy.

    The command line prints the message on stderr without a traceback and exits with code 2. The message may contain
    names of files and classes. Control characters in the message are escaped, so that the message is safe to print.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


def how_to_install(extra: str) -> str:
    """Returns an instruction to install an extra with pip in a clone, because iccld is not on a package index."""
    return f"run in the clone of iccld: pip install '.[{extra}]'"


def import_extra(module: str, needs: str, extra: str) -> Any:
    """Imports a module of an optional package.

    If it is not installed, raises ``InputError`` with ``needs``, such as "iccld tune needs Optuna", and the name of the
    extra that has the package.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"{needs}, which is not installed; {how_to_install(extra)}") from error


class RunFailedError(RuntimeError):
    """Error for a failure with valid input, such as a full disk, a diverged loss or a killed process.

    The message is one line that names the cause and the remedy. The exit code is 1.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


def first_line(error: Exception) -> str:
    """Returns the first non-blank line of an error's message, or the error's class name if the message is blank."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
