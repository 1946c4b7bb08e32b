"""Finds the images that annotation files name, and the split to which a path belongs."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

from iccld.data.layouts import SPLIT_WORDS
from iccld.errors import InputError
from iccld.escaping import shortened


def split_of(path: str) -> str | None:
    """Returns the split that the words of a path name, such as ``val`` for ``images/val2017``.

    The last word that names a split decides. Returns ``None`` if no word does.
    """
    words = re.split(r"[^a-z]+", path.lower())
    return next((SPLIT_WORDS[word] for word in reversed(words) if word in SPLIT_WORDS), None)


class ImageIndex:
    """The images of a folder by path and by file name. ``names`` are paths relative to the folder."""

    def __init__(self, names: Iterable[str]) -> None:
        self._paths = {unicodedata.normalize("NFC", name): name for name in names}
        self._by_file: defaultdict[str, list[str]] = defaultdict(list)
        for path in self._paths:
            self._by_file[path.rpartition("/")[2]].append(path)

    def find(self, name: str, where: str, folders: Sequence[str], split: str | None = None) -> str | None:
        """Returns the path of the image that an annotation file names, or ``None`` if there is no such image.

        The name is first taken as a path in each of ``folders``. If there is no such image, the images with the same
        file name are candidates. The result is the candidate whose path ends with the whole name. If there is none,
        the result is the only candidate, or the only candidate in ``split``.

        Args:
            name: Path or file name in the annotation file. Both ``/`` and a backslash can separate folders.
            where: Annotation file, for messages.
            folders: Folders relative to the data set's folder. The first is that of the annotation file.
            split: Split of the annotation file, if it is known.

        Raises:
            InputError: The path leads out of the data set's folder, and no image in the folder has this file name.
        """
        plain = unicodedata.normalize("NFC", name)
        slashed = plain.replace("\\", "/")
        is_absolute = slashed.startswith("/") or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", slashed) is not None
        if not is_absolute:
            for form in dict.fromkeys((plain, slashed)):
                for folder in folders:
                    path = posixpath.normpath(posixpath.join(folder, form))
                    if path in self._paths:
                        return self._paths[path]
        file = slashed.rpartition("/")[2]
        found = self._by_file.get(file) or self._by_file.get(unquote(file)) or []
        if len(found) > 1:
            tail = "/" + posixpath.normpath(slashed).lstrip("./")
            found = [path for path in found if f"/{path}".endswith(tail)] or found
        if len(found) > 1:
            found = [path for path in found if split is not None and split_of(path) == split]
        if len(found) == 1:
            return self._paths[found[0]]
        if not is_absolute and posixpath.normpath(posixpath.join(folders[0], slashed)).split("/")[0] == "..":
            fault = f"names {shortened(name)}, which leads out of the folder"
            raise InputError(f"{where}: {fault}; copy the image into the folder")
        return None
