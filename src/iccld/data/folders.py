"""Lists the files in folders. Links are followed, except links that leave the given folder or form a loop."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from iccld.errors import InputError
from iccld.files import printable

FOLLOW_OUTSIDE = "ICCLD_FOLLOW_OUTSIDE"
"""Environment variable. If its value is ``1``, links and glob patterns are allowed to lead out of the given folder. The
flag ``--follow-outside`` sets the variable. A data set cannot set the variable."""

_MOST_ENTRIES = 5_000_000
_MOST_DEPTH = 64
_MOST_WAYS = 16  # largest number of paths to one folder, limited because nested links multiply the paths


def require_below(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> str:
    """Returns the real path, with all links resolved.

    Raises:
        InputError: The real path is outside of ``root``, and ``--follow-outside`` is not set.
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
    """Walks a folder like ``os.walk``, with sorted names. Follows links to folders, which are common in data sets.

    A link to a folder that contains the link is skipped, so that loops end. If two links lead to one folder, both are
    followed. Links to files are checked in ``files_below``, not here.

    Args:
        folder: Folder at the start. If it does not exist, nothing is yielded.
        below: Folder that links must not leave, by default ``folder``.

    Raises:
        InputError: A linked folder is outside of ``below``, or there are too many folders or files.
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
        except OSError:  # a missing or unreadable folder is skipped, as in os.walk
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
    except OSError:  # raised for a link to itself
        return False


def files_below(
    folder: str | os.PathLike[str],
    wanted: Callable[[str], bool],
    below: str | os.PathLike[str] | None = None,
) -> Iterator[Path]:
    """Yields each file in a folder and its subfolders if ``wanted(name)`` is true. Hidden folders are skipped.

    Raises ``InputError`` if a link leads out of ``below``. The default of ``below`` is ``folder``.
    """
    for parent, folders, names in walk(folder, below):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in filter(wanted, names):
            path = os.path.join(parent, name)
            if os.path.islink(path):
                require_below(path, folder if below is None else below)
            yield Path(path)
