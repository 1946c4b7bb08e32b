"""Prediction of blocks of images: in this process, or by the workers of a Ray cluster."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iccld.data.inputs import InputImage
from iccld.errors import RunFailedError, first_line, import_extra
from iccld.inference.blocks import Block, row_of
from iccld.inference.mapping import load_mapped
from iccld.inference.media import AnnotationKind, OutputKind, predict_files
from iccld.inference.runtimes import start_ray
from iccld.inference.segmenter import Segmenter
from iccld.models.prediction import Prediction
from iccld.progress import track


@dataclass(frozen=True)
class Work:
    """What is done with each image.

    Attributes:
        model: Name of the model (see ``iccld.inference.segmenter.load_segmenter``).
        map: Other classes, or ``None`` (see ``iccld.inference.mapping.read_map``).
        out: Output folder, which all workers can write to.
        write: Kinds of outputs, without the table.
        options: Further arguments of ``predict_files``.
        device: Device of a worker.
        threads: Number of CPU threads of a worker. 0 means automatic.
    """

    model: str
    map: str | None
    out: Path
    write: Sequence[OutputKind | AnnotationKind]
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    threads: int = 0

    def load(self) -> Segmenter:
        """Loads the model."""
        return load_mapped(self.model, self.map, device=self.device, threads=self.threads)

    def predict(self, model: Segmenter, blocks: Sequence[Block]) -> list[str]:
        """Predicts blocks one after the other. Returns one message for each image that could not be predicted."""
        block_of = {image.name: block for block in blocks for image in block.images}

        def finish(image: InputImage, prediction: Prediction | None) -> None:
            mask = f"labels/{image.name}.png" if "labels" in self.write else None
            row = None if prediction is None else row_of(image, prediction, model.label_space, mask)
            block_of[image.name].finish(image, row)

        images = [image for block in blocks for image in block.images]
        return predict_files(model, images, self.out, write=self.write, finish=finish, **self.options)


class _Worker:
    """Actor of Ray: loads the model once, and then predicts block after block."""

    def __init__(self, work: Work) -> None:
        self.work, self.model = work, work.load()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        block = pickle.loads(row["block"])  # written by ``predict_with_ray`` on the same cluster
        return {"failures": self.work.predict(self.model, [block])}


def predict_with_ray(work: Work, blocks: Sequence[Block], *, workers: int, gpus: float) -> list[str]:
    """Predicts blocks with actors of Ray Data, on this machine or on the cluster in ``RAY_ADDRESS``.

    If a worker is lost, its block is predicted again by another worker. The outputs are those of ``Work.predict``.

    Args:
        work: What is done with each image. Workers load the model themselves.
        blocks: Blocks to predict.
        workers: Number of actors. Each actor has ``work.threads`` CPUs (at least one).
        gpus: Number of GPUs of an actor.

    Returns:
        One message for each image that could not be predicted.

    Raises:
        InputError: Ray is not installed, or there is no cluster at ``RAY_ADDRESS``.
        RunFailedError: A worker failed with an error.
    """
    ray = start_ray("--engine ray")
    import_extra("ray.data", "--engine ray needs Ray Data", "ray")
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        rows = [{"block": pickle.dumps(block)} for block in blocks]
        results = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,
            fn_constructor_args=(work,),
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
            num_cpus=max(1, work.threads),
            num_gpus=gpus or None,
        )
        done = track(results.iter_rows(), len(rows), f"Predicting blocks with {workers} workers")
        return [message for row in done for message in row["failures"]]
    except ray.exceptions.RayError as error:
        raise RunFailedError(f"a worker of Ray failed: {first_line(error)}") from error
    finally:
        ray.shutdown()
