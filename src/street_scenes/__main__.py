"""The command ``street-scenes OUT``: writes scenes and their labels in the folder layout of Cityscapes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from street_scenes.files import label_id_table, look_of, scene_paths, seed_of
from street_scenes.looks import LOOKS
from street_scenes.render import LARGEST, SMALLEST, render_scene


def _usable_cores() -> int:
    """Returns the number of CPU cores on which this process may run, according to its CPU affinity."""
    affinity = getattr(os, "sched_getaffinity", None)  # not available on every operating system
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def main() -> int:
    """Runs the command: renders all scenes whose files are missing in the output folder.

    Returns:
        The exit code: 0 on success, 2 if a file cannot be written, 130 after Ctrl-C. If a flag is invalid,
        the process exits with code 2.
    """
    a = _arguments()
    wanted = [(index, look_of(a.look, index)) for index in range(a.count)]
    missing = [
        (index, look)
        for index, look in wanted
        if not all(path.is_file() for path in scene_paths(a.out, a.split, look, index))
    ]
    render = partial(_write_scene, out=a.out, split=a.split, seed=a.seed, height=a.height, width=a.width)
    try:
        for number, _ in enumerate(_in_turn(render, missing, a.processes), 1):
            print(f"\r{number}/{len(missing)} scenes", end="", file=sys.stderr, flush=True)
    except OSError as error:
        print(f"street-scenes: error: {a.out}: cannot be written ({error.strerror})", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        return 130
    print("\r" if missing else "", end="", file=sys.stderr)
    print(f"{len(missing)} scenes written, {a.count - len(missing)} kept: {a.out}/ (split {a.split})")
    return 0


def _in_turn(render: partial[None], jobs: list[tuple[int, str]], processes: int) -> Iterator[None]:
    if processes == 1 or len(jobs) < 2:
        yield from map(render, jobs)
        return
    with ProcessPoolExecutor(processes) as pool:
        try:
            yield from pool.map(render, jobs)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_scene(job: tuple[int, str], *, out: Path, split: str, seed: int, height: int, width: int) -> None:
    index, look = job
    image, label = render_scene(seed_of(seed, index), look=look, height=height, width=width)
    image_path, label_path = scene_paths(out, split, look, index)
    _write_png(label_path, label_id_table()[label])
    _write_png(image_path, np.ascontiguousarray(image[..., ::-1]))


def _write_png(path: Path, picture: np.ndarray) -> None:
    """Writes a PNG file atomically, so that a file at ``path`` is never incomplete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(cv2.imencode(".png", picture)[1].tobytes())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="street-scenes",
        description="Writes street scenes with labels: OUT/leftImg8bit/SPLIT/LOOK/*_leftImg8bit.png and "
        "OUT/gtFine/SPLIT/LOOK/*_gtFine_labelIds.png (Cityscapes labelIds). Scenes that are there are kept.",
    )
    side = partial(_whole, least=SMALLEST, greatest=LARGEST)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument("--look", choices=(*LOOKS, "both"), default="both")
    parser.add_argument("--count", type=partial(_whole, least=1), default=100, help="number of scenes")
    parser.add_argument("--height", type=side, default=512, help="in pixels")
    parser.add_argument("--width", type=side, default=1024, help="in pixels")
    parser.add_argument("--seed", type=_whole, default=0, help="chooses the scenes; two seeds share none")
    parser.add_argument("--split", type=_folder_name, default="train", help="name of the split's folder")
    parser.add_argument("--processes", type=partial(_whole, least=1), default=_usable_cores())
    return parser.parse_args()


def _whole(text: str, least: int = 0, greatest: int = 10**9) -> int:
    if not text.isdecimal() or not least <= int(text[:20]) <= greatest:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from {least} to {greatest}")
    return int(text)


def _folder_name(text: str) -> str:
    if not text.replace("-", "_").isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r}: give letters and digits, as in train")
    return text


if __name__ == "__main__":
    sys.exit(main())
