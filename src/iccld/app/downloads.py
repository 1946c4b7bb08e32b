"""Files for the browser: the pictures on the page, and the masks that ``iccld predict`` writes in one zip."""

from __future__ import annotations

import io
import os
import uuid
import zipfile
from pathlib import Path

import cv2
import numpy as np

from iccld.app.answers import Answer, Answers
from iccld.files import write_atomic
from iccld.inference.label_ids import index_to_id
from iccld.inference.rendering import Image, colorize, heat_map

_VIEWS_KEPT = 3  # a browser may still be fetching the last ones


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


def write_view(picture: Image, folder: Path) -> str:
    """Writes a picture of the page as JPEG under a new name, and removes the older ones in its folder.

    Colors are not thinned out, as they are by default: classes keep their borders. PNG would take ten times as long.

    Returns:
        Its path.

    Raises:
        FileNotFoundError: the folder was removed meanwhile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    older = sorted(folder.glob("*.jpg"), key=_written_at)
    for path in older[:-_VIEWS_KEPT]:
        path.unlink(missing_ok=True)
    quality = [
        *(cv2.IMWRITE_JPEG_QUALITY, 92),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    ]
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality)
    assert done, "OpenCV could not encode a JPEG"
    target = folder / f"{uuid.uuid4().hex}.jpg"
    target.write_bytes(encoded.tobytes())
    return str(target)


def _written_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # another picture of the same page was faster to remove it
        return 0


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
