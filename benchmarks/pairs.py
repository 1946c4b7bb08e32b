"""Data set folders of CARLA for the bench's pairs: ``python benchmarks/pairs.py --carla DIR --out data/pairs``.

Writes ``dataset.toml`` files and lists of frame names. Frames are not copied: the files refer to CARLA's own folder.
CARLA's folder lies outside of the written folders, so commands that read the written folders need
``--follow-outside``.

- ``carla_camvid``: source of CARLA → CamVid, with the classes of CamVid except bicyclist, because CARLA does not label
  riders.
- ``carla_idd``: source of CARLA → IDD-Lite, with the seven classes of IDD-Lite.
- ``carla_target``: target of the development pair. The drive is divided into blocks of consecutive frames, and every
  fifth block is held out as ``val``. Single frames cannot be held out, because consecutive frames are nearly equal.
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
    """Writes the folders and prints the paths of the written files."""
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
    """Writes the ``dataset.toml`` files of the three folders and the lists of frame names.

    Args:
        carla: CARLA's folder, with ``images`` and ``labels``.
        out: Folder for the three folders.

    Returns:
        The paths of the ``dataset.toml`` files.

    Raises:
        InputError: ``carla/images`` has no JPEG files.
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
    """Splits frames into ``train`` and ``val``: every ``HELD_OUT``-th block of ``BLOCK`` frames is ``val``."""
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
