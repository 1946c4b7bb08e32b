"""Which data set a folder holds, for commands that are given a folder alone."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from iccld.data.description import DESCRIPTION, Description, parse_description
from iccld.data.guessing.folder import guess_folder
from iccld.data.guessing.toml_text import to_toml


@dataclass(frozen=True)
class Recognized:
    """What a folder was taken for.

    Attributes:
        name: the data set, one of ``iccld.data.datasets.DATASET_NAMES``.
        text: what it was taken for, in words.
        description: what ``iccld data init`` would write, where the folder has no description and is no data set that
            is known by name; None otherwise.
        notes: what was guessed and should be looked at, a sentence each.
    """

    name: str
    text: str
    description: Description | None = None
    notes: tuple[str, ...] = ()


def recognize(root: Path) -> Recognized:
    """Finds out what a folder holds.

    Raises:
        InputError: it cannot be told; the message says what was looked for.
    """
    if (root / DESCRIPTION).is_file():
        return Recognized("folder", f"a folder that is described by its {DESCRIPTION}")
    guess = guess_folder(root)
    if guess.builtin is not None:
        return Recognized(guess.builtin, f"{guess.layout}, which is built in as {guess.builtin!r}")
    description = parse_description(root / DESCRIPTION, tomllib.loads(to_toml(guess)))
    holds = "" if guess.meaning is None else f", whose label maps hold {guess.meaning.text}"
    checks = () if guess.meaning is None else guess.meaning.checks
    return Recognized("folder", f"{guess.layout}{holds}", description, (*guess.notes, *checks))
