"""Folders that describe CARLA for the pairs of the bench: ``python benchmarks/pairs.py --carla DIR --out data/pairs``.

Writes ``dataset.toml`` and lists of names; no frame is copied. They point at CARLA's own folder, which lies outside of
theirs, so give ``--follow-outside`` with the commands that read them.

- ``carla_camvid``: the source of CARLA → CamVid, in CamVid's classes less bicyclist: CARLA labels no riders.
- ``carla_idd``: the source of CARLA → IDD-Lite, in the seven classes of IDD-Lite.
- ``carla_target``: the target of the development pair. The drive is cut into blocks of consecutive frames, and every
  fifth block is held out as ``val``: frames that follow each other are nearly equal.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from iccld.errors import InputError
from iccld.exits import run_guarded
from iccld.files import write_text
from iccld.labels import CAMVID11

BLOCK, HELD_OUT = 24, 5
CAMVID = {c.name: c.train_ids for c in CAMVID11.classes if c.name != "bicyclist"}
IDD = {
    "drivable": (0,), "non-drivable": (1, 9), "living thing": (11, 12), "vehicle": tuple(range(13, 19)),
    "roadside object": tuple(range(3, 8)), "far object": (2, 8), "sky": (10,),
}  # fmt: skip


def main() -> int:
    """Writes the folders."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--carla", type=Path, required=True, help="folder with images/ and labels/ (trainIds)"
    )
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    print("\n".join(f"written: {path}" for path in write_pairs(arguments.carla, arguments.out)))
    return 0


def write_pairs(carla: Path, out: Path) -> list[Path]:
    """Writes the three ``dataset.toml``.

    Raises:
        InputError: no frames in ``carla/images``.
    """
    frames = sorted(path.stem for path in (carla / "images").glob("*.jpg"))
    if not frames:
        raise InputError(f"{carla / 'images'}: has no JPEG files; name CARLA's folder of images/ and labels/")
    written = []
    for name, classes in (("carla_camvid", CAMVID), ("carla_idd", IDD)):
        folder = out / name
        ignored = [i for i in (*range(19), 255) if not any(i in numbers for numbers in classes.values())]
        ids = [f'{i} = "{label}"' for label, numbers in classes.items() for i in numbers]
        lines = [
            f"classes = [{_quoted(classes)}]",
            f"ignore = {ignored}",
            'role = "source"',
            "",
            "[ids]",
            *ids,
        ]
        written.append(_write(folder, carla, lines))
    splits = split_blocks(frames)
    folder = out / "carla_target"
    for split, names in splits.items():
        write_text(folder / f"{split}.txt", "\n".join(names) + "\n")
    lines = ['classes = "cityscapes19"', 'list = "train.txt"', "", "[splits.val]", *_globs(folder, carla)]
    written.append(_write(folder, carla, [*lines, 'list = "val.txt"']))
    return written


def split_blocks(frames: Sequence[str]) -> Mapping[str, list[str]]:
    """Train and val: blocks of ``BLOCK`` frames in their order, of which every ``HELD_OUT``-th is val."""
    splits: dict[str, list[str]] = {"train": [], "val": []}
    for index, frame in enumerate(frames):
        held_out = index // BLOCK % HELD_OUT == HELD_OUT - 1
        splits["val" if held_out else "train"].append(frame)
    return splits


def _write(folder: Path, carla: Path, lines: Sequence[str]) -> Path:
    text = "\n".join([f'name = "{folder.name}"', *_globs(folder, carla), *lines]) + "\n"
    return write_text(folder / "dataset.toml", text)


def _globs(folder: Path, carla: Path) -> list[str]:
    base = Path(os.path.relpath(carla.resolve(), folder.resolve())).as_posix()
    return [f'images = "{base}/images/*.jpg"', f'labels = "{base}/labels/*.png"']


def _quoted(names: Mapping[str, object]) -> str:
    return ", ".join(f'"{name}"' for name in names)


if __name__ == "__main__":
    sys.exit(run_guarded(main))
