"""Street scenes as a data set without files: seeded, in three looks, with all 19 Cityscapes classes.

``game`` serves as the source of a demonstration and ``camera`` as its target; both together are a labeled source for
real streets.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from filelock import FileLock
from jaxtyping import UInt8

import street_scenes
from iccld.data.image_files import write_png
from iccld.data.workers import WorkerDiedError, ordered_map
from iccld.documents import read_json
from iccld.errors import InputError, RunFailedError
from iccld.escaping import shortened
from iccld.files import free_bytes, in_bytes, write_failure, write_json
from iccld.labels import CITYSCAPES19, LabelSpace, suggest
from iccld.machine import free_memory, usable_cores
from iccld.progress import track
from street_scenes import LARGEST, SMALLEST, Scene, render_scene
from street_scenes.files import label_id_table, look_of, scene_paths, seed_of
from street_scenes.looks import LOOKS

LOOK_NAMES = (*LOOKS, "both")
_WORTH_FORKING = 32
_DRAWN = 4 * 4 * 4
"""Bytes that drawing takes for each pixel of a scene, at least: four maps of floats at twice the size."""


class StreetScenes:
    """A data set of rendered scenes; each is rendered when first asked for and kept in memory.

    Args:
        look: one of ``LOOK_NAMES``; ``both`` takes the looks in turn.
        count: number of scenes.
        height: in pixels.
        width: in pixels.
        seed: chooses the scenes; different seeds share none.
        label_space: labels are translated into it.
        cache: folder where ``prepare`` keeps what it rendered, for the next time; None keeps nothing.
    """

    name = "street_scenes"
    has_labels = True

    def __init__(
        self,
        look: str = "both",
        count: int = 1000,
        height: int = 128,
        width: int = 256,
        seed: int = 0,
        label_space: LabelSpace = CITYSCAPES19,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        if look not in LOOK_NAMES:
            raise InputError(f"unknown look {look!r} of the street scenes; {suggest(look, LOOK_NAMES)}")
        if count < 1 or seed < 0:
            raise InputError(f"street scenes: count {count}, seed {seed}; give a count from 1, a seed from 0")
        shown = f"street scenes of {height}x{width} pixels"
        if min(height, width) < SMALLEST or max(height, width) > LARGEST:
            raise InputError(f"{shown}; give {SMALLEST} to {LARGEST} for either side")
        _refuse_memory(_DRAWN * height * width, shown, "to draw")
        self.look, self.height, self.width, self.seed = look, height, width, seed
        self.label_space = label_space
        self._count = count
        self._scenes: dict[int, Scene] = {}
        self._table = np.array(CITYSCAPES19.lut_to(label_space), np.uint8)
        self._cache = Path(cache) if cache is not None else None

    def __len__(self) -> int:
        return self._count

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The RGB picture of a scene."""
        return np.ascontiguousarray(self._scene(index)[0])

    def label(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """The labels of a scene in ``label_space``, 255 = ignore."""
        return np.asarray(self._table[self._scene(index)[1]], np.uint8)

    def file_name(self, index: int) -> str:
        """A name for messages and outputs, such as ``game_000012``."""
        return f"{self.look_of(index)}_{index:06d}"

    def look_of(self, index: int) -> str:
        """The look of a scene."""
        if not 0 <= index < self._count:
            raise IndexError(f"scene {index} of {self._count}")
        return look_of(self.look, index)

    def require_memory(self) -> None:
        """Refuses scenes that cannot all be kept in memory, before any is rendered."""
        what = f"{self._count} street scenes of {self.height}x{self.width} pixels"
        _refuse_memory(self._count * self.height * self.width * 4, what, "to keep")

    def prepare(self) -> None:
        """Renders whatever is missing, in several processes if there is much to do, with a progress bar.

        With a cache, a second process waits for the first to render, and both read the same file.
        """
        if self._cache is None:
            self._render_missing()
            return
        from iccld.data.cache import (  # loads PyTorch, which `iccld data scenes` does without
            map_array,
            write_array,
        )

        size = f"{len(self)}x{self.height}x{self.width}"
        path = self._cache / f"{self.look}-{size}-seed{self.seed}-{generator_digest()}.npy"
        if not path.is_file():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = FileLock(path.with_suffix(".lock")).acquire()
            except OSError as error:
                raise write_failure(path.parent, error) from error
            with lock:
                if not path.is_file():
                    self._render_missing()
                    rows = [np.dstack(self._scenes[index]) for index in range(self._count)]
                    write_array(path, np.stack(rows))
        stored = map_array(path)
        if stored is None:
            raise InputError(f"{path}: is damaged or cannot be read; remove it, and it is rendered again")
        self._scenes = {i: (np.asarray(s[..., :3]), np.asarray(s[..., 3])) for i, s in enumerate(stored)}

    def _render_missing(self) -> None:
        missing = [index for index in range(self._count) if index not in self._scenes]
        if missing:
            rendered = track(self.stream(missing), len(missing), f"Rendering {len(missing)} scenes")
            self._scenes |= zip(missing, rendered, strict=True)

    def stream(self, indices: Sequence[int]) -> Iterator[Scene]:
        """Renders scenes (trainIds, not ``label_space``) one after another without keeping them.

        Up to four processes share the work if it is long and the system can fork; the scenes are the same.
        """
        jobs = [(seed_of(self.seed, i), self.look_of(i)) for i in indices]
        work = partial(_render_job, height=self.height, width=self.width)
        workers = min(usable_cores(), 4)
        done = 0
        # Only where forking is safe: spawned workers would import the caller's script again.
        if workers > 1 and len(jobs) >= _WORTH_FORKING and sys.platform == "linux":
            try:
                for scene in ordered_map(work, jobs, workers):
                    done += 1
                    yield scene
            except WorkerDiedError as error:
                print(
                    f"warning: the processes that render scenes cannot go on (one {error}); "
                    "the rest is rendered without them, which takes longer",
                    file=sys.stderr,
                )
        yield from map(work, jobs[done:])

    def _scene(self, index: int) -> Scene:
        if index not in self._scenes:
            self._scenes[index] = next(self.stream([index]))
        return self._scenes[index]


def write_scenes(scenes: StreetScenes, out: Path, split: str) -> int:
    """Writes the scenes that are not there yet as Cityscapes has them, and returns how many were rendered.

    Raises:
        InputError: ``out`` holds scenes of other settings, or cannot be written.
        RunFailedError: the disk has no room for them.
    """
    # From below: images and labels are compressed to a quarter at most.
    there = out / "leftImg8bit"
    lacking = len(scenes) - (sum(1 for _ in there.rglob("*.png")) if there.is_dir() else 0)
    needed, free = lacking * scenes.height * scenes.width, free_bytes(out)
    if needed > free:
        raise RunFailedError(
            f"{out}: {len(scenes)} scenes need {in_bytes(needed)} more at least, and the disk has {in_bytes(free)}; "
            "ask for fewer or smaller ones, or choose another disk"
        )
    about = out / f"scenes_{split}.json"
    wanted = {"look": scenes.look, "height": scenes.height, "width": scenes.width, "seed": scenes.seed}
    if not about.exists():
        write_json(about, wanted)
    found = read_json(about, limit=10_000, remedy="remove the folder or choose another")
    if found != wanted:  # scenes of two kinds would mix in one split
        held = shortened(found, 200)
        raise InputError(
            f"{about}: the folder holds scenes made with {held}, not {wanted}; choose another folder"
        )
    paths = [scene_paths(out, split, scenes.look_of(index), index) for index in range(len(scenes))]
    missing = [index for index, files in enumerate(paths) if not all(path.is_file() for path in files)]
    table = label_id_table()
    rendered = track(scenes.stream(missing), len(missing), f"Rendering {len(missing)} scenes")
    for index, (image, label) in zip(missing, rendered, strict=True):
        image_path, label_path = paths[index]
        write_png(label_path, table[label])
        write_png(image_path, image)
    return len(missing)


def _refuse_memory(needed: int, what: str, purpose: str) -> None:
    free = free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"{what} take {in_bytes(needed)} of memory {purpose}, and this process can have {in_bytes(free)}; "
            "ask for fewer or smaller ones"
        )


@cache
def generator_digest() -> str:
    """Names the generator's code: scenes that another version drew are not taken for this one's."""
    digest = hashlib.sha256()
    for path in sorted(Path(street_scenes.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _render_job(job: tuple[int, str], *, height: int, width: int) -> Scene:
    return render_scene(job[0], look=job[1], height=height, width=width)
