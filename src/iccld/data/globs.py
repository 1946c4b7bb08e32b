"""Glob patterns for paths. Matching time does not grow exponentially with the number of wildcards."""

from __future__ import annotations

import fnmatch
import itertools
import os
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from iccld.errors import InputError
from iccld.escaping import shortened

_MOST_ALTERNATIVES = 256
_MOST_CHARACTERS = 1000


class _Token(NamedTuple):
    """A character or a wildcard of a pattern. ``number`` is the index of the wildcard, or -1 for a character."""

    text: str
    number: int = -1


class Glob:
    """A glob pattern for paths with ``/`` as the separator.

    ``*`` matches any part of a name, ``?`` one character, and ``**/`` any number of folders, including zero. If several
    matches are possible, earlier wildcards match as much text as possible.

    Args:
        pattern: Text of the glob pattern.
        braces: Whether ``{a,b}`` matches a or b.
        sets: Whether ``[abc]`` and ``[!abc]`` match one character of a set.

    Raises:
        InputError: The pattern is too long, has too many alternatives in braces, or has an unpaired brace.
    """

    def __init__(self, pattern: str, *, braces: bool = False, sets: bool = False) -> None:
        if len(pattern) > _MOST_CHARACTERS:
            raise InputError(f"a glob has {len(pattern)} characters; {_MOST_CHARACTERS} are allowed")
        forms = r"(?<![^/{},])\*\*/|" + r"\[!?+[^/][^\]/]*\]|" * sets + "."
        tokens: list[_Token] = []
        self.num_wildcards = 0
        for text in re.findall(forms, pattern, re.DOTALL):
            is_wildcard = text in ("*", "?") or len(text) > 1
            tokens.append(_Token(text, self.num_wildcards if is_wildcard else -1))
            self.num_wildcards += is_wildcard
        alternatives = _write_out(tokens, pattern) if braces else [tokens]
        self._expressions = [re.compile(_expression(each), re.DOTALL) for each in alternatives]

    def match(self, name: str) -> tuple[str, ...] | None:
        """Matches a whole path. Returns the texts that the wildcards match, or ``None`` if the path does not match.

        The texts are in the order of the wildcards. Only one of the alternatives in braces matches. Wildcards in the
        other alternatives give empty texts.
        """
        for expression in self._expressions:
            found = expression.fullmatch(name[::-1])
            if found is not None:
                groups = found.groupdict("")
                return tuple(groups.get(f"w{number}", "")[::-1] for number in range(self.num_wildcards))
        return None


@lru_cache(maxsize=256)
def data_glob(pattern: str) -> Glob:
    """Parses a glob pattern of ``dataset.toml``: braces list alternatives, and ``[`` is an ordinary character."""
    return Glob(pattern, braces=True)


def data_key(pattern: str, name: str) -> tuple[str, ...] | None:
    """Returns the key of a path: the texts that the wildcards of a ``dataset.toml`` pattern match in the path.

    An image and a label map with equal keys are a pair. If the path does not match, ``None`` is returned. ``.*`` at the
    end of a pattern matches any extension, which is not part of the key. The key is in Unicode form NFC, since
    file names can contain accented letters in two Unicode forms.
    """
    if pattern.endswith(".*"):
        pattern, name = pattern[:-2], os.path.splitext(name)[0]
    found = data_glob(pattern).match(name)
    return None if found is None else tuple(unicodedata.normalize("NFC", part) for part in found)


def fixed_folders(pattern: str, magic: str) -> tuple[list[str], str]:
    """Splits a glob pattern into two parts: the folders before the first wildcard, and the rest.

    Without a wildcard, the rest is the last name in the path. ``magic`` lists the characters that begin a wildcard.
    """
    parts = pattern.split("/")
    begins = (i for i, part in enumerate(parts) if any(character in part for character in magic))
    fixed = next(begins, len(parts) - 1)
    return parts[:fixed], "/".join(parts[fixed:])


def _write_out(tokens: list[_Token], pattern: str) -> list[list[_Token]]:
    """Returns one pattern without braces for each combination of alternatives in braces."""
    written, waiting = [], [tokens]
    while waiting:
        each = waiting.pop()
        texts = [token.text for token in each]
        if "{" not in texts and "}" not in texts:
            written.append(each)
            continue
        start = texts.index("{") if "{" in texts else len(texts)
        depths = [*itertools.accumulate((text == "{") - (text == "}") for text in texts)]
        end = depths.index(0, start) if 0 in depths[start:] else -1
        if end < 0 or "}" in texts[:start]:
            raise InputError(
                f"{shortened(pattern)} has a brace without its partner; close the brace, as in *.{{jpg,png}}"
            )
        commas = [i for i in range(start, end) if depths[i] == 1 and texts[i] == ","]
        parts = itertools.pairwise([start, *commas, end])
        waiting += [[*each[:start], *each[one + 1 : other], *each[end + 1 :]] for one, other in parts][::-1]
        if len(written) + len(waiting) > _MOST_ALTERNATIVES:
            raise InputError(
                f"a glob has more than {_MOST_ALTERNATIVES} alternatives in braces; use * instead"
            )
    return written


def _expression(tokens: Sequence[_Token]) -> str:
    r"""Returns a regular expression for paths whose characters are in reverse order.

    The part of the pattern between two wildcards ``**/``, or between two ``*`` in a name, is matched at its first
    possible place. This place leaves the most text for the rest of the pattern, so other places need not be tried.
    Atomic groups ``(?>…)`` prevent such tries (backtracking), which would take exponential time.
    """
    segments: list[list[list[_Token]]] = [[[]]]
    gaps: list[int] = []
    for token in tokens:
        if token.text == "**/":
            gaps.append(token.number)
            segments.append([[]])
        elif token.text == "/":
            segments[-1].append([])
        else:
            segments[-1][-1].append(token)
    first, *others = ["/".join(map(_part, reversed(segment))) for segment in reversed(segments)]
    text = first
    for place, (number, segment) in enumerate(zip(reversed(gaps), others, strict=True), start=1):
        gap = f"(?:/(?P<w{number}>.*?))??"
        text += f"(?>{gap}{segment})" if place < len(others) else gap + segment
    return text


def _part(tokens: Sequence[_Token]) -> str:
    """Returns the regular expression for one folder or file name whose characters are in reverse order."""
    blocks, numbers = [""], []
    for token in reversed(tokens):
        if token.text == "*":
            numbers.append(token.number)
            blocks.append("")
        else:
            blocks[-1] += _character(token)
    text = blocks[0]
    for place, (number, block) in enumerate(zip(numbers, blocks[1:], strict=True), start=1):
        gap = f"(?P<w{number}>[^/]*?){block}"
        text += f"(?>{gap})" if place < len(numbers) else gap
    return f"(?>{text}(?=/|\\Z))"


def _character(token: _Token) -> str:
    if token.number < 0:
        return re.escape(token.text)
    if token.text == "?":
        return f"(?P<w{token.number}>[^/])"
    inner = fnmatch.translate(token.text).removeprefix("(?s:").rpartition(")")[0]
    return f"(?P<w{token.number}>(?!/){inner})"
