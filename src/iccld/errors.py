"""The errors that end a command with one line instead of a traceback."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input: the message is one line that names the file, what is wrong and what to do.

    The command line prints it on stderr without a traceback and exits with code 2.
    """


class RunFailedError(RuntimeError):
    """The work failed though nothing is wrong with its input: a full disk, a loss that diverged, a killed process.

    The message is one line that names the cause and the remedy. The command line prints it on stderr without a
    traceback and exits with code 1.
    """
