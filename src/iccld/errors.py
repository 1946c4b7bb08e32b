"""The errors that end a command with one line instead of a traceback."""

from __future__ import annotations

from iccld.escaping import one_line


class InputError(ValueError):
    """Bad input: the message is one line that names the file, what is wrong and what to do.

    The command line prints it on stderr without a traceback and exits with code 2. Names of files and classes may be
    parts of it: control characters are shown as escapes, so that it is safe to print.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


def how_to_install(extra: str) -> str:
    """Says how an extra of this project is installed: it is on no package index, so the words name the clone."""
    return f"run in the clone of iccld: pip install '.[{extra}]'"


class RunFailedError(RuntimeError):
    """The work failed though nothing is wrong with its input: a full disk, a loss that diverged, a killed process.

    The message is one line that names the cause and the remedy; the exit code is 1.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


def first_line(error: Exception) -> str:
    """The first line of an error's message that says something; the kind of the error if none does."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
