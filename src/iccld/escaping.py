"""Escaping of untrusted text in outputs. Names of classes and files can come from other people's models and data sets.

Some characters have a meaning in an output: control characters in a terminal, ``<`` in HTML, ``|`` in a Markdown table
and ``=`` in a spreadsheet. This module has functions for terminals, Markdown and spreadsheets, but not for HTML.
Ordinary names stay unchanged.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any, TextIO, cast

# Unicode categories of control characters, invisible and bidirectional format characters, lone surrogates, and line
# and paragraph separators.
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_PLAIN = re.compile(r"[ -~\u00a1-\u00ac\u00ae-\u05ff]*")  # fast check, which most texts pass
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # first characters of formulas


def visible(text: str, keep: str = "") -> str:
    r"""Returns a text as one line, with every control character replaced by its escape, such as ``\x1b``.

    Zero-width characters, bidirectional control characters and lone surrogates are escaped too. Characters in ``keep``
    stay unchanged.
    """
    if _PLAIN.fullmatch(text):
        return text
    hidden = {c for c in set(text) if c not in keep and unicodedata.category(c) in _UNSEEN}
    return text.translate({ord(c): c.encode("unicode_escape").decode() for c in hidden})


def visible_lines(text: str) -> str:
    """Returns a text escaped as by ``visible``, but with unchanged line breaks and tabs."""
    return visible(text, keep="\n\t")


def one_line(text: str) -> str:
    """Returns a message as one line. Its lines are joined, and control characters are escaped."""
    return visible(" ".join(part.strip() for part in text.split("\n") if part.strip()))


def has_unseen(text: str) -> bool:
    """Returns whether a text contains control characters, lone surrogates, or line or paragraph separators."""
    return any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)


def shortened(value: object, length: int = 60) -> str:
    """Returns the ``repr`` of a value in one line, for messages.

    A ``repr`` of more than ``length + 2`` characters is cut to ``length`` characters and an ellipsis.
    """
    if isinstance(value, int) and abs(value) >= 10**length:
        return "a number of very many digits"  # Python refuses to print very large integers
    if isinstance(value, str | bytes | list | tuple):
        value = value[: length + 1]
    try:
        text = visible(repr(value))
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"
    return text if len(text) <= length + 2 else f"{text[:length]}…"


def in_markdown(text: str) -> str:
    """Escapes text for a Markdown paragraph, heading or cell. Markup, HTML, links and user mentions have no effect."""
    text = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~$])", r"\\\1", text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # inside a word, _ is not markup
    # Markdown viewers turn URLs and mentions of users into links even without markup.
    return text.replace("://", "&#58;//").replace("www.", "www&#46;").replace("@", "&#64;")


def in_csv(value: object) -> object:
    """Returns a value for a CSV cell. Text that a spreadsheet would read as a formula gets the prefix ``./``."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"./{text}" if text.lstrip().startswith(_FORMULA) else text


class VisibleStream:
    """Text stream that escapes all control characters except line breaks and tabs, and writes to the stream ``raw``.

    ``raw`` is ``None`` if the file descriptor ``number`` (1 or 2) was closed when the program started. Every write is
    then recorded as a failure. After the first failed write, further text is dropped, so that a full disk does not end
    the program. ``BrokenPipeError`` on standard output is raised nevertheless.
    """

    def __init__(self, raw: Any, number: int = 0) -> None:
        self.failure: OSError | None = None
        self._is_closed, self._is_output = raw is None, number == 1
        self.raw = open(number, "w", encoding="utf-8", closefd=False) if raw is None else raw  # noqa: SIM115

    def write(self, text: str) -> int:
        """Writes a text and returns its length."""
        if self._is_closed and text:
            self.failure = OSError(errno.EBADF, "it is closed")
        with self._noticing_failures():
            self.raw.write(visible_lines(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Writes buffered text."""
        with self._noticing_failures():
            self.raw.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)

    @contextlib.contextmanager
    def _noticing_failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error
            # At exit, the interpreter tries again to write buffered text. This attempt would fail too, so the stream
            # is redirected to the null device.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.raw.fileno())
            if self._is_output and isinstance(error, BrokenPipeError):
                raise


def undisguised(stream: Any) -> Any:
    """Returns the stream inside all wrappers of ``stream``. Text written to the inner stream is not escaped."""
    if isinstance(stream, VisibleStream):
        return undisguised(stream.raw)
    if hasattr(type(stream), "rich_proxied_file"):  # rich's wrapper while a progress bar is drawn
        return undisguised(stream.rich_proxied_file)
    return stream


class DrawingStream:
    """Proxy for the original stream of ``sys.stderr``, without the wrappers that escape control characters.

    ``sys.stderr`` is looked up again at each access.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(undisguised(sys.stderr), name)


@contextlib.contextmanager
def visible_streams() -> Iterator[VisibleStream]:
    """Escapes control characters in all printed text, so that names of files and classes cannot act on the terminal.

    Closed file descriptors among 0, 1 and 2 are opened on the null device. If such a descriptor stayed closed, a file
    that is opened later could get its number, and libraries would write their output into this file. Yields the
    ``VisibleStream`` of standard output. Its attribute ``failure`` is the first write error.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    before = sys.stdout, sys.stderr
    output, errors = VisibleStream(sys.stdout, 1), VisibleStream(sys.stderr, 2)
    sys.stdout, sys.stderr = cast(TextIO, output), cast(TextIO, errors)
    try:
        yield output
    finally:
        with contextlib.suppress(BrokenPipeError):
            output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before


def drawing_on_stderr() -> contextlib.AbstractContextManager[Any]:
    """Returns a context for a library's progress bars on stderr. Text printed in this context is not escaped."""
    return contextlib.redirect_stderr(undisguised(sys.stderr))
