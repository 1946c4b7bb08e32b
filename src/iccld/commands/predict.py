"""``iccld predict``: segment image files."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from tyro.conf import arg

from iccld.commands.flags import Inputs, Model, OptionalNumber, OptionalSize, OutFolder
from iccld.errors import InputError

if TYPE_CHECKING:
    from iccld.data.description import Description
    from iccld.inference.label_ids import IdKind


@dataclass(frozen=True)
class PredictArgs:
    """Segments images: label maps, colors, overlays and uncertainty maps.

    Folders are taken with all images below them, and their structure is kept. Put globs in quotes:
      iccld predict MODEL photos 'drive/**/*.jpg' --out predictions

    For each image, PNG files of its size are written to DIR/labels, DIR/color, DIR/overlay and
    DIR/uncertainty. The uncertainty is the entropy of the class probabilities divided by its maximum: black
    is sure (0), pale yellow clueless (1), on the same scale for every image.

    Files that cannot be read are listed at the end; the others are done, and the exit code is 1.
    """

    model: Model
    """Folder of a saved model, a hub id, or an exported file."""
    inputs: Inputs
    """Images, globs or folders."""
    out: OutFolder
    """Folder to write to. Files of earlier runs are replaced."""
    steps: OptionalNumber = None
    """Denoising steps K: 1 by default, or what an exported model was made with."""
    draws: OptionalNumber = None
    """Noise draws N whose probabilities are averaged: 1 by default, or what an exported model was made with."""
    write: tuple[Literal["labels", "color", "overlay", "uncertainty"], ...] = (
        "labels",
        "color",
        "overlay",
        "uncertainty",
    )
    """What to write."""
    ids: Annotated[str, arg(metavar="train|index|cityscapes|FILE")] = "train"
    """Numbers in the label maps: train for Cityscapes trainIds (class indices if a class has none), index for
    the model's class indices, cityscapes for Cityscapes labelIds, or a dataset.toml for the ids of its labels."""
    window: OptionalSize = None
    """Height and width of a sliding window in pixels. By default each image is taken whole."""
    overlap: float = 0.25
    """Share of a window that the next one covers again."""
    resize: OptionalSize = None
    """Height and width that the model sees; outputs have the image's size. By default the image's own."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""
    threads: int = 0
    """CPU threads; 0 for automatic."""
    seed: int = 0
    """Seed of the noise."""

    def run(self) -> int:
        """Predicts; 1 if some images could not be."""
        from iccld.inference.inputs import find_inputs
        from iccld.inference.media import predict_files
        from iccld.inference.segmenter import PredictSettings, load_segmenter

        if not self.write:
            raise InputError("--write names nothing; give one or more of labels color overlay uncertainty")
        settings = PredictSettings(self.steps, self.draws, self.seed, self.window, self.overlap, self.resize)
        ids = _read_ids(self.ids)
        images = find_inputs(self.inputs, out=self.out)
        model = load_segmenter(self.model, device=self.device, threads=self.threads)
        failures = predict_files(model, images, self.out, write=self.write, ids=ids, settings=settings)
        done = len(images) - len(failures)
        print(f"{done} image{'' if done == 1 else 's'} predicted: {self.out}/ ({', '.join(self.write)})")
        if failures:
            print(f"iccld: {len(failures)} of {len(images)} images could not be predicted:", file=sys.stderr)
            for failure in failures:
                print(f"  {failure}", file=sys.stderr)
        return 1 if failures else 0


def _read_ids(ids: str) -> IdKind | Description:
    from iccld.data.description import read_description
    from iccld.inference.label_ids import IdKind

    kinds: dict[str, IdKind] = {kind: kind for kind in get_args(IdKind)}
    if ids in kinds:
        return kinds[ids]
    if not Path(ids).is_file():
        raise InputError(f"--ids {ids}: is no file; give a dataset.toml, or one of {', '.join(kinds)}")
    return read_description(Path(ids))
