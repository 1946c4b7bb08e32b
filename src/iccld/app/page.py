"""The page: components, and what happens when one of them is moved."""

from __future__ import annotations

import functools
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from iccld.app import markup
from iccld.app.answers import AnswerStore, answer_image
from iccld.app.downloads import write_masks
from iccld.app.layers import Drawing, LegendEntry, agreement, draw, legend
from iccld.app.models import AppModel
from iccld.app.uploads import MAX_PIXELS, is_video, read_upload
from iccld.app.video import MAX_FRAMES, segment_video
from iccld.errors import InputError

Updates = dict[Any, Any]
_MAX_STEPS, _MAX_DRAWS = 8, 16
_LAYERS = [("Classes", "classes"), ("Uncertainty", "uncertainty")]


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
        self.models, self.folder, self.max_upload_mb = tuple(models), folder, max_upload_mb
        self.store, self.ending = AnswerStore(), threading.Event()
        self.blocks = gr.Blocks(title="iccld", analytics_enabled=False, delete_cache=(300, 3600))
        with self.blocks:
            self._lay_out()
            self._connect()

    # -- components --------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        gr.HTML(markup.heading(self.models), padding=False)
        self.style = gr.HTML(markup.legend_style(legend(self.models)), padding=False, elem_id="legend-style")
        # The key of the answers that this visitor sees.
        self.key = gr.State(None, time_to_live=3600, delete_callback=self.store.drop)
        with gr.Column(elem_id="work"):
            with gr.Column(elem_id="input"):
                self.file = gr.File(label="Image or video", height=130, elem_id="upload")
                gr.HTML(markup.hint(MAX_PIXELS, MAX_FRAMES, self.max_upload_mb), padding=False)
            with gr.Column(elem_id="pictures"):
                self.notice = gr.HTML(padding=False, visible=False)
                with gr.Row():
                    self.panes = [_Pane(model) for model in self.models]
                self.agreement = gr.HTML(padding=False, visible=False, elem_id="agreement")
                self.download = gr.DownloadButton(
                    "Download masks (labels, colors, uncertainty)",
                    size="md",
                    visible=False,
                    elem_id="download",
                )
            with gr.Column(elem_id="controls"):
                self._lay_out_controls()

    def _lay_out_controls(self) -> None:
        self.layer = gr.Radio(_LAYERS, value="classes", label="Layer", elem_id="layer")
        self.scale = gr.HTML(markup.HEAT_SCALE, padding=False, visible=False)
        self.opacity = gr.Slider(
            0, 100, 50, step=1, label="Opacity in percent", buttons=[], elem_id="opacity"
        )
        free = any(model.fixed is None for model in self.models)
        self.steps = gr.Slider(
            1,
            _MAX_STEPS,
            1 if free else self.models[0].effective(1, 1)[0],
            step=1,
            label="Steps K",
            interactive=free,
            buttons=[],
            elem_id="steps",
        )
        self.draws = gr.Slider(
            1,
            _MAX_DRAWS,
            1 if free else self.models[0].effective(1, 1)[1],
            step=1,
            label="Noise draws N",
            interactive=free,
            buttons=[],
            elem_id="draws",
        )
        note = markup.settings_notes(self.models)
        gr.HTML(
            f'<div class="facts">{note}</div>', padding=False, visible=bool(note), elem_id="settings-note"
        )
        self.again = gr.Button("Segment the video again", visible=False, elem_id="again")
        entries, names = legend(self.models), [model.name for model in self.models]
        self.legend = gr.CheckboxGroup(
            _choices(entries),
            value=[e.name for e in entries],
            label=f"Classes, share of pixels{', ' + ' / '.join(names) if len(names) > 1 else ''}",
            elem_id="legend",
        )
        with gr.Row():
            self.show_all = gr.Button("All classes", size="sm", min_width=60)
            self.hide_all = gr.Button("None", size="sm", min_width=60)

    # -- events ------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        settings = [self.steps, self.draws]
        drawing = [self.opacity, self.layer, self.legend]
        everything = [
            *(part for pane in self.panes for part in (pane.image, pane.video, pane.facts)),
            *(self.notice, self.agreement, self.download, self.legend, self.style, self.key, self.again),
        ]
        # One prediction at a time, whoever asks; drawing goes on beside it.
        work: dict[str, Any] = {
            "concurrency_id": "predict",
            "concurrency_limit": 1,
            "api_visibility": "private",
        }
        quick: dict[str, Any] = {
            "concurrency_id": "draw",
            "concurrency_limit": 4,
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        asked = [self.file, *settings, *drawing, self.key]
        for number, (event, function) in enumerate(
            [
                (self.file.change, self._new_upload),
                (self.again.click, self._new_upload),
                (self.steps.change, self._new_settings),
                (self.draws.change, self._new_settings),
            ]
        ):
            mode = "always_last" if number > 1 else "once" if number else "multiple"
            done = event(
                function, asked, everything, trigger_mode=mode, show_progress_on=self._busy(), **work
            )
            done.success(self._masks, self.key, self.download, **quick)
        seen = [*(pane.image for pane in self.panes), self.notice, self.scale]
        for event in (self.opacity.input, self.layer.input, self.legend.input):
            event(self._draw, [*drawing, self.key], seen, trigger_mode="always_last", **quick)
        for button, shown in ((self.show_all, True), (self.hide_all, False)):
            names = [entry.name for entry in legend(self.models)] if shown else []
            button.click(lambda names=names: names, None, self.legend, **quick).then(
                self._draw, [*drawing, self.key], seen, **quick
            )

    def _busy(self) -> list[Any]:
        return [pane.image for pane in self.panes]

    def _new_upload(
        self,
        file: str | None,
        steps: int,
        draws: int,
        opacity: float,
        layer: Any,
        shown: list[str],
        key: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio finds its progress bar by this default)
    ) -> Updates:
        """Segments a file; what cannot be segmented becomes a sentence."""
        if file is None:
            self.store.drop(key)
            return self._cleared()
        drawing = self._drawing(opacity, layer, shown)
        try:
            if is_video(file):
                return self._segment_clip(Path(file), int(steps), int(draws), drawing, key, progress)
            return self._segment_image(Path(file), int(steps), int(draws), drawing, key)
        except InputError as error:
            self.store.drop(key)
            return self._cleared() | {self.notice: gr.update(value=markup.notice(str(error)), visible=True)}

    def _new_settings(
        self,
        file: str | None,
        steps: int,
        draws: int,
        opacity: float,
        layer: Any,
        shown: list[str],
        key: str | None,
    ) -> Updates:
        """Segments an image with another K or N; a video waits for the button."""
        if file is None or is_video(file):
            return {self.key: key}
        return self._new_upload(file, steps, draws, opacity, layer, shown, key)

    def _segment_image(
        self, file: Path, steps: int, draws: int, drawing: Drawing, key: str | None
    ) -> Updates:
        answers = answer_image(self.models, read_upload(file), file.name, steps=steps, draws=draws)
        updates = self._cleared() | {self.key: self.store.put(answers, replaces=key)}
        for index, pane in enumerate(self.panes):
            updates[pane.image] = gr.update(value=draw(answers, index, drawing), visible=True)
            updates[pane.facts] = gr.update(value=markup.image_facts(answers.answers[index]), visible=True)
        if len(answers.answers) == 2:
            text = markup.agreement_text(agreement(*answers.answers))
            updates[self.agreement] = gr.update(value=text, visible=True)
        entries = legend(self.models, answers)
        return updates | self._legend(entries, drawing)

    def _segment_clip(
        self,
        file: Path,
        steps: int,
        draws: int,
        drawing: Drawing,
        key: str | None,
        progress: gr.Progress,
    ) -> Updates:
        self.store.drop(key)
        updates = self._cleared() | {self.again: gr.update(visible=True)}
        for pane in self.panes:
            with tempfile.NamedTemporaryFile(suffix=".mp4", dir=self.folder, delete=False) as handle:
                target = handle.name
            clip = segment_video(
                pane.model,
                file,
                target,
                steps=steps,
                draws=draws,
                drawing=drawing,
                progress=functools.partial(self._show_progress, progress, pane.model.name),
            )
            updates[pane.image] = gr.update(value=None, visible=False)
            updates[pane.video] = gr.update(value=target, visible=True)
            facts = markup.clip_facts(pane.model, clip, pane.model.effective(steps, draws))
            updates[pane.facts] = gr.update(value=facts, visible=True)
        return updates

    def _show_progress(self, bar: gr.Progress, name: str, done: int, total: int) -> None:
        if self.ending.is_set():
            raise InputError("the app has ended")
        bar((done, total), desc=name, unit="frames")

    def _draw(self, opacity: float, layer: Any, shown: list[str], key: str | None) -> Updates:
        """Draws kept answers anew."""
        updates: Updates = {self.scale: gr.update(visible=layer == "uncertainty")}
        if key is None:
            return updates
        try:
            answers = self.store.get(key)
        except InputError as error:
            return updates | {self.notice: gr.update(value=markup.notice(str(error)), visible=True)}
        drawing = self._drawing(opacity, layer, shown)
        return updates | {pane.image: draw(answers, index, drawing) for index, pane in enumerate(self.panes)}

    def _masks(self, key: str | None) -> Any:
        """Writes the files for download once the picture is there."""
        if key is None:
            return gr.update(visible=False)
        try:
            return gr.update(value=str(write_masks(self.store.get(key), self.folder / key)), visible=True)
        except InputError:
            return gr.update(visible=False)

    # -- what components show ----------------------------------------------------------------------------

    def _drawing(self, opacity: float, layer: Any, shown: list[str]) -> Drawing:
        names = {name for model in self.models for name in model.shown.names}
        return Drawing(opacity / 100, layer, frozenset(names - set(shown)))

    def _cleared(self) -> Updates:
        """The page as it is before the first upload; hidden classes stay hidden."""
        updates: Updates = {self.key: None}
        for pane in self.panes:
            updates[pane.image] = gr.update(value=None, visible=True)
            updates[pane.video] = gr.update(value=None, visible=False)
            updates[pane.facts] = gr.update(visible=False)
        for part in (self.notice, self.agreement, self.download, self.again):
            updates[part] = gr.update(visible=False)
        return updates

    def _legend(self, entries: Sequence[LegendEntry], drawing: Drawing) -> Updates:
        shown = [entry.name for entry in entries if entry.name not in drawing.hidden]
        return {
            self.legend: gr.update(choices=_choices(entries), value=shown),
            self.style: markup.legend_style(entries),
        }


@dataclass
class _Pane:
    """The place of one model on the page."""

    model: AppModel

    def __post_init__(self) -> None:
        with gr.Column(min_width=280):
            self.image = gr.Image(
                label=self.model.name,
                format="webp",
                interactive=False,
                elem_classes="picture",
                buttons=["fullscreen", "download"],
            )
            self.video = gr.Video(label=self.model.name, visible=False, interactive=False, autoplay=True)
            self.facts = gr.HTML(padding=False, visible=False, elem_classes="facts-of-model")


def _choices(entries: Sequence[LegendEntry]) -> list[tuple[str, str]]:
    return [(entry.text, entry.name) for entry in entries]
