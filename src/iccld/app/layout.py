"""What stands on the page, and where. Called within ``gr.Blocks``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from iccld.app import markup
from iccld.app.layers import LegendEntry, legend
from iccld.app.models import AppModel
from iccld.app.uploads import MAX_PIXELS
from iccld.app.video import MAX_FRAMES

_MAX_STEPS, _MAX_DRAWS = 8, 16
_LAYERS = [("Classes", "classes"), ("Uncertainty", "uncertainty")]
_KEPT_SECONDS = 3600  # after a visitor has left


class Layout:
    """The components of the page.

    Args:
        models: of the page.
        max_upload_mb: what the page says of the server's limit.
        forget: drops the answers of a key.
        remove: removes a folder of files made for a visitor.
    """

    def __init__(
        self,
        models: Sequence[AppModel],
        max_upload_mb: int,
        forget: Callable[[str | None], None],
        remove: Callable[[str | None], None],
    ) -> None:
        self.models = models
        gr.HTML(markup.heading(self.models), padding=False)
        self.style = gr.HTML(markup.legend_style(legend(self.models)), padding=False, elem_id="legend-style")
        # The key of the answers that this visitor sees.
        self.key = gr.State(None, time_to_live=_KEPT_SECONDS, delete_callback=forget)
        # The folder of the videos that were made for this visitor.
        self.clip = gr.State(None, time_to_live=_KEPT_SECONDS, delete_callback=remove)
        with gr.Column(elem_id="work"):
            with gr.Column(elem_id="input"):
                self.file = gr.File(label="Image or video", height=130, elem_id="upload")
                gr.HTML(markup.hint(MAX_PIXELS, MAX_FRAMES, max_upload_mb), padding=False)
            with gr.Column(elem_id="pictures"):
                self.notice = gr.HTML(padding=False, visible=False)
                with gr.Row():
                    self.panes = [Pane(model) for model in self.models]
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
        """Everything that is moved."""
        self.layer = gr.Radio(_LAYERS, value="classes", label="Layer", elem_id="layer")
        self.scale = gr.HTML(markup.HEAT_SCALE, padding=False, visible=False)
        self.opacity = gr.Slider(
            0, 100, 50, step=1, label="Opacity in percent", buttons=[], elem_id="opacity"
        )
        self.steps = self._settings_slider("Steps K", 0, _MAX_STEPS, "steps")
        self.draws = self._settings_slider("Noise draws N", 1, _MAX_DRAWS, "draws")
        note = markup.settings_notes(self.models)
        gr.HTML(
            f'<div class="facts">{note}</div>', padding=False, visible=bool(note), elem_id="settings-note"
        )
        self.again = gr.Button("Segment the video again", visible=False, elem_id="again")
        entries, names = legend(self.models), [model.name for model in self.models]
        self.legend = gr.CheckboxGroup(
            choices(entries),
            value=[e.name for e in entries],
            label=f"Classes, share of pixels{', ' + ' / '.join(names) if len(names) > 1 else ''}",
            elem_id="legend",
        )
        with gr.Row():
            self.show_all = gr.Button("All classes", size="sm", min_width=60)
            self.hide_all = gr.Button("None", size="sm", min_width=60)

    def _settings_slider(self, label: str, index: int, maximum: int, name: str) -> gr.Slider:
        """A slider of K or N; what all models have fixed is shown, but cannot be moved."""
        free = any(model.fixed is None for model in self.models)
        value = 1 if free else self.models[0].effective(1, 1)[index]
        return gr.Slider(
            1,
            max(maximum, value),
            value,
            step=1,
            label=label,
            interactive=free,
            buttons=[],
            elem_id=name,
        )


@dataclass
class Pane:
    """The place of one model on the page."""

    model: AppModel

    def __post_init__(self) -> None:
        with gr.Column(min_width=280):
            self.image = gr.Image(
                label=self.model.name,
                type="filepath",
                interactive=False,
                elem_classes="picture",
                buttons=["fullscreen", "download"],
            )
            self.video = gr.Video(label=self.model.name, visible=False, interactive=False, autoplay=True)
            self.facts = gr.HTML(padding=False, visible=False, elem_classes="facts-of-model")


def choices(entries: Sequence[LegendEntry]) -> list[tuple[str, str]]:
    """Text and value of the boxes of the legend."""
    return [(entry.text, entry.name) for entry in entries]
