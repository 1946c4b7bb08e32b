"""Lists the files in folders. Links are followed, except links that leave the given folder or form a loop."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from iccld.errors import InputError
from iccld.files import AnyPath, printable

FOLLOW_OUTSIDE = "ICCLD_FOLLOW_OUTSIDE"
"""Environment variable. With the value ``1``, links and glob patterns are allowed to lead out of the given folder. Only
the flag ``--follow-outside`` sets the variable, not a data set."""

_MOST_ENTRIES = 5_000_000
_MOST_DEPTH = 64
_MOST_WAYS = 16  # largest number of paths to one folder, limited because nested links multiply the paths


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
    """Walks a folder like ``os.walk``, with sorted names. Follows links to folders, which are common in data sets.

    A link to a folder that contains the link is skipped, so that loops end. If two links lead to one folder, both are
    followed. Links to files are checked in ``files_below``, not here. A missing ``folder`` yields nothing.

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
    folder: AnyPath, wanted: Callable[[str], bool], below: AnyPath | None = None
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
