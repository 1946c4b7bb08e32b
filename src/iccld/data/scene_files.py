"""Scenes as files, laid out like Cityscapes."""

from __future__ import annotations

from pathlib import Path

from iccld.data.image_files import write_png
from iccld.data.street_scenes import StreetScenes
from iccld.documents import read_json
from iccld.errors import InputError, RunFailedError
from iccld.escaping import shortened
from iccld.files import free_bytes, in_bytes, write_json
from iccld.progress import track
from street_scenes.files import label_id_table, scene_paths


def write_scenes(scenes: StreetScenes, out: Path, split: str) -> int:
    """Writes the scenes that are not there yet, each file whole or not at all.

    Args:
        scenes: what to write.
        out: the folder that gets ``leftImg8bit`` and ``gtFine``.
        split: ``train``, ``val`` or another name of a folder.

    Returns:
        How many scenes were rendered.

    Raises:
        InputError: ``out`` holds scenes of other settings, or cannot be written.
        RunFailedError: the disk has no room for them.
    """
    _refuse_full(scenes, out)
    _claim(scenes, out, split)
    paths = [scene_paths(out, split, scenes.look_of(index), index) for index in range(len(scenes))]
    missing = [index for index, files in enumerate(paths) if not all(path.is_file() for path in files)]
    table = label_id_table()
    rendered = track(scenes.stream(missing), len(missing), f"Rendering {len(missing)} scenes")
    for index, (image, label) in zip(missing, rendered, strict=True):
        image_path, label_path = paths[index]
        write_png(label_path, table[label])
        write_png(image_path, image)
    return len(missing)


def _refuse_full(scenes: StreetScenes, out: Path) -> None:
    """By an estimate from below: an image and its labels are compressed to a quarter at most."""
    per_scene = scenes.height * scenes.width
    there = out / "leftImg8bit"
    written = sum(1 for _ in there.rglob("*.png")) if there.is_dir() else 0
    needed, free = (len(scenes) - written) * per_scene, free_bytes(out)
    if needed > free:
        raise RunFailedError(
            f"{out}: {len(scenes)} scenes need {in_bytes(needed)} more at least, and the disk has {in_bytes(free)}; "
            "ask for fewer or smaller ones, or choose another disk"
        )


def _claim(scenes: StreetScenes, out: Path, split: str) -> None:
    """Notes beside the files how they were made, so that scenes of two kinds never mix in one split."""
    path = out / f"scenes_{split}.json"
    wanted = {"look": scenes.look, "height": scenes.height, "width": scenes.width, "seed": scenes.seed}
    if not path.exists():
        write_json(path, wanted)
        return
    found = read_json(path, limit=10_000, remedy="remove the folder or choose another")
    if found != wanted:
        raise InputError(
            f"{path}: the folder holds scenes made with {shortened(found, 200)}, not {wanted}; choose another folder"
        )
