"""Text of others where it leaves: names of classes and files come from models, data sets and folders of strangers.

Control characters act on a terminal, ``<`` on a page, ``|`` on a table in Markdown, ``=`` on a spreadsheet. Every
exit has its function here; none of them changes ordinary names.
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

# Control characters and lone surrogates, characters that are not seen or turn the direction of writing, and the
# separators of lines and paragraphs.
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_PLAIN = re.compile(r"[ -~\u00a1-\u00ac\u00ae-\u05ff]*")  # without any of them, which most text is
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # of East Asian width too


def visible(text: str, keep: str = "") -> str:
    r"""Text in which every control character is shown as its escape, such as ``\x1b``; it is one line.

    Also shown are characters without a width, those that turn the direction of writing, and lone surrogates. Those in
    ``keep`` stay as they are.
    """
    if _PLAIN.fullmatch(text):
        return text
    return "".join(
        c.encode("unicode_escape").decode() if c not in keep and unicodedata.category(c) in _UNSEEN else c
        for c in text
    )


def visible_lines(text: str) -> str:
    """The same, with line breaks and tabs as they are."""
    return visible(text, keep="\n\t")


def one_line(text: str) -> str:
    """A message in one line: its lines are joined, and control characters shown."""
    return visible(" ".join(part.strip() for part in text.split("\n") if part.strip()))


def has_unseen(text: str) -> bool:
    """Whether a text holds control characters, lone surrogates or separators of lines."""
    return any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)


def shortened(value: object, length: int = 60) -> str:
    """A value as Python writes it, for messages: in one line, and cut where it is long."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**length:
        return "a number of very many digits"  # writing all of them is refused by Python
    if isinstance(value, str | bytes):
        value = value[: length + 1]
    elif isinstance(value, list | tuple) and len(value) > length:
        value = value[:length]
    try:
        text = visible(repr(value))
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"
    return text if len(text) <= length + 2 else f"{text[:length]}…"


def in_markdown(text: str) -> str:
    """Plain text within a paragraph, heading or table cell: no markup, no HTML, no link, no mention of a user."""
    text = visible(text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~$])", r"\\\1", text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # within a word it means nothing
    # Addresses and mentions become links without any markup.
    return text.replace("://", "&#58;//").replace("www.", "www&#46;").replace("@", "&#64;")


def in_csv(value: object) -> object:
    """A cell for a table that a spreadsheet may open: a path that it would take for a formula begins with ``./``."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"./{text}" if text.lstrip().startswith(_FORMULA) else text


class VisibleStream:
    """A text stream in which control characters of what is written are shown; line breaks and tabs pass.

    What the program itself draws, such as bars and colors, is written to ``raw``; None stands for a descriptor
    (``number``) that was closed. After the first failure, what is written is dropped, so that a full disk behind
    standard output does not end the work; a reader of it that went away still raises ``BrokenPipeError``.
    """

    def __init__(self, raw: Any, number: int = 0) -> None:
        self.failure: OSError | None = None
        self._is_closed, self._is_output = raw is None, number == 1
        self.raw = open(number, "w", encoding="utf-8", closefd=False) if raw is None else raw  # noqa: SIM115

    def write(self, text: str) -> int:
        """Writes text; returns its length."""
        if self._is_closed and text:
            self.failure = OSError(errno.EBADF, "it is closed")
        with self._noticing_failures():
            self.raw.write(visible_lines(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes pieces of text."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Writes what is held back."""
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
            # What the stream holds back is written once more when the interpreter ends: let it go nowhere.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.raw.fileno())
            if self._is_output and isinstance(error, BrokenPipeError):
                raise


def undisguised(stream: Any) -> Any:
    """The stream below a ``VisibleStream``, for what the program itself draws; any other stream itself."""
    while True:
        if isinstance(stream, VisibleStream):
            stream = stream.raw
        elif hasattr(type(stream), "rich_proxied_file"):  # what rich puts there while a bar is drawn
            stream = stream.rich_proxied_file
        else:
            return stream


class DrawingStream:
    """Standard output or standard error (``stdout`` or ``stderr``) as it is when something is drawn."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(undisguised(getattr(sys, self.name)), name)


@contextlib.contextmanager
def visible_streams() -> Iterator[VisibleStream]:
    """Makes everything that is printed visible: names of files and classes cannot act on the terminal.

    Descriptors that are closed are opened to nowhere: a file that is opened later must not take their numbers, or what
    libraries print would be written into that file.

    Yields:
        Standard output; its ``failure`` says why it could not be written.
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
    """Lets a library of ours draw bars on standard error; nothing else is to be printed meanwhile."""
    return contextlib.redirect_stderr(undisguised(sys.stderr))
