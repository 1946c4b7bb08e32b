"""Frames that may be labeled next: scoring all of them, and getting some of them again."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePath

import numpy as np
from jaxtyping import Float, UInt8

from iccld.data.image_files import read_image, write_png
from iccld.documents import read_json, reason
from iccld.errors import InputError
from iccld.files import printable, write_json
from iccld.inference.embedding import predict_and_embed
from iccld.inference.inputs import InputImage, InputVideo
from iccld.inference.prefetch import read_ahead
from iccld.inference.ranking import Score, frame_title, score_prediction
from iccld.inference.segmenter import PredictSettings, Segmenter
from iccld.inference.video_source import open_video
from iccld.progress import track

_FRAME = re.compile(r"_\d{6,}\.png\Z")


@dataclass(frozen=True)
class Candidate:
    """An image file, or a frame of a video.

    Attributes:
        item: the file.
        frame: the frame's number in the video, from 0; None for an image.
    """

    item: InputImage | InputVideo
    frame: int | None = None

    @property
    def file(self) -> str:
        """Path of the file, as it is printed."""
        return printable(str(self.item.path))

    @property
    def title(self) -> str:
        """A short name for people."""
        return frame_title(printable(self.item.path.name), self.frame)


@dataclass
class Scan:
    """What is known of all candidates.

    Attributes:
        candidates: images first, then the frames of videos.
        scores: from 0 (sure) to 1 (clueless).
        vectors: what they look like, of length 1.
        failures: one line for each file that cannot be read to its end.
    """

    candidates: list[Candidate] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def embeddings(self) -> Float[np.ndarray, "n d"]:
        """The vectors in one array."""
        return np.stack(self.vectors)


def scan(
    model: Segmenter,
    images: Sequence[InputImage],
    videos: Sequence[InputVideo],
    *,
    score: Score = "entropy",
    settings: PredictSettings | None = None,
    every: float = 1.0,
) -> Scan:
    """Predicts all candidates once and keeps a score and a short vector of each.

    Args:
        model: the model.
        images: image files.
        videos: video files.
        score: see ``iccld.inference.ranking.score_prediction``.
        settings: steps, draws and sizes.
        every: seconds from one frame of a video to the next that is looked at.

    Raises:
        InputError: ``every`` makes no sense, or the score is the disagreement of draws and there is one draw.
    """
    settings = settings or PredictSettings()
    if not 1e-6 <= every < float("inf"):
        raise InputError(f"every is {every}; give seconds, 0.000001 or more")
    draws = settings.draws or int(getattr(model, "draws", 1))
    if score == "mutual_information" and draws < 2:
        raise InputError("mutual_information is the disagreement between draws; give --draws 2 or more")
    found, embed = Scan(), predict_and_embed(model, settings)

    def add(candidate: Candidate, read: Callable[[], UInt8[np.ndarray, "h w 3"]]) -> None:
        try:
            prediction, vector = embed(read())
        except InputError as error:
            message = str(error)
            found.failures.append(message if candidate.file in message else f"{candidate.file}: {message}")
            return
        found.candidates.append(candidate)
        found.scores.append(score_prediction(prediction, score))
        found.vectors.append(vector)

    work = read_ahead(images, lambda item: read_image(item.path))
    for item, result in track(work, len(images), "Scoring"):
        add(Candidate(item), result)
    for video in videos:
        try:
            for number, image in _track_frames(video, every, found.failures):
                add(Candidate(video, number), partial(np.asarray, image))
        except InputError as error:
            found.failures.append(str(error))
    return found


def write_frames(
    candidates: Sequence[Candidate], folder: str | os.PathLike[str], every: float
) -> dict[Candidate, Path]:
    """Writes frames of videos as PNG files, ``NAME_000120.png``, so that they can be labeled.

    What an earlier run wrote and this one does not is removed: ``FOLDER.json`` lists it. Whatever else lies in the
    folder stays, also under a name like these.

    Args:
        candidates: images among them stay where they are.
        folder: where to write.
        every: as they were found.

    Returns:
        Where every candidate is as an image.

    Raises:
        InputError: a file cannot be written or removed, or the list of an earlier run's frames is none.
    """
    folder = Path(folder)
    places = {c: c.item.path for c in candidates if c.frame is None}
    wanted = [c for c in candidates if c.frame is not None]
    names = {c: f"{c.item.name}_{c.frame:06d}.png" for c in wanted}
    _remove_earlier(folder, set(names.values()))
    for video in dict.fromkeys(c.item for c in wanted):
        assert isinstance(video, InputVideo)
        numbers = {c.frame for c in wanted if c.item == video}
        for number, image in _frames(video, every, []):
            if number in numbers:
                candidate = Candidate(video, number)
                places[candidate] = write_png(folder / names[candidate], image)
                numbers.remove(number)
            if not numbers:
                break
    return places


def read_written(folder: str | os.PathLike[str]) -> set[str]:
    """Names of the frames that an earlier run wrote into a folder.

    Raises:
        InputError: their list cannot be read, or is another file of that name.
    """
    record = _record_of(Path(folder))
    if not record.exists():
        return set()
    try:
        names = read_json(record, limit=64_000_000)
    except InputError as error:
        raise InputError(f"{record}: cannot be read ({reason(error, record)}); move it away") from error
    if not isinstance(names, list) or not all(isinstance(name, str) and _is_frame(name) for name in names):
        raise InputError(
            f"{record}: is no list of frames that iccld rank wrote; move it away, or choose another --out"
        )
    return set(names)


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
            raise InputError(
                f"{path}: an earlier run's frame that cannot be removed ({error.strerror})"
            ) from error
    write_json(record, sorted(names))


def _track_frames(video: InputVideo, every: float, failures: list[str]) -> Iterator[tuple[int, np.ndarray]]:
    with closing(open_video(video)) as source:
        seconds = None if source.num_frames is None else source.num_frames / float(source.rate)
    total = None if seconds is None else max(1, round(seconds / every))
    yield from track(_frames(video, every, failures), total, video.title, unit="fps")


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
