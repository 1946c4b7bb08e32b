"""The pieces of HTML and CSS on the page that depend on models and answers. Everything from outside is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from urllib.parse import quote

from iccld.app.answers import Answer
from iccld.app.layers import LegendEntry
from iccld.app.models import AppModel
from iccld.app.video import Clip

CSS = """
footer {display: none !important}
.gradio-container {--faint: color-mix(in srgb, var(--body-text-color) 72%, transparent)}
.gradio-container > .main {padding: 8px 16px !important; max-width: 1600px !important}
.gradio-container main {padding: 8px 0 !important}
.gradio-container .html-container {padding: 0 !important}
#legend-style {display: none}
#work {display: grid; gap: 16px; grid-template-columns: 320px minmax(0, 1fr); align-items: start;
  grid-template-areas: "input pictures" "controls pictures"; grid-template-rows: auto 1fr}
#input {grid-area: input} #pictures {grid-area: pictures} #controls {grid-area: controls}
#input, #pictures, #controls {min-width: 0 !important}
@media (max-width: 800px) {
  #work {grid-template-columns: minmax(0, 1fr); grid-template-areas: "input" "pictures" "controls"}
  .gradio-container > .main {padding: 4px 12px !important}
  #legend .wrap {display: grid !important; grid-template-columns: 1fr 1fr}
}
#head h1 {font-size: 1.25rem; margin: 0} #head p {margin: 2px 0 0; color: var(--faint)}
.notice {border-left: 4px solid #c2410c; background: var(--background-fill-secondary); padding: 10px 14px;
  border-radius: 4px; overflow-wrap: anywhere}
.notice.quiet {border-color: var(--border-color-primary)}
.facts {color: var(--faint); font-size: .9rem; overflow-wrap: anywhere}
.facts b {color: var(--body-text-color)}
.heat {display: flex; align-items: center; gap: 8px; font-size: .85rem; color: var(--faint)}
.heat i {flex: 1; height: 10px; border-radius: 5px;
  background: linear-gradient(90deg, #000004, #3b0f70, #8c2981, #de4968, #fe9f6d, #fcfdbf)}
#layer input:checked {background-color: var(--checkbox-background-color-selected) !important;
  border-color: var(--checkbox-background-color-selected) !important}
#legend .wrap {flex-direction: column; align-items: stretch; gap: 2px}
#legend label {background: none !important; border: none !important; box-shadow: none !important;
  padding: 3px 4px !important}
#legend input {width: 20px; height: 20px; border-width: 3px; box-shadow: none !important}
.picture img {max-height: 78vh; object-fit: contain}
"""

HINT = (
    '<div class="facts">An image of up to {megapixels:g} million pixels, or a video of which the first {frames} frames '
    "are taken; {megabytes} MiB at most. Files stay with this program and are gone when it ends.</div>"
)
HEAT_SCALE = '<div class="heat"><span>sure</span><i></i><span>clueless</span></div>'


def heading(models: Sequence[AppModel]) -> str:
    """Title and the names of the models."""
    names = " and ".join(f"<b>{html.escape(m.name)}</b> ({len(m.shown)} classes)" for m in models)
    return f"<div id='head'><h1>iccld</h1><p>{names}</p></div>"


def notice(message: str) -> str:
    """Something that went wrong, as a sentence that screen readers announce."""
    return f'<div class="notice" role="alert">{html.escape(message)}.</div>'


def hint(max_pixels: int, max_frames: int, max_upload_mb: int) -> str:
    """What can be uploaded."""
    return HINT.format(megapixels=max_pixels / 1e6, frames=max_frames, megabytes=max_upload_mb)


def settings_notes(models: Sequence[AppModel]) -> str:
    """What is to be known about K and N of these models."""
    return " ".join(html.escape(m.settings_note) for m in models if m.settings_note)


def image_facts(answer: Answer) -> str:
    """Model, time, size and settings of an answer."""
    height, width = answer.labels.shape
    return _facts(
        answer.model, f"{answer.seconds * 1000:.0f} ms", (height, width), (answer.steps, answer.draws)
    )


def clip_facts(model: AppModel, clip: Clip, settings: tuple[int, int]) -> str:
    """The same for a video, and whether it was cut."""
    time = f"{clip.frames} frames, {clip.seconds_per_frame * 1000:.0f} ms each"
    cut = f"; the video goes on, but only its first {clip.frames} frames are taken" if clip.cut else ""
    return _facts(model, time, clip.size, settings, cut)


def agreement_text(share: float | None) -> str:
    """How far two models agree."""
    if share is None:
        return '<div class="facts">The two models have no class in common.</div>'
    return f'<div class="facts">The two models agree on <b>{share * 100:.1f} %</b> of the pixels.</div>'


def legend_style(entries: Sequence[LegendEntry]) -> str:
    """Paints the boxes of the legend in the colors of their classes, in the order of the entries."""
    rules = []
    answered = any(entry.occurs for entry in entries)
    for number, entry in enumerate(entries, start=1):
        color = "rgb({},{},{})".format(*entry.color)
        box = f"#legend label:nth-of-type({number}) input"
        rules.append(f"{box}{{border-color:{color}!important;background-color:transparent!important}}")
        rules.append(f"{box}:checked{{background:{color} {_check_mark(entry.color)} center!important}}")
        if answered and not entry.occurs:
            rules.append(f"#legend label:nth-of-type({number}){{opacity:.6}}")
    return f"<style>{''.join(rules)}</style>"


def _check_mark(color: tuple[int, int, int]) -> str:
    """A mark that can be seen on a color: black on light ones, white on dark ones."""
    red, green, blue = color
    ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"
    path = f"<path d='M3.5 8.5l3 3 6-7' fill='none' stroke='{ink}' stroke-width='2'/>"
    svg = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>{path}</svg>"
    return f'url("data:image/svg+xml,{quote(svg)}")'


def _facts(
    model: AppModel, time: str, size: tuple[int, int], settings: tuple[int, int], more: str = ""
) -> str:
    return (
        f'<div class="facts"><b>{html.escape(model.name)}</b>: <b>{time}</b> on {html.escape(model.device)} for '
        f"{size[1]}×{size[0]} pixels, K\u00a0=\u00a0{settings[0]}, N\u00a0=\u00a0{settings[1]}{more}</div>"
    )
