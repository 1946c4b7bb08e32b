"""What all figures share: inks, type size, and how a figure becomes a PNG file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from iccld.escaping import visible_lines
from iccld.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONT_SIZE = 9.0
INK = "#222222"
FAINT_INK = "#8a8a8a"
_DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """Makes a white figure, in inches, that belongs to no window and no global state of pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a figure atomically. Its texts are shown as they are: no formulas, no control characters."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
        text.set_text(visible_lines(text.get_text()))
    # "Software" would put matplotlib's version, and so a needless difference, into the file.
    return write_atomic(path, lambda t: figure.savefig(t, format="png", metadata={"Software": None}))
