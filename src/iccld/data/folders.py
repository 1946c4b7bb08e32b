"""Lists the files in folders and matches their paths with glob patterns.

Links are followed, but links that form a loop are skipped. A link that leads out of the given folder raises
``InputError``. The time to match a glob pattern does not grow exponentially with the number of its wildcards.
"""

from __future__ import annotations

import fnmatch
import itertools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from iccld import archives
from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.files import AnyPath, printable

FOLLOW_OUTSIDE = "ICCLD_FOLLOW_OUTSIDE"
"""Environment variable. With the value ``1``, links and glob patterns are allowed to lead out of the given folder. The
flag ``--follow-outside`` sets the variable. The files of a data set cannot set the variable."""

_MOST_ENTRIES = 5_000_000
_MOST_DEPTH = 64
_MOST_WAYS = 16  # largest number of paths to one folder, limited because nested links multiply the paths
_MOST_ALTERNATIVES = 256
_MOST_CHARACTERS = 1000
_IN_NAME, _FOLDERS = "*?)", ")??"  # ends of the regular expressions of * and **/
_OPEN, _CLOSE = re.escape("{"), re.escape("}")


def require_below(path: AnyPath, root: AnyPath) -> str:
    """Returns the real path, with all links resolved.

    Raises ``InputError`` if this path is outside of ``root`` and ``--follow-outside`` is not set.
    """
    real, top = os.path.realpath(path), os.path.realpath(root)
    if real == top or real.startswith(os.path.join(top, "")) or os.environ.get(FOLLOW_OUTSIDE) == "1":
        return real
    raise InputError(
        f"{printable(os.fspath(path))}: leads out of the folder {printable(os.fspath(root))}, to {printable(real)}; "
        "give --follow-outside if you trust who made it"
    )


def walk(folder: AnyPath, below: AnyPath | None = None) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walks a folder like ``os.walk``, with sorted names. Links to folders are followed.

    A link to a folder that contains the link is skipped, so that loops end. If two links lead to one folder, both links
    are followed. Links to files are checked in ``files_below``, not here. If ``folder`` is missing, nothing is yielded.

    Raises ``InputError`` if a linked folder is outside of ``below`` (by default ``folder``), or if there are too many
    folders or files.
    """
    root = folder if below is None else below
    ways: Counter[str] = Counter()
    entries_seen = 0
    above: dict[str, frozenset[str]] = {
        os.fspath(folder): frozenset()
    }  # path → real paths of the folders above

    def skip(error: OSError) -> None:  # called for a missing or unreadable folder
        require_below(error.filename or root, root)

    for parent, folders, names in os.walk(folder, onerror=skip, followlinks=True):
        real, passed = require_below(parent, root), above.pop(parent)
        if real in passed:
            folders.clear()
            continue
        ways[real] += 1
        entries_seen += len(folders) + len(names)
        where, fault = parent, ""
        if ways[real] > _MOST_WAYS:
            fault = f"more than {_MOST_WAYS} links lead to this folder; remove some of them"
        elif len(passed) > _MOST_DEPTH:
            fault = f"lies more than {_MOST_DEPTH} folders deep; name a folder that is nearer"
        elif entries_seen > _MOST_ENTRIES:
            where, fault = (
                os.fspath(folder),
                f"holds more than {_MOST_ENTRIES:,} files; name a smaller folder",
            )
        if fault:
            raise InputError(f"{printable(where)}: {fault}")
        folders.sort()
        yield parent, folders, sorted(names)
        above |= {os.path.join(parent, name): passed | {real} for name in folders}


def files_below(
    folder: AnyPath,
    wanted: Callable[[str], bool],
    below: AnyPath | None = None,
    *,
    in_archives: Callable[[str], bool] | None = None,
) -> Iterator[Path]:
    """Yields the files in a folder and its subfolders for which ``wanted(name)`` is true. Hidden folders are skipped.

    With ``in_archives``, tar archives for whose paths it returns true are listed like folders (``iccld.archives``).

    Raises ``InputError`` if a link leads out of ``below`` (by default ``folder``).
    """
    for parent, folders, names in walk(folder, below):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = os.path.join(parent, name)
            is_archive = bool(in_archives and name.endswith(archives.ENDING) and in_archives(path))
            if not is_archive and not wanted(name):
                continue
            if os.path.islink(path):
                require_below(path, folder if below is None else below)
            if not is_archive:
                yield Path(path)
                continue
            for member in archives.members(path):
                if wanted(member.rpartition("/")[2]):
                    yield Path(path, _safe_member(path, member))


def _safe_member(archive: str, name: str) -> str:
    if name.startswith("/") or not {"..", ".", ""}.isdisjoint(name.split("/")):
        raise InputError(f"{printable(archive)}: has a file with the name {shortened(name)}; write it again")
    return name


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
        tokens: list[str] = []
        self.num_wildcards = 0
        forms = r"(?<![^/{},])\*\*/|" + r"\[!?+[^/][^\]/]*\]|" * sets + "."
        for text in re.findall(forms, pattern, re.DOTALL):
            if text not in ("*", "?") and len(text) == 1:
                tokens.append(re.escape(text))
            else:
                tokens.append(_wildcard(text, self.num_wildcards))
                self.num_wildcards += 1
        alternatives = [tokens]
        if braces:
            depths = _brace_depths(tokens)
            if min(depths, default=0) < 0 or depths[-1:] > [0]:
                raise InputError(
                    f"{shortened(pattern)} has a brace without its partner; close the brace, as in *.{{jpg,png}}"
                )
            alternatives = [*itertools.islice(_write_out(tokens), _MOST_ALTERNATIVES + 1)]
        if len(alternatives) > _MOST_ALTERNATIVES:
            raise InputError(
                f"a glob has more than {_MOST_ALTERNATIVES} alternatives in braces; use * instead"
            )
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
    end of a pattern matches any extension, and the extension is not part of the key. The key is in Unicode form NFC,
    since file names can contain accented letters in two Unicode forms.
    """
    if pattern.endswith(".*"):
        pattern, name = pattern[:-2], os.path.splitext(name)[0]
    found = data_glob(pattern).match(name)
    return None if found is None else tuple(unicodedata.normalize("NFC", part) for part in found)


def fixed_folders(pattern: str, magic: str) -> tuple[list[str], str]:
    """Splits a glob pattern into two parts: the folders before the first wildcard, and the rest.

    Without a wildcard, the rest is the last name in the path. ``magic`` lists the characters that begin a wildcard.
    """
    *folders, name = pattern.split("/")
    fixed = [*itertools.takewhile(lambda part: not set(part) & set(magic), folders)]
    return fixed, "/".join([*folders[len(fixed) :], name])


def _wildcard(text: str, number: int) -> str:
    one_of = fnmatch.translate(text).removeprefix("(?s:").rpartition(")")[0]
    inner = {"*": "[^/]*?", "**/": ".*?", "?": "[^/]"}.get(text, f"(?!/){one_of}")
    group = f"(?P<w{number}>{inner})"
    return f"(?:/{group})??" if text == "**/" else group


def _brace_depths(tokens: list[str]) -> list[int]:
    return [*itertools.accumulate((token == _OPEN) - (token == _CLOSE) for token in tokens)]


def _write_out(tokens: list[str]) -> Iterator[list[str]]:
    """Yields a pattern without braces for each combination of alternatives in braces."""
    if _OPEN not in tokens:
        yield tokens
        return
    start, depths = tokens.index(_OPEN), _brace_depths(tokens)
    end = depths.index(0, start)
    commas = [i for i in range(start, end) if depths[i] == 1 and tokens[i] == ","]
    for one, other in itertools.pairwise([start, *commas, end]):
        yield from _write_out([*tokens[:start], *tokens[one + 1 : other], *tokens[end + 1 :]])


def _expression(tokens: list[str]) -> str:
    """Returns a regular expression for paths whose characters are in reverse order."""
    names: list[list[str]] = [[]]
    separators: list[str] = []
    for token in reversed(tokens):
        if token == "/" or token.endswith(_FOLDERS):
            separators.append(token)
            names.append([])
        else:
            names[-1].append(token)
    first, *others = [f"(?>{_join(name, _IN_NAME)}(?=/|\\Z))" for name in names]
    pairs = zip(separators, others, strict=True)
    return _join([first, *itertools.chain.from_iterable(pairs)], _FOLDERS)


def _join(parts: list[str], gap: str) -> str:
    """Joins regular expressions. Expressions that end in ``gap`` are wildcards, which match text of any length.

    The fixed text between two wildcards is matched at its first possible place. This place leaves the most text for the
    rest of the pattern, so other places need not be tried. Atomic groups ``(?>…)`` prevent such tries (backtracking),
    which would take exponential time.
    """
    groups = [""]
    for part in parts:
        if part.endswith(gap):
            groups.append("")
        groups[-1] += part
    return "".join(f"(?>{group})" for group in groups[:-1]) + groups[-1]
