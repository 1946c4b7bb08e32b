"""What a page can ask for, without HTTP: segment the upload, draw the answer, pack the masks."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from iccld.app.answers import AnswerStore, answer_image
from iccld.app.downloads import encode_view, pack_masks
from iccld.app.layers import Drawing, agreement, draw, legend
from iccld.app.models import AppModel
from iccld.app.sessions import Session, Sessions
from iccld.app.uploads import Upload, read_upload
from iccld.app.video import segment_video
from iccld.app.words import (
    MAX_DRAWS,
    MAX_STEPS,
    agreement_text,
    clip_facts,
    image_facts,
    legend_facts,
    page_facts,
)
from iccld.errors import InputError

Progress = Callable[[str, int, int], None]
"""Told a model's name, frames done and frames to do; what it raises ends the work."""


@dataclass(frozen=True)
class Request:
    """What a page asks for.

    Attributes:
        steps: K.
        draws: N.
        drawing: how a video is drawn; an image is drawn when its picture is fetched.
    """

    steps: int
    draws: int
    drawing: Drawing


class Service:
    """The work behind the page.

    Args:
        models: one or two, loaded.
        sessions: the open pages.
        store: of answers.
    """

    def __init__(self, models: Sequence[AppModel], sessions: Sessions, store: AnswerStore) -> None:
        self.models, self.sessions, self._store = tuple(models), sessions, store
        self._names = {name for model in models for name in model.shown.names}

    def describe(self) -> dict[str, Any]:
        """What the page needs to know before the first upload."""
        return page_facts(self.models, self.sessions.max_upload_bytes)

    # -- what comes from outside is read here -------------------------------------------------------------

    def read_request(self, value: Any) -> Request:
        """Reads the settings of a segmentation.

        Raises:
            InputError: they are not what the page sends.
        """
        if not isinstance(value, Mapping):
            raise InputError("settings are no object")
        hidden = value.get("hidden")
        if not isinstance(hidden, list) or len(hidden) > len(self._names):
            raise InputError("hidden is no list of class names")
        return Request(
            steps=_whole(value.get("steps"), "steps", 1, self._most(0, MAX_STEPS)),
            draws=_whole(value.get("draws"), "draws", 1, self._most(1, MAX_DRAWS)),
            drawing=self.read_drawing(value.get("opacity"), value.get("layer"), hidden),
        )

    def read_drawing(self, opacity: Any, layer: Any, hidden: Sequence[Any]) -> Drawing:
        """Reads how an answer is drawn; class names that no model knows hide nothing.

        Args:
            opacity: percent.
            layer: classes or uncertainty.
            hidden: names of classes.

        Raises:
            InputError: they are not what the page sends.
        """
        if layer not in ("classes", "uncertainty"):
            raise InputError("layer is not 'classes' or 'uncertainty'")
        names = frozenset(name for name in hidden if isinstance(name, str)) & self._names
        return Drawing(
            _whole(opacity, "opacity", 0, 100) / 100, cast(Literal["classes", "uncertainty"], layer), names
        )

    def _most(self, index: int, maximum: int) -> int:
        return max(maximum, *(model.effective(1, 1)[index] for model in self.models))

    # -- work, off the event loop --------------------------------------------------------------------------

    def segment(self, session: Session, request: Request, progress: Progress) -> dict[str, Any]:
        """Segments the upload of a session.

        Returns:
            What the page shows of it.

        Raises:
            InputError: there is no upload, or it cannot be segmented; the session's earlier answers are gone.
        """
        upload = session.upload
        if upload is None:
            raise InputError("There is no file here; choose one again")
        try:
            shown = self._clip if upload.is_video else self._image
            return shown(session, upload, request, progress)
        except Exception:
            self._forget(session)
            raise
        finally:
            if session.ended.is_set():  # the page was closed meanwhile
                self._forget(session)

    def _image(self, session: Session, upload: Upload, request: Request, _: Progress) -> dict[str, Any]:
        image = read_upload(upload)
        answers = answer_image(self.models, image, upload.name, steps=request.steps, draws=request.draws)
        session.answers = self._store.put(answers, replaces=session.answers)
        both = answers.answers
        return {
            "kind": "image",
            "answer": session.answers,
            "facts": [image_facts(answer) for answer in both],
            "agreement": agreement_text(agreement(*both)) if len(both) == 2 else "",
            "legend": legend_facts(legend(self.models, answers)),
        }

    def _clip(self, session: Session, upload: Upload, request: Request, progress: Progress) -> dict[str, Any]:
        self._forget(session)
        facts = []
        stem = upload.name.rpartition(".")[0]
        for number, model in enumerate(self.models, start=1):
            target = session.folder / f"{secrets.token_hex(8)}.mp4"
            clip = segment_video(
                model,
                upload,
                target,
                steps=request.steps,
                draws=request.draws,
                drawing=request.drawing,
                progress=functools.partial(self._check_room, progress, model.name),
            )
            suffix = f"_model{number}" if len(self.models) > 1 else ""
            session.clips = (*session.clips, (target, f"{stem}_overlay{suffix}.mp4"))
            facts.append(clip_facts(model, clip, model.effective(request.steps, request.draws)))
        return {
            "kind": "video",
            "answer": secrets.token_hex(4),
            "facts": facts,
            "agreement": "",
            "legend": legend_facts(legend(self.models)),
        }

    def _check_room(self, progress: Progress, name: str, done: int, total: int) -> None:
        if self.sessions.room() < 0:
            raise InputError("There is no room for this video; try again in some minutes")
        progress(name, done, total)

    def picture(self, session: Session, index: int, drawing: Drawing) -> bytes:
        """Draws the answer of one model as JPEG.

        Raises:
            InputError: there is no such answer, or it had to make room for others.
        """
        answers = self._store.get(session.answers)
        if not 0 <= index < len(answers.answers):
            raise InputError("There is no such model")
        return encode_view(draw(answers, index, drawing))

    def masks(self, session: Session) -> tuple[str, bytes]:
        """File name and content of the zip of label maps, colors and uncertainty.

        Raises:
            InputError: there is no answer, or it had to make room for others.
        """
        return pack_masks(self._store.get(session.answers))

    def _forget(self, session: Session) -> None:
        self._store.drop(session.answers)
        clips, session.answers, session.clips = session.clips, None, ()
        for path, _ in clips:
            path.unlink(missing_ok=True)


def _whole(value: Any, name: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise InputError(f"{name} is no whole number from {least} to {most}")
    return value
