"""The one exception that means "the user can mend this"."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input: the message is one line that names the file, what is wrong and what to do.

    The command line prints it on stderr without a traceback and exits with code 2.
    """
