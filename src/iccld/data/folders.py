"""Walking folders: links are followed, but not out of the folder that was named, in circles or without end."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from iccld.errors import InputError
from iccld.files import printable

FOLLOW_OUTSIDE = "ICCLD_FOLLOW_OUTSIDE"
"""The environment variable that lets links and globs lead out of the named folder if it is ``1``; the command line's
``--follow-outside`` sets it. It belongs to the user: nothing in a data set can set it."""

_MOST_ENTRIES = 5_000_000
_MOST_DEPTH = 64
_MOST_WAYS = 16  # to one folder: links to folders of links multiply them


def require_below(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> str:
    """Follows the links of a path and returns where it leads.

    Raises:
        InputError: it leads out of ``root``, and the user has not allowed that.
    """
    real, top = os.path.realpath(path), os.path.realpath(root)
    if real == top or real.startswith(os.path.join(top, "")) or os.environ.get(FOLLOW_OUTSIDE) == "1":
        return real
    raise InputError(
        f"{printable(os.fspath(path))}: leads out of the folder {printable(os.fspath(root))}, to {printable(real)}; "
        "give --follow-outside if you trust who made it"
    )


def walk(
    folder: str | os.PathLike[str], below: str | os.PathLike[str] | None = None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walks a folder as ``os.walk`` does, names sorted; linked folders are followed, as data sets often have them.

    A link to a folder that it lies in is not followed, so that loops end. Two links to one folder both are. Links to
    files are not examined: ``files_below`` does that.

    Args:
        folder: where to begin; nothing is yielded if it does not exist.
        below: the folder that links must not leave; by default ``folder``.

    Raises:
        InputError: a linked folder leads out of ``below``, or there are too many folders or files.
    """
    root = folder if below is None else below
    ways: Counter[str] = Counter()
    entries_seen = 0
    waiting: list[tuple[str, frozenset[str]]] = [(os.fspath(folder), frozenset())]
    while waiting:
        parent, passed = waiting.pop()
        real = require_below(parent, root)
        if real in passed:
            continue
        try:
            with os.scandir(parent) as entries:
                listed = sorted((entry.name, _is_folder(entry)) for entry in entries)
        except OSError:  # it does not exist or may not be read, as with os.walk
            continue
        ways[real] += 1
        entries_seen += len(listed)
        fault = ""
        if ways[real] > _MOST_WAYS:
            fault = f"more than {_MOST_WAYS} links lead to this folder; remove some of them"
        elif len(passed) > _MOST_DEPTH:
            fault = f"lies more than {_MOST_DEPTH} folders deep; name a folder that is nearer"
        elif entries_seen > _MOST_ENTRIES:
            parent = os.fspath(folder)
            fault = f"holds more than {_MOST_ENTRIES:,} files; name a smaller folder"
        if fault:
            raise InputError(f"{printable(parent)}: {fault}")
        folders = [name for name, is_folder in listed if is_folder]
        yield parent, folders, [name for name, is_folder in listed if not is_folder]
        waiting += [(os.path.join(parent, name), passed | {real}) for name in reversed(folders)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def files_below(
    folder: str | os.PathLike[str],
    wanted: Callable[[str], bool],
    below: str | os.PathLike[str] | None = None,
) -> Iterator[Path]:
    """Lists the files under a folder, deeply, whose names are wanted; hidden folders are left out.

    Neither links to folders nor those to files may leave ``below``, by default ``folder``.
    """
    for parent, folders, names in walk(folder, below):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in filter(wanted, names):
            path = os.path.join(parent, name)
            if os.path.islink(path):
                require_below(path, folder if below is None else below)
            yield Path(path)
