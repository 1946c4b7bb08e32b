"""A data set of street scenes that are rendered from a seed. The scenes show all 19 Cityscapes classes.

For a demonstration of domain adaptation, the source domain has the look ``game`` and the target domain has the look
``camera``. If the target domain consists of real photographs, scenes in these two looks are the labeled source domain.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
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
from iccld.files import AnyPath, free_bytes, in_bytes, write_failure, write_json
from iccld.labels import CITYSCAPES19, LabelSpace, suggest
from iccld.machine import free_memory, usable_cores
from iccld.progress import track
from street_scenes import LARGEST, SMALLEST, Scene, render_scene
from street_scenes.files import label_id_table, look_of, scene_paths, seed_of
from street_scenes.looks import LOOKS

LOOK_NAMES = (*LOOKS, "both")
_WORTH_FORKING = 32
_DRAWN = 4 * 4 * 4
"""Minimum memory to render a scene, in bytes per pixel: four float32 maps at twice the height and width."""


@dataclass(eq=False)
class StreetScenes:
    """A data set of rendered scenes. Each scene is rendered at its first use and kept in memory.

    Args:
        look: Look of the scenes, one of ``LOOK_NAMES``. ``both`` alternates between ``game`` and ``camera``.
        count: Number of scenes.
        height: Height of a scene in pixels.
        width: Width of a scene in pixels.
        seed: Seed of the scenes. Different seeds give different scenes.
        label_space: Label space that labels are converted to.
        cache: Folder in which ``prepare`` stores rendered scenes for later runs. With ``None``, nothing is stored.
    """

    look: str = "both"
    count: int = 1000
    height: int = 128
    width: int = 256
    seed: int = 0
    label_space: LabelSpace = CITYSCAPES19
    cache: AnyPath | None = None

    name = "street_scenes"
    has_labels = True

    def __post_init__(self) -> None:
        if self.look not in LOOK_NAMES:
            known = suggest(self.look, LOOK_NAMES)
            raise InputError(f"unknown look {self.look!r} of the street scenes; {known}")
        if self.count < 1 or self.seed < 0:
            given = f"count {self.count}, seed {self.seed}"
            raise InputError(f"street scenes: {given}; give a count from 1, a seed from 0")
        shown = f"street scenes of {self.height}x{self.width} pixels"
        if min(self.height, self.width) < SMALLEST or max(self.height, self.width) > LARGEST:
            raise InputError(f"{shown}; give {SMALLEST} to {LARGEST} for either side")
        _refuse_memory(_DRAWN * self.height * self.width, shown, "to draw")
        self._scenes: dict[int, Scene] = {}
        self._table = np.array(CITYSCAPES19.lut_to(self.label_space), np.uint8)

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the RGB image of a scene."""
        return np.ascontiguousarray(self._scene(index)[0])

    def label(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Returns the label map of a scene in ``label_space``, with 255 for ignored pixels."""
        return np.asarray(self._table[self._scene(index)[1]], np.uint8)

    def file_name(self, index: int) -> str:
        """Returns the name of a scene for messages and output files, such as ``game_000012``."""
        return f"{self.look_of(index)}_{index:06d}"

    def look_of(self, index: int) -> str:
        """Returns the look of a scene."""
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        return look_of(self.look, index)

    def require_memory(self) -> None:
        """Raises ``InputError`` if the scenes do not fit into memory together. No scene is rendered."""
        what = f"{self.count} street scenes of {self.height}x{self.width} pixels"
        _refuse_memory(self.count * self.height * self.width * 4, what, "to keep")

    def prepare(self) -> None:
        """Renders the missing scenes with a progress bar, in several processes if there are many scenes.

        With a cache folder, the scenes are stored in one file. If several processes need this file, one process writes
        it, and the other processes wait for a lock and read it.
        """
        if self.cache is None:
            self._render_missing()
            return
        # Imported only here, because iccld.data.cache imports PyTorch, which `iccld data scenes` does not need.
        from iccld.data.cache import map_array, write_array

        size = f"{len(self)}x{self.height}x{self.width}"
        path = Path(self.cache, f"{self.look}-{size}-seed{self.seed}-{generator_digest()}.npy")
        if not path.is_file():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = FileLock(path.with_suffix(".lock")).acquire()
            except OSError as error:
                raise write_failure(path.parent, error) from error
            with lock:
                if not path.is_file():
                    self._render_missing()
                    rows = [np.dstack(self._scenes[index]) for index in range(self.count)]
                    write_array(path, np.stack(rows))
        stored = map_array(path)
        if stored is None:
            raise InputError(f"{path}: is damaged or cannot be read; remove it, and it is rendered again")
        self._scenes = {i: (np.asarray(s[..., :3]), np.asarray(s[..., 3])) for i, s in enumerate(stored)}

    def _render_missing(self) -> None:
        missing = [index for index in range(self.count) if index not in self._scenes]
        if missing:
            rendered = track(self.stream(missing), len(missing), f"Rendering {len(missing)} scenes")
            self._scenes |= zip(missing, rendered, strict=True)

    def stream(self, indices: Sequence[int]) -> Iterator[Scene]:
        """Yields rendered scenes in the order of ``indices``. The scenes are not kept in memory.

        The label maps contain Cityscapes trainIds and are not converted to ``label_space``. On Linux, 32 or more scenes
        are rendered by up to four worker processes. The scenes do not depend on the number of processes.
        """

        def render(index: int) -> Scene:
            seed, look = seed_of(self.seed, index), self.look_of(index)
            return render_scene(seed, look=look, height=self.height, width=self.width)

        workers = min(usable_cores(), 4)
        done = 0
        # On other systems than Linux, worker processes are spawned and would import the caller's script again.
        if workers > 1 and len(indices) >= _WORTH_FORKING and sys.platform == "linux":
            try:
                for scene in ordered_map(render, indices, workers):
                    done += 1
                    yield scene
            except WorkerDiedError as error:
                problem = f"the processes that render scenes cannot go on (one {error})"
                remedy = "the rest is rendered without them, which takes longer"
                print(f"warning: {problem}; {remedy}", file=sys.stderr)
        yield from map(render, indices[done:])

    def _scene(self, index: int) -> Scene:
        if index not in self._scenes:
            self._scenes[index] = next(self.stream([index]))
        return self._scenes[index]


def write_scenes(scenes: StreetScenes, out: Path, split: str) -> int:
    """Writes the scenes that are missing in ``out``, and returns the number of written scenes.

    The files have the folder layout of Cityscapes.

    Raises:
        InputError: ``out`` contains scenes of this split with different settings, or ``out`` cannot be written.
        RunFailedError: The disk has not enough free space.
    """
    # Before compression, a scene has four bytes per pixel (RGB and label). At least one byte per pixel is expected to
    # remain after PNG compression.
    lacking = len(scenes) - sum(1 for _ in out.glob("leftImg8bit/**/*.png"))
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
    if found != wanted:  # scenes with different settings must not be mixed in one split
        problem = f"the folder holds scenes made with {shortened(found, 200)}, not {wanted}"
        raise InputError(f"{about}: {problem}; choose another folder")
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
    """Returns a hash of the code that renders scenes. Stored scenes with a different hash are not used."""
    digest = hashlib.sha256()
    for path in sorted(Path(street_scenes.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
