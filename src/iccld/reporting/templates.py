"""Rendering of the templates for HTML pages, Markdown and plain text.

Inserted values are escaped for HTML in ``*.html.j2`` and for Markdown in ``*.md.j2``. Markup that a template created is
not escaped again. Control characters are made visible.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

from iccld.escaping import in_markdown, visible, visible_lines

if TYPE_CHECKING:
    from jinja2 import Environment


def render(name: str, **values: Any) -> str:
    """Renders the template with the given file name and returns the text.

    Strings in ``values`` are escaped, but ``markupsafe.Markup`` is inserted unchanged. A missing value raises an error.
    """
    return _environment(name.rpartition(".j2")[0].rpartition(".")[2]).get_template(name).render(values)


def number(value: float | None, digits: int = 1) -> str:
    """Formats a number with ``digits`` decimal places. ``None``, NaN and infinity become a dash."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 1) -> str:
    """Formats a difference with its sign and ``digits`` decimal places. ``None``, NaN and infinity become a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{round(value, digits) + 0.0:+.{digits}f}"  # rounding first avoids "-0.0"


@functools.cache
def _environment(kind: str) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    escapes = {"html": visible_lines, "md": in_markdown, "txt": visible}
    environment = Environment(
        loader=PackageLoader("iccld.reporting"),
        undefined=StrictUndefined,
        autoescape=kind == "html",
        finalize=lambda value: escapes[kind](value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "signed": signed}
    return environment
