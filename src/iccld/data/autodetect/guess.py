"""The image files of a folder (``Survey``), the detected data set (``Guess``), and the text of a ``dataset.toml``."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from iccld.data.autodetect.evidence import Evidence
from iccld.data.autodetect.meaning import Meaning
from iccld.data.description import Description, toml_entry, toml_value
from iccld.data.folders import data_key
from iccld.data.layouts import described_folder
from iccld.data.matching import list_images
from iccld.errors import InputError
from iccld.escaping import visible
from iccld.labels import CITYSCAPES19, IGNORE

LABEL_FOLDER = "iccld_labels"
"""Folder of the label maps that ``iccld data init`` draws from annotations. It is not searched for images."""

_WIDTH = 100


@dataclass(frozen=True)
class Survey:
    """All image files in ``root``, including label maps.

    ``images`` contains the sorted paths relative to ``root``, with ``/`` as the separator.
    """

    root: Path
    images: tuple[str, ...]

    def match(self, glob: str) -> dict[tuple[str, ...], str]:
        """Returns the image files that match ``glob``. The keys are tuples of the texts that the wildcards match."""
        fixed = re.split(r"[*?{]", glob, maxsplit=1)[0]
        keys = ((data_key(glob, name), name) for name in self.images if name.startswith(fixed))
        return {key: name for key, name in keys if key is not None}


def survey(root: Path) -> Survey:
    """Lists the image files of a folder and its subfolders. Links are followed, and hidden files are skipped.

    Label maps that were drawn from annotations (``LABEL_FOLDER``) are left out.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds the data set")
    images = tuple(path.relative_to(root).as_posix() for path in list_images(root))
    images = tuple(name for name in images if not name.startswith(f"{LABEL_FOLDER}/"))
    for name in (str(root.resolve()), *images):
        if re.search("[\ud800-\udfff]", name):
            shown = os.fsencode(name).decode("utf-8", "backslashreplace")
            raise InputError(f"{shown}: this name is not UTF-8; rename the file or folder")
    return Survey(root, images)


@dataclass(frozen=True)
class SplitGlobs:
    """The glob patterns of a split's images and label maps, and the numbers of matching files.

    ``list`` is a text file with the names of the split's images. ``None`` means that the split has its own folders.
    ``num_labels`` counts only label maps that belong to an image.
    """

    images: str
    labels: str | None = None
    list: str | None = None
    num_images: int = 0
    num_labels: int = 0


@dataclass(frozen=True)
class Guess:
    """The detected layout and label encoding (which ids or colors stand for which classes) of a folder.

    Without label maps, ``meaning`` and ``evidence`` are ``None``.
    """

    root: Path
    layout: str  # name of the layout for messages
    splits: Mapping[str, SplitGlobs]
    meaning: Meaning | None = None
    evidence: Evidence | None = None
    builtin: str | None = None  # name of the data set, if the folder contains a built-in data set
    resize_labels: bool = False  # whether some label maps of the layout differ in size from their image
    role: str | None = None  # role in domain adaptation, "source" or "target", if it is certain
    notes: tuple[str, ...] = ()  # further findings, one sentence each

    def document(self, role: str | None = None, start: str = "") -> dict[str, Any]:
        """Returns the content of ``dataset.toml``. A given ``role`` replaces the detected role.

        ``start`` is put in front of all paths.
        """
        splits = {
            name: {key: start + path for key, path in asdict(entry).items() if isinstance(path, str)}
            for name, entry in self.splits.items()
        }
        train = splits.pop("train", {})
        role = role or self.role or ("target" if train and "labels" not in train else None)
        sizes = {"resize_labels": True} if self.resize_labels else {}
        keys = {} if self.meaning is None else self.meaning.keys
        value = {"name": self.root.resolve().name, **train, **sizes, **keys}
        return value | {key: item for key, item in (("role", role), ("splits", splits)) if item}


def count_pairs(root: Path, splits: Mapping[str, SplitGlobs]) -> tuple[dict[str, SplitGlobs], list[Path]]:
    """Counts the images and label maps of each split. Removes label patterns if no image of the split has a label map.

    Returns the splits with counts, and the sorted label maps that belong to an image.

    Raises:
        InputError: A file is both an image and a label map of a split, or ``described_folder`` refuses a split.
    """
    globs = {name: (entry.images, entry.labels) for name, entry in splits.items()}
    lists = {name: entry.list for name, entry in splits.items() if entry.list}
    description = Description(root, "", globs, CITYSCAPES19, {}, None, None, lists, is_file=False)
    counted: dict[str, SplitGlobs] = {}
    labels: set[Path] = set()
    for name, entry in splits.items():
        pairs = described_folder(description, name, False).pairs
        of_split = {pair.label for pair in pairs if pair.label is not None}
        both = sorted(of_split.intersection(pair.image for pair in pairs))
        if both:
            raise InputError(
                f"{root}: no pattern tells the images from label maps such as {both[0].name}; "
                "put images into images/ and label maps into labels/"
            )
        labels |= of_split
        glob = entry.labels if of_split else None
        counted[name] = replace(entry, labels=glob, num_images=len(pairs), num_labels=len(of_split))
    return counted, sorted(labels)


def sections(guess: Guess) -> dict[str, list[str]]:
    """Returns the messages about a detected data set as title → list of sentences."""
    seen, guessed, checks, bare = [], [f"The folder was taken for {guess.layout}."], list(guess.notes), []
    for name, entry in guess.splits.items():
        labels = f"{entry.num_labels} with a label map" if entry.labels else "no label maps"
        seen.append(f"{name}: {_count(entry.num_images, 'image')}, {labels}")
        if entry.labels and entry.num_labels < entry.num_images:
            bare.append(f"{entry.num_images - entry.num_labels} of {name}")
    if guess.meaning is not None and (evidence := guess.evidence) is not None:
        guessed.append(f"The label maps hold {guess.meaning.text}.")
        ids = ", ".join(map(str, sorted(evidence.ids)[:30])) + (", …" if len(evidence.ids) > 30 else "")
        kinds = f"{_count(len(evidence.ids), 'id')}: {ids}"
        if evidence.colors:
            kinds = _count(len(evidence.colors), "color")
        num = f"{evidence.num_read} of {_count(evidence.num_files, 'label map')}"
        seen.append(f"{num} were read, with {kinds}")
        checks += guess.meaning.checks
        if evidence.num_read < evidence.num_files:
            all_of_them = "'iccld data check' reads all and names ids or colors that are missing"
            checks.append(f"Not every label map was read: {all_of_them}.")
    if bare:
        checks.append(f"Some images have no label map: {', '.join(bare)}.")
    return {"Seen": seen, "Guessed": guessed, "Please check": checks}


def to_toml(guess: Guess, *, role: str | None = None, outside: bool = False) -> str:
    """Returns the text of ``dataset.toml``, with comments about findings and assumptions.

    A given ``role`` replaces the detected role. With ``outside``, the text is for a file outside of the data set's
    folder, and all paths are absolute.
    """
    start = guess.root.resolve().as_posix() + "/" if outside else ""
    if re.search(r"[*?{}]", start):
        raise InputError(f"{guess.root}: globs cannot name the characters * ? {{ }}; rename the folder")
    value = guess.document(role, start)
    lines = ["# Written by 'iccld data init'. docs/data.md explains every key; edit the file as you like."]
    for title, sentences in sections(guess).items():
        lines += ["#", f"# {title}:"] if sentences else []
        for text in sentences:
            lines += textwrap.wrap(visible(text), _WIDTH, initial_indent="#   ", subsequent_indent="#     ")
    lines.append("")
    tables = {key: value.pop(key) for key, item in [*value.items()] if isinstance(item, dict)}
    for key, item in value.items():
        lines += (
            _classes(guess, item) if key == "classes" and isinstance(item, list) else toml_entry(key, item)
        )
    if "role" not in value:
        lines.append('# role = "source"   # or "target", which needs no labels')
    tables |= {f"splits.{name}": table for name, table in tables.pop("splits", {}).items()}
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(line for key, item in table.items() for line in toml_entry(key, item))]
    return "\n".join(lines) + "\n"


def _classes(guess: Guess, names: list[str]) -> list[str]:
    """Returns the lines of the class list. A comment beside each class gives the class's fraction of the pixels."""
    pixels = dict.fromkeys(range(len(names)), 0)
    if guess.meaning is not None and guess.evidence is not None:
        description, evidence = guess.meaning.description, guess.evidence
        labels: Mapping[Any, int] = description.ids if description.colors is None else description.colors
        for raw, count in (evidence.ids if description.colors is None else evidence.colors).items():
            if labels.get(raw, IGNORE) != IGNORE:
                pixels[labels[raw]] += count
    total = max(1, sum(pixels.values()))
    rows = [f"  {toml_value(name)}," for name in names]
    width = max(map(len, rows))
    shares = [f"{n / total:.2%} of the pixels read" if n else "not seen" for n in pixels.values()]
    lines = [f"{row:<{width}}  # {share}" for row, share in zip(rows, shares, strict=True)]
    return ["classes = [", *lines, "]"]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
