"""Files for the browser: the pictures on the page, and the masks that ``iccld predict`` writes in one zip."""

from __future__ import annotations

import io
import json
import zipfile

import cv2
import numpy as np

from iccld.app.answers import Answer, Answers
from iccld.inference.class_key import CLASSES, LEGEND, class_list, draw_legend
from iccld.inference.label_ids import index_to_id
from iccld.inference.rendering import Image, colorize, heat_map


def pack_masks(answers: Answers) -> tuple[str, bytes]:
    """Packs label maps, color maps and uncertainty maps at the image's size.

    Of one model they are ``labels/NAME.png``, ``color/NAME.png`` and ``uncertainty/NAME.png``, as ``iccld predict``
    names them, with ``classes.json`` and ``legend.png``; of two, each model has a folder of its own.

    Returns:
        ``NAME_masks.zip`` and what it holds.
    """
    stem = answers.name.rpartition(".")[0]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # PNG is compressed already
        for number, answer in enumerate(answers.answers, start=1):
            # Numbers: the models' names may hold what no file name can.
            prefix = f"model{number}/" if len(answers.answers) > 1 else ""
            space = answer.model.segmenter.label_space
            classes = class_list(space, index_to_id(space, "train"))
            archive.writestr(f"{prefix}{CLASSES}", json.dumps(classes, indent=2) + "\n")
            archive.writestr(f"{prefix}{LEGEND}", _png(draw_legend(space)))
            for kind, picture in _pictures(answer).items():
                archive.writestr(f"{prefix}{kind}/{stem}.png", _png(picture))
    return f"{stem}_masks.zip", buffer.getvalue()


def encode_view(picture: Image) -> bytes:
    """Encodes a picture of the page as JPEG.

    Colors are not thinned out, as they are by default: classes keep their borders. PNG would take ten times as long.
    """
    quality = [
        *(cv2.IMWRITE_JPEG_QUALITY, 92),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    ]
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality)
    assert done, "OpenCV could not encode a JPEG"
    return encoded.tobytes()


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
