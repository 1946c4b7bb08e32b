"""The files of drawn label maps: their folders, the glob patterns that pair them with images, and lists of images."""

from __future__ import annotations

import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from iccld.data.autodetect.guess import LABEL_FOLDER, SplitGlobs, survey
from iccld.data.folders import data_key, files_below
from iccld.data.foreign.shapes import AnnotationSet
from iccld.errors import InputError
from iccld.files import printable, write_text


def common_folders(found: AnnotationSet, root: Path) -> dict[str, str]:
    """Returns split → common folder of its images, relative to the data set's folder. The folder itself is ''."""
    folders: defaultdict[str, set[str]] = defaultdict(set)
    stems: dict[tuple[str, str], str] = {}
    for split, name in found.images:
        folders[split].add(posixpath.dirname(name))
        other = stems.setdefault((split, posixpath.splitext(name)[0]), name)
        if other != name:
            raise InputError(f"{root / name}: differs from {other} by its extension only; rename one of them")
    bases = {split: posixpath.commonpath([*own]) for split, own in folders.items()}
    for base in bases.values():
        if re.search(r"[*?{}]", base):
            raise InputError(f"{root / base}: globs cannot name the characters * ? {{ }}; rename the folder")
    return bases


def inner_name(name: str, base: str) -> str:
    """Returns the path of an image relative to the common folder of its split."""
    return name.removeprefix(base + "/") if base else name


def split_globs(
    root: Path,
    out: Path,
    written: Mapping[str, Sequence[str]],
    bases: Mapping[str, str],
    kept: set[Path] | None,
) -> dict[str, SplitGlobs]:
    """Returns the glob patterns of each split. A split that is not a whole folder gets a text file with its images."""
    names = survey(root).images
    start = "" if os.path.realpath(root) == os.path.realpath(out) else root.resolve().as_posix() + "/"
    if re.search(r"[*?{}]", start):
        raise InputError(f"{root}: globs cannot name the characters * ? {{ }}; rename the folder")
    splits = {}
    for split in sorted(written, key=("train", "val", "test").index):
        own, base = set(written[split]), bases[split]
        deep = "**/" * any("/" in inner_name(name, base) for name in own)
        suffixes = {posixpath.splitext(name)[1] for name in own}
        ending = suffixes.pop() if len(suffixes) == 1 else ".*"
        glob = f"{base}/" * bool(base) + f"{deep}*{ending}"
        is_whole = {name for name in names if data_key(glob, name) is not None} == own
        list_file = None
        # Without a list, a search of all subfolders of the data set's folder would find the label maps too.
        if not is_whole or (deep and not base):
            list_file = f"{LABEL_FOLDER}/{split}.txt"
            if kept is not None:
                kept.add(_write_list(out / list_file, [inner_name(name, base) for name in sorted(own)]))
        labels = f"{LABEL_FOLDER}/{split}/{deep}*.png"
        splits[split] = SplitGlobs(start + glob, labels, list_file, len(own), len(own))
    return splits


def _write_list(path: Path, names: Sequence[str]) -> Path:
    for name in names:
        if name.strip() != name or len(name.splitlines()) != 1:
            raise InputError(
                f"{printable(name)}: has spaces at its ends or line breaks in its name; rename it"
            )
    return write_text(path, "\n".join(names) + "\n")


def refuse_links(folder: Path) -> None:
    """Raises ``InputError`` if the folder for label maps is a link or contains a link to a folder.

    Files would be written and removed there. This also holds with ``--follow-outside``, which is about reading.
    """
    links = [folder] if folder.is_symlink() else []
    for parent, folders, _ in os.walk(folder):
        links += [path for path in (Path(parent, name) for name in folders) if path.is_symlink()]
    if links:
        raise InputError(f"{links[0]}: is a link; remove it, or give another folder with --out")


def remove_others(folder: Path, kept: set[Path]) -> None:
    """Removes all label maps (PNG) and list files (``.txt``) in a folder, except those in ``kept``.

    Earlier calls have left them behind.
    """
    for path in [*files_below(folder, lambda name: name.endswith((".png", ".txt")))]:
        if path not in kept:
            path.unlink()
