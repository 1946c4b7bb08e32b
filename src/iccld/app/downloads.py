"""The masks as files: what ``iccld predict`` writes, in one zip."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import cv2
import numpy as np

from iccld.app.answers import Answer, Answers
from iccld.files import write_atomic
from iccld.inference.label_ids import index_to_id
from iccld.inference.rendering import colorize, heat_map


def write_masks(answers: Answers, folder: str | os.PathLike[str]) -> Path:
    """Writes ``NAME_masks.zip`` with label maps, color maps and uncertainty maps at the image's size.

    Of one model they are ``labels/NAME.png``, ``color/NAME.png`` and ``uncertainty/NAME.png``, as ``iccld predict``
    names them; of two, each model has a folder of its own.

    Raises:
        InputError: the disk is full.
    """
    stem = Path(answers.name).stem
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # PNG is compressed already
        for number, answer in enumerate(answers.answers, start=1):
            # Numbers: the models' names may hold what no file name can.
            prefix = f"model{number}/" if len(answers.answers) > 1 else ""
            for kind, picture in _pictures(answer).items():
                archive.writestr(f"{prefix}{kind}/{stem}.png", _png(picture))
    return write_atomic(
        Path(folder) / f"{stem}_masks.zip", lambda temporary: temporary.write_bytes(buffer.getvalue())
    )


def _pictures(answer: Answer) -> dict[str, np.ndarray]:
    space = answer.model.segmenter.label_space
    return {
        "labels": index_to_id(space, "train")[answer.labels],
        "color": colorize(answer.labels, space),
        "uncertainty": heat_map(answer.levels / np.float32(255)),
    }


def _png(picture: np.ndarray) -> bytes:
    bgr = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".png", bgr)
    assert done, "OpenCV could not encode a PNG"
    return encoded.tobytes()
