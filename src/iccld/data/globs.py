"""Matching names with globs in time that grows with the length of the name, whatever the glob."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from iccld.errors import InputError

_MOST_ALTERNATIVES = 256
_MOST_CHARACTERS = 1000


@dataclass(frozen=True)
class _Wildcard:
    """``*`` (many characters), ``?`` or ``[abc]`` (one that fits), or ``**/`` (folders), as the n-th of a glob."""

    number: int
    kind: str
    fits: Callable[[str], bool] = lambda character: True


_Token = str | _Wildcard
_Tokens = tuple[_Token, ...]
"""Of one part between slashes: literal characters and wildcards; or ``**/`` alone."""
_Found = dict[int, str]
"""What the wildcards stand for, by their number."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Pieces(Generic[_T]):
    """Blocks of fixed length, and between them gaps of any length.

    Attributes:
        blocks: one more than there are gaps; a text where all items are characters.
        gaps: the numbers of the wildcards that are gaps.
    """

    blocks: Sequence[Sequence[_T] | str]
    gaps: Sequence[int]


class Glob:
    """A glob over paths with ``/``.

    ``*`` stands for any part of a name, ``?`` for one character, ``**/`` for any folders or none. Where several
    readings fit, earlier wildcards stand for as much as they can.

    Args:
        pattern: the glob.
        braces: whether ``{a,b}`` stands for a or b.
        sets: whether ``[abc]`` and ``[!abc]`` stand for one character of a set.

    Raises:
        InputError: it is too long or has too many alternatives in braces.
    """

    def __init__(self, pattern: str, *, braces: bool = False, sets: bool = False) -> None:
        if len(pattern) > _MOST_CHARACTERS:
            raise InputError(f"a glob has {len(pattern)} characters; {_MOST_CHARACTERS} are allowed")
        reader = _Reader(pattern, braces, sets)
        sequences = reader.sequence()
        self.num_wildcards = reader.number
        parts = [_parts(tokens) for tokens in sequences]
        self._alternatives = [_split([_part(tokens) for tokens in each], _is_gap) for each in parts]

    def match(self, name: str) -> tuple[str, ...] | None:
        """Matches a whole path; returns what each wildcard stands for, in order, or None.

        Wildcards of an alternative that was not taken stand for nothing.
        """
        components = name.split("/")
        for parts in self._alternatives:
            found = _place(parts, components, _match_part, "/")
            if found is not None:
                return tuple(found.get(number, "") for number in range(self.num_wildcards))
        return None

    def may_lie_in(self, folder: str) -> bool:
        """Whether a path in a folder, or deeper in it, could match."""
        components = folder.split("/")
        for parts in self._alternatives:
            first = parts.blocks[0]
            if not parts.gaps and len(first) <= len(components):
                continue
            known = zip(first, components, strict=False)
            if all(_match_part(part, component) is not None for part, component in known):
                return True
        return False


@lru_cache(maxsize=256)
def data_glob(pattern: str) -> Glob:
    """A glob as ``dataset.toml`` has it: with braces, and ``[`` as an ordinary character.

    Raises:
        InputError: as of ``Glob``.
    """
    return Glob(pattern, braces=True)


def data_key(pattern: str, name: str) -> tuple[str, ...] | None:
    """What the wildcards of a glob of ``dataset.toml`` stand for in a path, by which images and labels are paired.

    Letters with accents are the same in whichever of the two forms of Unicode a system writes them.

    Raises:
        InputError: as of ``Glob``.
    """
    found = data_glob(pattern).match(name)
    return None if found is None else tuple(unicodedata.normalize("NFC", part) for part in found)


def fixed_folders(pattern: str, magic: str) -> tuple[list[str], str]:
    """Splits a glob into the folders before the first wildcard, and the rest.

    Args:
        pattern: the glob; without a wildcard the rest is its last part.
        magic: the characters that begin a wildcard.
    """
    parts = pattern.split("/")
    begins = (i for i, part in enumerate(parts) if any(character in part for character in magic))
    fixed = next(begins, len(parts) - 1)
    return parts[:fixed], "/".join(parts[fixed:])


class _Reader:
    """Reads a glob from left to right; alternatives are written out."""

    def __init__(self, pattern: str, braces: bool, sets: bool) -> None:
        forms = [r"\*\*/"] + [r"\[!?\]?[^\]/]*\]"] * sets + ["."]
        self._words = re.findall("|".join(forms), pattern, re.DOTALL)
        self._braces, self._sets = braces, sets
        self._place = 0
        self.number = 0

    def sequence(self, inside: bool = False) -> list[_Tokens]:
        """Reads up to the end, or to the comma or brace that ends an alternative."""
        done: list[_Tokens] = [()]
        while self._place < len(self._words):
            word = self._words[self._place]
            if inside and word in (",", "}"):
                break
            self._place += 1
            if word == "{" and self._braces:
                choices = self._choices()
                done = [tokens + choice for tokens in done for choice in choices]
                if len(done) > _MOST_ALTERNATIVES:
                    raise InputError(
                        f"a glob has more than {_MOST_ALTERNATIVES} alternatives in braces; use * instead"
                    )
            else:
                token = self._token(word)
                done = [(*tokens, token) for tokens in done]
        return done

    def _choices(self) -> list[_Tokens]:
        choices = self.sequence(inside=True)
        while self._place < len(self._words):
            self._place += 1
            if self._words[self._place - 1] == "}":
                break
            choices += self.sequence(inside=True)
            if len(choices) > _MOST_ALTERNATIVES:
                break
        return choices

    def _token(self, word: str) -> _Token:
        if word not in ("*", "?", "**/") and not (self._sets and len(word) > 1):
            return word
        self.number += 1
        if len(word) > 1 and word[0] == "[":
            return _Wildcard(self.number - 1, "?", _set(word))
        return _Wildcard(self.number - 1, word)


def _set(word: str) -> Callable[[str], bool]:
    """What fits ``[a-c_]`` or ``[!a-c_]``."""
    inverted = word.startswith("[!")
    inner = word[2 if inverted else 1 : -1]
    ranges: list[tuple[str, str]] = []
    while inner:
        if len(inner) >= 3 and inner[1] == "-":
            ranges.append((inner[0], inner[2]))
            inner = inner[3:]
        else:
            ranges.append((inner[0], inner[0]))
            inner = inner[1:]
    return lambda character: any(low <= character <= high for low, high in ranges) != inverted


def _parts(tokens: Sequence[_Token]) -> list[_Tokens]:
    """Splits tokens at slashes."""
    parts: list[list[_Token]] = [[]]
    for token in tokens:
        part = parts[-1]
        if isinstance(token, _Wildcard) and token.kind == "**/":
            # Behind other characters it is no more than a * and a slash.
            part.append(token if not part else _Wildcard(token.number, "*"))
            parts.append([])
        elif token == "/":
            parts.append([])
        else:
            part.append(token)
    return [tuple(part) for part in parts]


def _kind(token: _Token) -> str:
    return token.kind if isinstance(token, _Wildcard) else ""


def _part(tokens: _Tokens) -> _Wildcard | _Pieces[_Token]:
    """A part as it is matched: split at its stars, or ``**/``."""
    if len(tokens) == 1 and isinstance(tokens[0], _Wildcard) and tokens[0].kind == "**/":
        return tokens[0]
    return _split(tokens, lambda token: _kind(token) == "*")


def _is_gap(part: _Wildcard | _Pieces[_Token]) -> bool:
    return isinstance(part, _Wildcard)


def _match_part(part: str | _Wildcard | _Pieces[_Token], name: str) -> _Found | None:
    """Matches one part with one name."""
    assert isinstance(part, _Pieces)
    return _place(part, name, _match_character, "")


def _match_character(token: _Token, character: str) -> _Found | None:
    if isinstance(token, str):
        return {} if token == character else None
    return {token.number: character} if token.fits(character) else None


def _split(items: Sequence[_T], is_gap: Callable[[_T], bool]) -> _Pieces[_T]:
    blocks: list[list[_T]] = [[]]
    gaps: list[int] = []
    for item in items:
        if is_gap(item):
            assert isinstance(item, _Wildcard)
            gaps.append(item.number)
            blocks.append([])
        else:
            blocks[-1].append(item)
    return _Pieces([_joined(block) for block in blocks], gaps)


def _joined(block: list[_T]) -> Sequence[_T] | str:
    characters = [item for item in block if isinstance(item, str)]
    return "".join(characters) if block and len(characters) == len(block) else block


def _place(
    pieces: _Pieces[_T], text: Sequence[str], match: Callable[[_T, str], _Found | None], glue: str
) -> _Found | None:
    """Finds places for the blocks in a text.

    The first block begins the text and the last one ends it. The others are placed from right to left, each as far to
    the right as it fits, which leaves the most room to the rest: no place has to be tried again.

    Args:
        pieces: what is to be found.
        text: names, or the characters of one.
        match: tells what the wildcards of an item stand for; None if it does not fit.
        glue: what joins the items of the text that a gap stands for.
    """
    blocks, gaps = pieces.blocks, pieces.gaps

    def fit(block: Sequence[_T] | str, start: int) -> _Found | None:
        if isinstance(block, str):
            return {} if text[start : start + len(block)] == block else None
        found: _Found = {}
        for item, piece in zip(block, text[start : start + len(block)], strict=True):
            inner = match(item, piece)
            if inner is None:
                return None
            found.update(inner)
        return found

    begin, end = len(blocks[0]), len(text)
    if sum(map(len, blocks)) > end or (not gaps and begin != end):
        return None
    found = fit(blocks[0], 0)
    if found is None:
        return None
    for index in range(len(gaps), 0, -1):
        block = blocks[index]
        latest = end - len(block)
        earliest = begin if index < len(gaps) else max(begin, latest)
        for start in range(latest, earliest - 1, -1):
            inner = fit(block, start)
            if inner is not None:
                break
        else:
            return None
        found.update(inner)
        if index < len(gaps):
            found[gaps[index]] = glue.join(text[start + len(block) : end])
        end = start
    if gaps:
        found[gaps[0]] = glue.join(text[begin:end])
    return found
