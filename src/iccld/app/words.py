"""Sentences and figures on the page that depend on models and answers: plain text, never HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iccld.app.answers import Answer
from iccld.app.layers import LegendEntry, legend
from iccld.app.models import AppModel
from iccld.app.uploads import MAX_PIXELS
from iccld.app.video import MAX_FRAMES, Clip

MAX_STEPS, MAX_DRAWS = 8, 16


def page_facts(models: Sequence[AppModel], max_upload_bytes: int) -> dict[str, Any]:
    """What the page needs to know before the first upload."""
    return {
        "models": [{"name": model.name, "classes": len(model.shown)} for model in models],
        "hint": (
            f"An image of up to {MAX_PIXELS / 1e6:g} million pixels, or a video of which the first {MAX_FRAMES} frames "
            f"are taken; {max_upload_bytes / 2**20:g} MiB at most. Files stay with this program and are gone when the "
            "page is closed."
        ),
        "max_upload_bytes": max_upload_bytes,
        "steps": _slider(models, 0, MAX_STEPS),
        "draws": _slider(models, 1, MAX_DRAWS),
        "settings_note": " ".join(model.settings_note for model in models if model.settings_note),
        "legend": legend_facts(legend(models)),
    }


def legend_facts(entries: Sequence[LegendEntry]) -> list[dict[str, Any]]:
    """Name, text, color and occurrence of each class."""
    return [{"name": e.name, "text": e.text, "color": e.color, "occurs": e.occurs} for e in entries]


def image_facts(answer: Answer) -> str:
    """Model, time, size and settings of an answer."""
    height, width = answer.labels.shape
    time = f"{answer.seconds * 1000:.0f} ms"
    return _facts(answer.model, time, (height, width), (answer.steps, answer.draws))


def clip_facts(model: AppModel, clip: Clip, settings: tuple[int, int]) -> str:
    """The same for a video, and whether it was cut."""
    time = f"{clip.frames} frames, {clip.seconds_per_frame * 1000:.0f} ms each"
    cut = f"; the video goes on, but only its first {clip.frames} frames are taken" if clip.cut else ""
    return _facts(model, time, clip.size, settings, cut)


def agreement_text(share: float | None) -> str:
    """How far two models agree."""
    if share is None:
        return "The two models have no class in common."
    return f"The two models agree on {share * 100:.1f} % of the pixels."


def _slider(models: Sequence[AppModel], index: int, maximum: int) -> dict[str, Any]:
    """A slider of K or N; what all models have fixed is shown, but cannot be moved."""
    free = any(model.fixed is None for model in models)
    value = 1 if free else models[0].effective(1, 1)[index]
    return {"value": value, "max": max(maximum, value), "free": free}


def _facts(
    model: AppModel, time: str, size: tuple[int, int], settings: tuple[int, int], more: str = ""
) -> str:
    return (
        f"{model.name}: {time} on {model.device} for {size[1]}×{size[0]} pixels, "
        f"K\u00a0=\u00a0{settings[0]}, N\u00a0=\u00a0{settings[1]}{more}"
    )
