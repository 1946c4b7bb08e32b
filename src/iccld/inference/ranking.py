"""Ranking of images and video frames for labeling: selects uncertain frames that differ from each other.

Uncertainty alone could select ten copies of one difficult scene. Therefore, frames are selected one after another. Each
time, the selected frame has the largest product of uncertainty score and distance to the nearest frame that is already
selected. Distances are computed between embeddings. The product follows maximal marginal relevance
(Carbonell and Goldstein 1998, *The Use of MMR, Diversity-Based Reranking*). The distance follows the k-center rule for
active learning (Sener and Savarese 2018, *Active Learning for Convolutional Neural Networks: A Core-Set Approach*).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from iccld.data.image_files import read_image, write_png
from iccld.data.inputs import InputImage, InputVideo, naming
from iccld.documents import read_json
from iccld.errors import InputError
from iccld.escaping import in_csv
from iccld.files import AnyPath, printable, write_failure, write_json, write_text
from iccld.inference.prefetch import read_ahead
from iccld.inference.segmenter import PredictSettings, Segmenter, predict_and_embed
from iccld.inference.video_source import VideoSource, open_video
from iccld.models.prediction import Prediction
from iccld.progress import track

Score = Literal["entropy", "mutual_information", "margin"]


@dataclass(frozen=True)
class Candidate:
    """An image file or a video frame that can be selected for labeling.

    ``frame`` is the number of the video frame, starting at 0, or ``None`` for an image file. ``score`` is the
    uncertainty, from 0 (certain) to 1 (most uncertain). ``vector`` is an embedding of unit length.
    """

    item: InputImage | InputVideo
    frame: int | None = None
    score: float = field(default=0.0, compare=False)
    vector: Any = field(default=None, compare=False, repr=False)

    @property
    def file(self) -> str:
        """Path of the file, name of the camera, or URL of the stream, as printed in messages."""
        return self.item.title

    @property
    def title(self) -> str:
        """Short name for display, such as ``photo.png`` or ``clip.mp4#120``."""
        return _frame_title(printable(self.item.path.name), self.frame)


@dataclass(frozen=True)
class Ranked:
    """One frame of a ranking. ``index`` is the frame's index in the input order.

    ``neighbor`` is the index of the nearest frame that was selected before. ``distance`` is the distance between the
    embeddings of these two frames, from 0 (identical) to 2. For the first frame, ``neighbor`` and ``distance`` are
    ``None``.
    """

    index: int
    score: float
    distance: float | None
    neighbor: int | None


def scan(
    model: Segmenter,
    images: Sequence[InputImage],
    videos: Sequence[InputVideo],
    *,
    score: Score = "entropy",
    settings: PredictSettings | None = None,
    every: float = 1.0,
) -> tuple[list[Candidate], list[str]]:
    """Segments images and video frames.

    Returns the candidates, and messages about files that cannot be read completely. Images come before video frames.
    ``every`` is the time in seconds between two scored frames of a video. Raises ``InputError`` if ``every`` is out of
    range, or if ``score`` is ``mutual_information`` and there is only one draw.
    """
    settings = settings or PredictSettings()
    if not 1e-6 <= every < float("inf"):
        raise InputError(f"every is {every}; give seconds, 0.000001 or more")
    draws = settings.draws or int(getattr(model, "draws", 1))
    if score == "mutual_information" and draws < 2:
        raise InputError("mutual_information is the disagreement between draws; give --draws 2 or more")
    found: list[Candidate] = []
    failures: list[str] = []

    def add(item: InputImage | InputVideo, frame: int | None, read: Callable[[], np.ndarray]) -> None:
        try:
            prediction, vector = predict_and_embed(model, read(), settings)
        except InputError as error:
            failures.append(naming(item.title, error))
            return
        found.append(Candidate(item, frame, score_prediction(prediction, score), vector))

    work = read_ahead(images, lambda item: read_image(item.path))
    for item, result in track(work, len(images), "Scoring"):
        add(item, None, result)
    for video in videos:
        try:
            with closing(open_video(video)) as source:
                count = source.num_frames
                total = None if count is None else max(1, round(count / float(source.rate) / every))
                for number, image in track(_frames(source, every), total, video.title, unit="fps"):
                    add(video, number, partial(np.asarray, image))
            if source.problem:
                failures.append(source.problem)
        except InputError as error:
            failures.append(str(error))
    return found, failures


def score_prediction(prediction: Prediction, score: Score = "entropy") -> float:
    """Returns the mean uncertainty of an image's pixels, from 0 (certain) to 1 (most uncertain).

    ``entropy`` is the entropy of the class probabilities, divided by its maximum log k. ``mutual_information`` is the
    part of the entropy that comes from disagreement between noise draws, also divided by log k. ``margin`` is 1 −
    (highest − second-highest probability).
    """
    if score == "entropy":
        return float(prediction.relative_uncertainty.mean(dtype=np.float64))
    if score == "mutual_information":
        return float(prediction.relative_mutual_information.mean(dtype=np.float64))
    if len(prediction.probabilities) < 2:
        return 0.0
    second, first = np.partition(prediction.probabilities, -2, axis=0)[-2:]
    return float(1 - (first - second).mean(dtype=np.float64))


def rank(
    scores: Sequence[float], embeddings: Float[np.ndarray, "n d"], *, top: int, diversity: float = 1.0
) -> list[Ranked]:
    """Orders frames by score × distance^diversity.

    The distance is the Euclidean distance between the embeddings of a frame and of the nearest frame that was selected
    before. The first ``top`` frames are selected one by one. The remaining frames are sorted by the same product, but
    only distances to the first ``top`` frames are used. Thus, n frames need n × top distances instead of n². Frames
    with equal products keep their order. With ``diversity`` 0, only the scores matter. Raises ``InputError`` if ``top``
    or ``diversity`` is out of range.
    """
    if top < 1:
        raise InputError(f"top is {top}; give 1 or more")
    if not 0 <= diversity < float("inf"):
        raise InputError(f"diversity is {diversity}; give 0 (uncertainty alone) or more")
    values = np.asarray(scores, dtype=np.float64)
    vectors = embeddings.astype(np.float64)
    nearest = np.full(len(values), np.inf)
    neighbors = np.full(len(values), -1)
    left = np.ones(len(values), dtype=bool)
    order: list[Ranked] = []

    def take(index: int) -> None:
        first = neighbors[index] < 0
        distance, neighbor = (None, None) if first else (float(nearest[index]), int(neighbors[index]))
        order.append(Ranked(index, float(values[index]), distance, neighbor))
        left[index] = False

    for _ in range(min(top, len(values))):
        gains = values if not order else values * nearest**diversity
        chosen = int(np.where(left, gains, -1.0).argmax())
        take(chosen)
        distances = np.linalg.norm(vectors - vectors[chosen], axis=1)
        closer = distances < nearest
        nearest[closer], neighbors[closer] = distances[closer], chosen
    for index in np.argsort(-values * nearest**diversity, kind="stable"):
        if left[index]:
            take(int(index))
    return order


def ranking_rows(
    order: Sequence[Ranked], names: Sequence[tuple[str, int | None]]
) -> list[dict[str, str | int | float | None]]:
    """Returns a ranking as rows with rank, file, frame, score, distance and neighbor. Missing values are ``None``.

    ``names`` contains, in input order, the file and the frame number (``None`` for an image file) of each frame.
    """
    return [
        {
            "rank": place,
            "file": names[item.index][0],
            "frame": names[item.index][1],
            "score": item.score,
            "distance": item.distance,
            "neighbor": None if item.neighbor is None else _frame_title(*names[item.neighbor]),
        }
        for place, item in enumerate(order, start=1)
    ]


def write_ranking(path: AnyPath, order: Sequence[Ranked], names: Sequence[tuple[str, int | None]]) -> Path:
    """Writes the rows of ``ranking_rows`` as CSV and returns the path. Score and distance have six decimal places."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["rank", "file", "frame", "score", "distance", "neighbor"])
    for row in ranking_rows(order, names):
        table.writerow([f"{cell:.6f}" if isinstance(cell, float) else in_csv(cell) for cell in row.values()])
    return write_text(path, text.getvalue())


def _frame_title(file: str, frame: int | None) -> str:
    return file if frame is None else f"{file}#{frame}"


def write_frames(candidates: Sequence[Candidate], folder: AnyPath, every: float) -> dict[Candidate, Path]:
    """Writes the video frames among the candidates as PNG files with names such as ``NAME_000120.png``.

    The names of the written frames are listed in a JSON file next to the folder, such as ``frames.json`` for the folder
    ``frames``. Frames that an earlier call wrote and this call does not write are removed. All other files in the
    folder are kept. ``every`` must have the same value as in the call of ``scan``. Returns the path of each candidate's
    image. Raises ``InputError`` if a file cannot be written or removed, or if the JSON file is not a list of frames.
    """
    folder = Path(folder)
    names = {c: f"{c.item.name}_{c.frame:06d}.png" for c in candidates if c.frame is not None}
    _remove_earlier(folder, set(names.values()))
    places = {c: folder / names[c] if c in names else c.item.path for c in candidates}
    for video in dict.fromkeys(c.item for c in candidates if isinstance(c.item, InputVideo)):
        numbers = {c.frame for c in candidates if c.item == video}
        with closing(open_video(video)) as source:
            for number, image in _frames(source, every):
                if number in numbers:
                    write_png(places[Candidate(video, number)], image)
                    numbers.remove(number)
                if not numbers:
                    break
    return places


def read_written(folder: AnyPath) -> set[str]:
    """Returns the names in the JSON file next to ``folder`` (see ``write_frames``).

    Returns an empty set if the file does not exist. Raises ``InputError`` if the file is not a list of frames.
    """
    record = _record_of(Path(folder))
    if not record.exists():
        return set()
    names = read_json(record, limit=64_000_000, remedy="move it away")
    if not isinstance(names, list) or not all(isinstance(name, str) and _is_frame(name) for name in names):
        remedy = "move it away, or choose another --out"
        raise InputError(f"{record}: is no list of frames that iccld rank wrote; {remedy}")
    return set(names)


def _is_frame(name: str) -> bool:
    """Checks that a file name has the form ``NAME_000120.png`` and is a path inside the folder."""
    path = PurePath(name)
    return bool(re.search(r"_\d{6,}\.png\Z", name)) and not path.is_absolute() and ".." not in path.parts


def _record_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _remove_earlier(folder: Path, names: set[str]) -> None:
    """Removes the frames of an earlier call that are not in ``names``, and writes ``names`` to the JSON file."""
    earlier, record = read_written(folder), _record_of(folder)
    if not earlier | names:
        return
    # Until old frames are removed, the JSON file lists old and new frames. If the process is interrupted, every frame
    # in the folder is still listed.
    write_json(record, sorted(earlier | names))
    for path in (folder / name for name in earlier - names):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise write_failure(path, error) from error
    write_json(record, sorted(names))


def _frames(source: VideoSource, every: float) -> Iterator[tuple[int, np.ndarray]]:
    """Yields number and image of the first frame at or after each multiple of ``every`` seconds.

    Times are relative to the first frame of the video.
    """
    step = Fraction(every).limit_denominator(1_000_000)
    start, due = None, Fraction(0)
    for number, frame in enumerate(source.frames()):
        start = frame.pts if start is None else start
        time = (frame.pts - start) * source.time_base
        if time >= due:
            yield number, frame.image
            due = (time // step + 1) * step
