"""Frames that may be labeled next: scoring all of them, and writing some of them."""

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
    """An image file, or a frame of a video by its number from 0.

    Its score goes from 0 (sure) to 1 (clueless); its vector, of length 1, tells what it looks like.
    """

    item: InputImage | InputVideo
    frame: int | None = None
    score: float = field(default=0.0, compare=False)
    vector: Any = field(default=None, compare=False, repr=False)

    @property
    def file(self) -> str:
        """Path of the file, as it is printed."""
        return self.item.title

    @property
    def title(self) -> str:
        """A short name for people."""
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
    """Predicts all candidates once and keeps a score (see ``score_prediction``) and a short vector of each.

    ``every`` is the time, in seconds, from one frame of a video to the next that is looked at.

    Returns:
        Images first, then the frames of videos; and a line for each file that cannot be read to its end.
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
    """Writes frames of videos as PNG files, ``NAME_000120.png``, so that they can be labeled.

    What an earlier run wrote and this one does not is removed: ``FOLDER.json`` lists it. Whatever else lies in the
    folder stays, also under a name like these. ``every`` is the one that ``scan`` had.

    Returns:
        Where every candidate is as an image; those that are images stay where they are.

    Raises:
        InputError: a file cannot be written or removed, or the list of an earlier run's frames is none.
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
    """Names of the frames that an earlier run wrote into a folder; ``InputError`` if their list is another file."""
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
    """Whether it is a name that we give, within the folder."""
    path = PurePath(name)
    return bool(_FRAME.search(name)) and not path.is_absolute() and ".." not in path.parts


def _record_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _remove_earlier(folder: Path, names: set[str]) -> None:
    """Removes the frames that an earlier run wrote beside these, and lists these in place of them."""
    earlier, record = read_written(folder), _record_of(folder)
    if not earlier | names:
        return
    # First the list of all that is about to be there: a run that is stopped forgets none of it.
    write_json(record, sorted(earlier | names))
    for path in (folder / name for name in earlier - names):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise write_failure(path, error) from error
    write_json(record, sorted(names))


def _frames(video: InputVideo, every: float, failures: list[str]) -> Iterator[tuple[int, np.ndarray]]:
    """Frames, with their numbers, that are the first at or after 0, every, 2 × every ... seconds."""
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
