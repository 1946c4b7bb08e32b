"""What a folder was taken for: the common form of all guesses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from iccld.data.guessing.evidence import Evidence
from iccld.data.guessing.meaning import Meaning
from iccld.data.guessing.survey import Survey
from iccld.data.layouts import read_list


@dataclass(frozen=True)
class SplitGlobs:
    """One split of the data set.

    Attributes:
        images: glob of the images.
        labels: glob of the label maps, None if there are none.
        num_images: images that the glob fits (and the list names).
        num_labels: label maps that belong to one of them.
        list_file: text file that names the split's images, None where folders tell the splits apart.
    """

    images: str
    labels: str | None
    num_images: int
    num_labels: int
    list_file: str | None = None


@dataclass(frozen=True)
class Guess:
    """What a folder was taken for.

    Attributes:
        root: the folder.
        layout: its layout, as people call it.
        splits: by name; ``train`` first where there is one.
        meaning: of the label maps; None without any.
        evidence: what the label maps that were read hold; None without any.
        builtin: name of the data set that ``iccld`` knows without a file, None if there is none.
        resize_labels: whether some label maps are known to have another size than their image.
        role: ``source`` or ``target`` where it is plain which.
        notes: what else was seen, a sentence each.
    """

    root: Path
    layout: str
    splits: Mapping[str, SplitGlobs]
    meaning: Meaning | None = None
    evidence: Evidence | None = None
    builtin: str | None = None
    resize_labels: bool = False
    role: str | None = None
    notes: tuple[str, ...] = ()


def paired_labels(survey: Survey, splits: Iterable[SplitGlobs]) -> list[str]:
    """Lists the label maps that belong to an image of one of the splits, sorted; strays tell nothing."""
    found: set[str] = set()
    for entry in splits:
        if entry.labels is None:
            continue
        keys = set(survey.match(entry.images))
        if entry.list_file is not None:
            by_name = survey.by_name(entry.images)
            keys = {by_name[name] for name in read_list(survey.root / entry.list_file) if name in by_name}
        labels = survey.match(entry.labels)
        found.update(labels[key] for key in keys & labels.keys())
    return sorted(found)
