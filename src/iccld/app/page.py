"""The page: components, and what happens when one of them is moved."""

from __future__ import annotations

import functools
import shutil
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from iccld.app import markup
from iccld.app.answers import Answers, AnswerStore, answer_image
from iccld.app.downloads import write_masks, write_view
from iccld.app.layers import Drawing, agreement, draw, legend
from iccld.app.layout import Layout, choices
from iccld.app.models import AppModel
from iccld.app.uploads import is_video, read_upload
from iccld.app.video import segment_video
from iccld.errors import InputError

Updates = dict[Any, Any]


class Page:
    """The page of one or two models.

    Args:
        models: loaded.
        folder: for files that are offered for download; removed by whoever made it.
        max_upload_mb: what the page says of the limit that the server sets.

    Attributes:
        blocks: what Gradio serves.
        ending: set when the server ends, so that no video is segmented on.
    """

    def __init__(self, models: Sequence[AppModel], folder: Path, *, max_upload_mb: int) -> None:
        self.models, self.folder = tuple(models), folder
        self.store, self.ending = AnswerStore(), threading.Event()
        self.blocks = gr.Blocks(
            title="iccld", analytics_enabled=False, delete_cache=(300, 3600), fill_width=True
        )
        with self.blocks:
            self.parts = Layout(self.models, max_upload_mb, self._forget, self._remove)
            self._connect()

    # -- events ------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        parts = self.parts
        drawing = [parts.opacity, parts.layer, parts.legend]
        asked = [parts.file, parts.steps, parts.draws, *drawing, parts.key, parts.clip]
        shown = [part for pane in parts.panes for part in (pane.image, pane.video, pane.facts)]
        texts = [parts.notice, parts.agreement, parts.legend, parts.style]
        everything = [*shown, *texts, parts.download, parts.again, parts.key, parts.clip]
        seen = [*(pane.image for pane in parts.panes), parts.notice, parts.scale]
        # One prediction at a time, whoever asks; drawing goes on beside it.
        work: dict[str, Any] = {
            "concurrency_id": "predict",
            "concurrency_limit": 1,
            "show_progress_on": [part for pane in parts.panes for part in (pane.image, pane.video)],
            "api_visibility": "private",
        }
        quick: dict[str, Any] = {
            "concurrency_id": "draw",
            "concurrency_limit": 4,
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        for event, function, mode in (
            (parts.file.change, self._segment, "multiple"),
            (parts.again.click, self._segment, "once"),
            (parts.steps.change, self._segment_anew, "always_last"),
            (parts.draws.change, self._segment_anew, "always_last"),
        ):
            answered = event(function, asked, everything, trigger_mode=mode, **work)
            # Drawn with what opacity, layer and classes are by then.
            drawn = answered.success(self._draw, [*drawing, parts.key], seen, **quick)
            drawn.success(self._masks, parts.key, parts.download, **quick)
        for event in (parts.opacity.input, parts.layer.input, parts.legend.input):
            event(self._draw, [*drawing, parts.key], seen, trigger_mode="always_last", **quick)
        every = [entry.name for entry in legend(self.models)]
        for button, names in ((parts.show_all, every), (parts.hide_all, [])):
            chosen = button.click(functools.partial(list, names), None, parts.legend, **quick)
            chosen.then(self._draw, [*drawing, parts.key], seen, **quick)

    def _segment(
        self,
        file: str | None,
        steps: int,
        draws: int,
        opacity: float,
        layer: Any,
        shown: list[str],
        key: str | None,
        clip: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio finds its progress bar by this default)
    ) -> Updates:
        """Segments a file; what cannot be segmented becomes a sentence."""
        self._remove(clip)
        if file is None:
            self._forget(key)
            return self._cleared(shown)
        path, settings = Path(file), (int(steps), int(draws))
        try:
            if not is_video(path):
                return self._segment_image(path, settings, shown, key)
            self._forget(key)
            return self._segment_clip(path, settings, self._drawing(opacity, layer, shown), progress)
        except InputError as error:
            self._forget(key)
            return self._cleared(shown) | self._notice(error)

    def _segment_anew(self, file: str | None, steps: int, draws: int, *others: Any) -> Updates:
        """Segments an image with another K or N; a video waits for the button."""
        if file is None or is_video(file):
            return {self.parts.notice: gr.skip()}
        return self._segment(file, steps, draws, *others)

    def _segment_image(
        self, file: Path, settings: tuple[int, int], shown: list[str], key: str | None
    ) -> Updates:
        steps, draws = settings
        answers = answer_image(self.models, read_upload(file), file.name, steps=steps, draws=draws)
        self._remove(key)
        updates = self._cleared(shown, answers) | {self.parts.key: self.store.put(answers, replaces=key)}
        for pane, answer in zip(self.parts.panes, answers.answers, strict=True):
            updates[pane.image] = gr.update(visible=True)  # the old picture stays until the new one is drawn
            updates[pane.facts] = gr.update(value=markup.image_facts(answer), visible=True)
        if len(answers.answers) == 2:
            text = markup.agreement_text(agreement(*answers.answers))
            updates[self.parts.agreement] = gr.update(value=text, visible=True)
        return updates

    def _segment_clip(
        self, file: Path, settings: tuple[int, int], drawing: Drawing, progress: gr.Progress
    ) -> Updates:
        steps, draws = settings
        clip = uuid.uuid4().hex
        shown = [entry.name for entry in legend(self.models) if entry.name not in drawing.hidden]
        updates = self._cleared(shown) | {self.parts.clip: clip, self.parts.again: gr.update(visible=True)}
        try:
            for number, pane in enumerate(self.parts.panes, start=1):
                folder = self.folder / clip / f"model{number}"
                folder.mkdir(parents=True)
                target = folder / f"{file.stem}_overlay.mp4"
                told = functools.partial(self._show_progress, progress, pane.model.name)
                done = segment_video(
                    pane.model, file, target, steps=steps, draws=draws, drawing=drawing, progress=told
                )
                facts = markup.clip_facts(pane.model, done, pane.model.effective(steps, draws))
                updates[pane.image] = gr.update(value=None, visible=False)
                updates[pane.video] = gr.update(value=str(target), visible=True)
                updates[pane.facts] = gr.update(value=facts, visible=True)
        except InputError:
            self._remove(clip)
            raise
        return updates

    def _show_progress(self, bar: gr.Progress, name: str, done: int, total: int) -> None:
        if self.ending.is_set():
            raise InputError("the app has ended")
        bar((done, total), desc=name, unit="frames")

    def _draw(self, opacity: float, layer: Any, shown: list[str], key: str | None) -> Updates:
        """Draws kept answers anew."""
        updates: Updates = {self.parts.scale: gr.update(visible=layer == "uncertainty")}
        if key is None:
            return updates
        try:
            answers = self.store.get(key)
        except InputError as error:
            return updates | self._notice(error)
        drawing = self._drawing(opacity, layer, shown)
        try:
            for index, pane in enumerate(self.parts.panes):
                updates[pane.image] = write_view(
                    draw(answers, index, drawing), self.folder / key / f"view{index + 1}"
                )
        except FileNotFoundError:  # another upload came first and removed the folder
            return updates | self._notice(InputError("This answer is no longer kept; upload the image again"))
        return updates | {self.parts.notice: gr.update(visible=False)}

    def _masks(self, key: str | None) -> Any:
        """Writes the files for download once the picture is there."""
        if key is None:
            return gr.update(visible=False)
        try:
            return gr.update(value=str(write_masks(self.store.get(key), self.folder / key)), visible=True)
        except InputError:  # another upload came first
            return gr.update(visible=False)

    # -- what is kept, and what components show ------------------------------------------------------------

    def _forget(self, key: str | None) -> None:
        """Drops the answers of a visitor and the files made of them."""
        self.store.drop(key)
        self._remove(key)

    def _remove(self, name: str | None) -> None:
        if name:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _drawing(self, opacity: float, layer: Any, shown: list[str]) -> Drawing:
        names = {name for model in self.models for name in model.shown.names}
        return Drawing(opacity / 100, layer, frozenset(names - set(shown)))

    def _notice(self, error: InputError) -> Updates:
        return {self.parts.notice: gr.update(value=markup.notice(str(error)), visible=True)}

    def _cleared(self, shown: list[str], answers: Answers | None = None) -> Updates:
        """The page without pictures, its legend in the order of the answers; hidden classes stay hidden."""
        entries = legend(self.models, answers)
        updates: Updates = {
            self.parts.key: None,
            self.parts.clip: None,
            self.parts.legend: gr.update(
                choices=choices(entries), value=[e.name for e in entries if e.name in shown]
            ),
            self.parts.style: markup.legend_style(entries),
        }
        for pane in self.parts.panes:
            updates[pane.image] = gr.update(value=None, visible=True)
            updates[pane.video] = gr.update(value=None, visible=False)
            updates[pane.facts] = gr.update(visible=False)
        for part in (self.parts.notice, self.parts.agreement, self.parts.download, self.parts.again):
            updates[part] = gr.update(visible=False)
        return updates
