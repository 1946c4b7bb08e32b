"""Functions of the app that do not use HTTP: they segment uploads and describe the results for the page.

All descriptions for the page are plain text and numbers, never HTML.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iccld.app.answers import MAX_DRAWS, MAX_STEPS, Answer, Answers, AppModel, Settings, answer_image, compose
from iccld.app.sessions import MAX_PIXELS, Session, Sessions, Upload, check_pixels
from iccld.data.inputs import InputVideo
from iccld.drawing import to_levels
from iccld.errors import InputError
from iccld.inference.video_source import Container
from iccld.inference.video_writer import VideoWriter, writing_video
from iccld.labels import IGNORE

MAX_FRAMES = 300
Progress = Callable[[str, int, int], None]
"""Callback with three arguments: model name, number of finished frames, and expected total number of frames."""


@dataclass(frozen=True)
class Clip:
    """The result of segmenting a video.

    Attributes:
        frames: Number of segmented frames.
        cut: Whether the video has further frames, which were not segmented.
        size: Height and width of the frames in pixels.
        seconds_per_frame: Mean computing time of a frame in seconds.
    """

    frames: int
    cut: bool
    size: tuple[int, int]
    seconds_per_frame: float


def segment_video(
    model: AppModel,
    source: Upload,
    target: Path,
    settings: Settings,
    progress: Callable[[int, int], None],
    *,
    max_frames: int = MAX_FRAMES,
) -> Clip:
    """Segments up to ``max_frames`` frames of a video and writes an MP4 file with the overlays.

    The MP4 file has the timestamps and the sound of the video. ``progress`` gets the number of finished frames and the
    expected total number of frames. An exception in ``progress`` ends the work. Raises ``InputError`` if no frame can
    be decoded, or if the frames are too large.
    """
    with source.opened() as path, ExitStack() as files:
        video = files.enter_context(closing(Container(InputVideo(str(path), path.stem))))
        # Checked before decoding, because decoding already needs memory for a whole frame.
        check_pixels(source.name, *video.size)
        total = min(max_frames, video.num_frames or max_frames)
        done, cut, spent, size = 0, False, 0.0, (0, 0)
        writer: VideoWriter | None = None
        for frame in video.frames():
            if done == max_frames:
                cut = True
                break
            size = (frame.image.shape[0], frame.image.shape[1])
            check_pixels(source.name, *size)
            start = time.perf_counter()
            prediction = model.predict(frame.image, settings.steps, settings.draws)
            spent += time.perf_counter() - start
            levels = to_levels(prediction.relative_uncertainty)
            picture = compose(frame.image, prediction.labels, levels, model.shown, settings)
            if writer is None:
                opened = writing_video(target, size, sound_of=path, **video.announced)
                writer = files.enter_context(opened)
            writer.add(picture, frame.pts, frame.duration)
            done += 1
            progress(done, max(total, done))
    return Clip(done, cut, size, spent / done)


class Service:
    """The functions of the app, for one or two loaded models and all open sessions."""

    def __init__(self, models: Sequence[AppModel], sessions: Sessions) -> None:
        self.models, self.sessions = tuple(models), sessions

    def models_of(self, session: Session) -> tuple[AppModel, ...]:
        """Returns the models that segment the uploads of a session."""
        return session.models or self.models

    def segment(self, session: Session, settings: Settings, progress: Progress) -> dict[str, Any]:
        """Segments the upload of a session and describes the result. After an error, no older result is kept."""
        upload = session.upload
        if upload is None:
            raise InputError("There is no file here; choose one again")
        work = self._clip if upload.is_video else self._image
        try:
            # The page appends this id to the URLs of pictures, so that browsers do not show cached old pictures.
            return {"answer": secrets.token_hex(4), **work(session, upload, settings, progress)}
        except Exception:
            session.forget()
            raise

    def _image(self, session: Session, upload: Upload, settings: Settings, _: Progress) -> dict[str, Any]:
        image = upload.read()
        models = self.models_of(session)
        answers = answer_image(models, image, upload.name, steps=settings.steps, draws=settings.draws)
        self.sessions.keep(session, answers)
        both, asked = answers.answers, (settings.steps, settings.draws)
        return {
            "kind": "image",
            "facts": [_facts(a.model, f"{a.seconds * 1000:.0f} ms", a.labels.shape, asked) for a in both],
            "agreement": agreement_text(agreement(*both)) if len(both) == 2 else "",
            "legend": legend(models, answers),
        }

    def _clip(
        self, session: Session, upload: Upload, settings: Settings, progress: Progress
    ) -> dict[str, Any]:
        session.forget()
        facts = []
        stem = upload.name.rpartition(".")[0]
        models = self.models_of(session)
        for number, model in enumerate(models, start=1):

            def tell(done: int, total: int, name: str = model.name) -> None:
                if self.sessions.room() < 0:
                    raise InputError("There is no room for this video; try again in some minutes")
                progress(name, done, total)

            target = session.folder / f"{secrets.token_hex(8)}.mp4"
            clip = segment_video(model, upload, target, settings, tell)
            suffix = f"_model{number}" if len(models) > 1 else ""
            session.clips = (*session.clips, (target, f"{stem}_overlay{suffix}.mp4"))
            facts.append(clip_facts(model, clip, (settings.steps, settings.draws)))
        return {"kind": "video", "facts": facts, "agreement": "", "legend": legend(models)}


def page_facts(models: Sequence[AppModel], max_upload_bytes: int) -> dict[str, Any]:
    """Returns the content that the page shows before the first upload, such as models, hint, sliders and legend."""
    return {
        "models": [
            {"name": model.name, "classes": len(model.shown), "palette": model.classes} for model in models
        ],
        "hint": (
            f"An image of up to {MAX_PIXELS / 1e6:g} million pixels, or a video of which the first {MAX_FRAMES} frames "
            f"are taken; {max_upload_bytes / 2**20:g} MiB at most. Files stay with this program and are gone when the "
            "page is closed."
        ),
        "max_upload_bytes": max_upload_bytes,
        "steps": _slider(models, 0, MAX_STEPS),
        "draws": _slider(models, 1, MAX_DRAWS),
        "settings_note": " ".join(model.settings_note for model in models if model.settings_note),
        "legend": legend(models),
    }


def legend(models: Sequence[AppModel], answers: Answers | None = None) -> list[dict[str, Any]]:
    """Returns the legend of the page: the classes of all models. Classes that cover more pixels come first.

    Each entry contains the name, text and RGB color of a class. ``occurs`` is true if a prediction contains the class.
    In this case, the text is for example ``road 41.2 %`` with one model and ``road 41.2 / 39.9 %`` with two models. A
    dash replaces the number of a model that lacks the class. Otherwise, the text is the name of the class. Without
    ``answers``, ``occurs`` is always false.
    """
    shares: list[dict[str, float]] = []
    for index, model in enumerate(models):
        labels = np.empty(0, np.uint8) if answers is None else answers.answers[index].labels
        counts = np.bincount(labels.ravel(), minlength=256) / max(1, labels.size)
        shares.append({name: float(counts[i]) for i, name in enumerate(model.shown.names)})
    colors = {c.name: c.color for model in reversed(models) for c in model.shown.classes}
    names = dict.fromkeys(name for found in shares for name in found)
    most = {name: max(found.get(name, 0) for found in shares) for name in names}
    return [
        {
            "name": name,
            "text": f"{name} {' / '.join(_percent(s.get(name)) for s in shares)} %" if most[name] else name,
            "color": colors[name],
            "occurs": most[name] > 0,
        }
        for name in sorted(names, key=lambda name: -most[name])
    ]


def agreement(first: Answer, second: Answer) -> float | None:
    """Returns the fraction of pixels, in [0, 1], for which two models predict the same class.

    The classes of the larger label space are mapped to the smaller label space. Pixels with a class that the other
    model does not have are skipped. Returns ``None`` if no pixel is left.
    """
    fine, coarse = sorted((first, second), key=lambda answer: -len(answer.model.shown))
    table = np.array(fine.model.shown.lut_to(coarse.model.shown), np.uint8)
    folded = table[fine.labels]
    known = (folded != IGNORE) & np.isin(coarse.labels, table)
    return float((folded == coarse.labels)[known].mean()) if known.any() else None


def agreement_text(share: float | None) -> str:
    """Returns a sentence about the agreement of two models; see ``agreement`` for ``share``."""
    if share is None:
        return "The two models have no class in common."
    return f"The two models agree on {share * 100:.1f} % of the pixels."


def clip_facts(model: AppModel, clip: Clip, settings: tuple[int, int]) -> str:
    """Describes a segmented video as text: model, time, frame size, K and N, with a note if frames were omitted."""
    took = f"{clip.frames} frames, {clip.seconds_per_frame * 1000:.0f} ms each"
    cut = f"; the video goes on, but only its first {clip.frames} frames are taken" if clip.cut else ""
    return _facts(model, took, clip.size, settings) + cut


def _facts(model: AppModel, took: str, size: Sequence[int], settings: tuple[int, int]) -> str:
    steps, draws = model.fixed or settings
    where = f"on {model.device} for {size[1]}×{size[0]} pixels"
    return f"{model.name}: {took} {where}, K\u00a0=\u00a0{steps}, N\u00a0=\u00a0{draws}"


def _slider(models: Sequence[AppModel], index: int, maximum: int) -> dict[str, Any]:
    """Returns the value and maximum of the page's slider for K (``index`` 0) or N (``index`` 1).

    ``free`` is false if all models are exported, because exported files fix the value. The slider then cannot be moved.
    """
    fixed = [model.fixed[index] for model in models if model.fixed is not None]
    free = len(fixed) < len(models)
    value = 1 if free else fixed[0]
    return {"value": value, "max": max(maximum, value), "free": free}


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    return "<0.1" if 0 < share < 0.0005 else f"{share * 100:.1f}"
