"""File paths, label ids and seeds of a set of scenes, in the layout of Cityscapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

# Cityscapes ids of the 19 trainIds (cityscapesScripts, labels.py).
_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def label_id_table() -> np.ndarray:
    """Returns a lookup table from trainIds to Cityscapes ids, (256,), uint8. Unlabeled pixels (255) get the id 0."""
    table = np.zeros(256, np.uint8)
    table[: len(_LABEL_IDS)] = _LABEL_IDS
    return table


def scene_paths(out: Path, split: str, look: str, index: int) -> tuple[Path, Path]:
    """Returns the paths of the image file and the label file of a scene in the folder ``out``."""
    stem = f"{look}_{index:06d}_000000"
    return (
        out / "leftImg8bit" / split / look / f"{stem}_leftImg8bit.png",
        out / "gtFine" / split / look / f"{stem}_gtFine_labelIds.png",
    )


def look_of(look: str, index: int) -> str:
    """Returns the name of the look in which the scene with the given index is rendered.

    If ``look`` is ``both``, scenes with an even index get ``game`` and scenes with an odd index get ``camera``.
    """
    return ("game", "camera")[index % 2] if look == "both" else look


def seed_of(seed: int, index: int) -> int:
    """Returns the seed of the scene with the given index.

    Two sets with different values of ``seed`` share no scene if each set has at most 10,000,019 scenes.
    """
    return seed * 10_000_019 + index
