"""Candidates for labeling: scores images and video frames by uncertainty, and writes video frames as PNG files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from iccld.data.image_files import read_image, write_png
from iccld.documents import read_json
from iccld.errors import InputError
from iccld.files import AnyPath, printable, write_failure, write_json
from iccld.inference.inputs import InputImage, InputVideo, naming
from iccld.inference.prefetch import read_ahead
from iccld.inference.ranking import Score, frame_title, predict_and_embed, score_prediction
from iccld.inference.segmenter import PredictSettings, Segmenter
from iccld.inference.video_source import open_video
from iccld.progress import track

_FRAME = re.compile(r"_\d{6,}\.png\Z")


@dataclass(frozen=True)
class Candidate:
    """An image file or a video frame that can be selected for labeling.

    ``frame`` is the frame number from 0, or ``None`` for an image file. ``score`` is the uncertainty, from 0 (certain)
    to 1 (most uncertain). ``vector`` is an embedding of unit length. Similar images have close embeddings.
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
        return frame_title(printable(self.item.path.name), self.frame)


def scan(
    model: Segmenter,
    images: Sequence[InputImage],
    videos: Sequence[InputVideo],
    *,
    score: Score = "entropy",
    settings: PredictSettings | None = None,
    every: float = 1.0,
) -> tuple[list[Candidate], list[str]]:
    """Segments images and video frames, and returns them as candidates with scores and embeddings.

    See ``score_prediction`` for ``score``. ``every`` is the time in seconds between two scored frames of a video.
    Raises ``InputError`` if ``every`` is out of range, or if ``score`` is ``mutual_information`` with one draw.

    Returns:
        The candidates, images before video frames, and messages about files that cannot be read completely.
    """
    settings = settings or PredictSettings()
    if not 1e-6 <= every < float("inf"):
        raise InputError(f"every is {every}; give seconds, 0.000001 or more")
    draws = settings.draws or int(getattr(model, "draws", 1))
    if score == "mutual_information" and draws < 2:
        raise InputError("mutual_information is the disagreement between draws; give --draws 2 or more")
    found: list[Candidate] = []
    failures: list[str] = []

    def add(item: InputImage | InputVideo, frame: int | None, read: Callable[[], Any]) -> None:
        try:
            prediction, vector = predict_and_embed(model, read(), settings)
        except InputError as error:
            failures.append(naming(Candidate(item).file, error))
            return
        found.append(Candidate(item, frame, score_prediction(prediction, score), vector))

    work = read_ahead(images, lambda item: read_image(item.path))
    for item, result in track(work, len(images), "Scoring"):
        add(item, None, result)
    for video in videos:
        try:
            with closing(open_video(video)) as source:
                seconds = None if source.num_frames is None else source.num_frames / float(source.rate)
            total = None if seconds is None else max(1, round(seconds / every))
            frames = _frames(video, every, failures)
            for number, image in track(frames, total, video.title, unit="fps"):
                add(video, number, partial(np.asarray, image))
        except InputError as error:
            failures.append(str(error))
    return found, failures


def write_frames(candidates: Sequence[Candidate], folder: AnyPath, every: float) -> dict[Candidate, Path]:
    """Writes the video frames among the candidates as PNG files with names such as ``NAME_000120.png``.

    The names of the written frames are listed in a JSON file next to the folder, for example in ``frames.json`` for the
    folder ``frames``. Frames that an earlier call wrote and this call does not write are removed. All other files in
    the folder are kept. ``every`` must have the same value as in the call of ``scan``.

    Returns:
        The image path of each candidate: the written PNG file of a video frame, or the image file itself.

    Raises:
        InputError: a file cannot be written or removed, or the existing JSON file is not a list of frames.
    """
    folder = Path(folder)
    places = {c: c.item.path if c.frame is None else folder / _frame_name(c) for c in candidates}
    _remove_earlier(folder, {_frame_name(c) for c in candidates if c.frame is not None})
    for video in dict.fromkeys(c.item for c in candidates if isinstance(c.item, InputVideo)):
        numbers = {c.frame for c in candidates if c.item == video}
        for number, image in _frames(video, every, []):
            if number in numbers:
                write_png(places[Candidate(video, number)], image)
                numbers.remove(number)
            if not numbers:
                break
    return places


def read_written(folder: AnyPath) -> set[str]:
    """Returns the file names in the JSON file that ``write_frames`` wrote next to ``folder``.

    If the JSON file does not exist, the result is empty. Raises ``InputError`` if the file is not a list of frames.
    """
    record = _record_of(Path(folder))
    if not record.exists():
        return set()
    names = read_json(record, limit=64_000_000, remedy="move it away")
    if not isinstance(names, list) or not all(isinstance(name, str) and _is_frame(name) for name in names):
        remedy = "move it away, or choose another --out"
        raise InputError(f"{record}: is no list of frames that iccld rank wrote; {remedy}")
    return set(names)


def _frame_name(candidate: Candidate) -> str:
    return f"{candidate.item.name}_{candidate.frame:06d}.png"


def _is_frame(name: str) -> bool:
    """Checks that a file name has the form ``NAME_000120.png`` and is a path inside the folder."""
    path = PurePath(name)
    return bool(_FRAME.search(name)) and not path.is_absolute() and ".." not in path.parts


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


def _frames(video: InputVideo, every: float, failures: list[str]) -> Iterator[tuple[int, np.ndarray]]:
    """Yields number and image of the first frame at or after each time: 0, ``every``, 2 × ``every`` … seconds.

    A message about a damaged video is appended to ``failures``.
    """
    with closing(open_video(video)) as source:
        step = Fraction(every).limit_denominator(1_000_000)
        start, due = None, Fraction(0)
        for number, frame in enumerate(source.frames()):
            start = frame.pts if start is None else start
            time = (frame.pts - start) * source.time_base
            if time >= due:
                yield number, frame.image
                due = (time // step + 1) * step
        if source.problem:
            failures.append(source.problem)
