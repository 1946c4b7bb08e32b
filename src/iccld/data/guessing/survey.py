"""What lies in a folder: the names of its files, read once, and which of them a pattern fits."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from iccld.data.folders import require_below, walk
from iccld.data.globs import data_key
from iccld.data.image_files import is_image_name
from iccld.errors import InputError

Key = tuple[str, ...]
"""What the wildcards of a glob stood for; images and labels are paired by it."""


@dataclass(frozen=True)
class Survey:
    """The files of a folder, by name alone.

    Attributes:
        root: the folder.
        images: files with an image's ending, label maps among them, relative to ``root`` with ``/``, sorted.
        others: how many files there are of each other ending.
    """

    root: Path
    images: tuple[str, ...]
    others: Mapping[str, int]

    def match(self, glob: str) -> dict[Key, str]:
        """Finds the image files that a glob of ``dataset.toml`` fits, by what its wildcards stand for."""
        fixed = re.split(r"[*?{]", glob, maxsplit=1)[0]
        found: dict[Key, str] = {}
        for name in self.images:
            if name.startswith(fixed):
                key = data_key(glob, name)
                if key is not None:
                    found[key] = name
        return found

    def twins(self, glob: str) -> tuple[str, str] | None:
        """Finds two files that a glob fits in the same way, as it does a.png and a.jpg; None if there are none."""
        matched = self.match(glob)
        kept = set(matched.values())
        for name in self.images:
            key = data_key(glob, name) if name not in kept else None
            if key is not None:
                return name, matched[key]
        return None

    def by_name(self, glob: str) -> dict[str, Key]:
        """What a list may call the images of a glob, with or without their ending, and how they are paired."""
        start = re.split(r"[*?{]", glob, maxsplit=1)[0].rpartition("/")[0] + "/"
        names = {name.removeprefix(start): key for key, name in self.match(glob).items()}
        return names | {os.path.splitext(name)[0]: key for name, key in names.items()}

    def endings(self) -> str:
        """Words the endings of the other files, the most frequent ones first."""
        return ", ".join(f"{count} {suffix}" for suffix, count in Counter(self.others).most_common(3))

    def below(self, folder: str) -> Survey:
        """The survey of a folder in this one."""
        start = folder + "/"
        inner = tuple(name.removeprefix(start) for name in self.images if name.startswith(start))
        return Survey(self.root / folder, inner, {})


def survey(root: Path) -> Survey:
    """Lists a folder deeply, following links; hidden files and folders are left out.

    Raises:
        InputError: it is no folder, a link leads out of it, or a name is not UTF-8.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds the data set")
    images: list[str] = []
    others: Counter[str] = Counter()
    for parent, folders, names in walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        start = os.path.relpath(parent, root).replace(os.sep, "/") + "/"
        start = "" if start == "./" else start
        for name in names:
            if is_image_name(name):
                path = os.path.join(parent, name)
                if os.path.islink(path):
                    require_below(path, root)
                images.append(start + name)
            elif not name.startswith("."):
                others[os.path.splitext(name)[1] or name] += 1
    images.sort()
    _refuse_unwritable([str(root.resolve()), *images])
    return Survey(root, tuple(images), others)


def _refuse_unwritable(names: Iterable[str]) -> None:
    """Refuses names that no text file can hold, in the words of the bytes they are made of."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(name).decode("utf-8", "backslashreplace")
            raise InputError(f"{shown}: this name is not UTF-8; rename the file or folder") from error
