"""HTML that escapes by default: plain strings are text, only ``Html`` is markup."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from iccld.escaping import visible_lines

_MOST_NARROW_COLUMNS = 3  # that fit beside each other on a telephone
_VOID = frozenset(("img", "br", "meta", "link"))


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Child = str | None
"""Text, which is escaped, or ``Html``; None is left out."""


def el(tag: str, *children: Child, **attributes: object) -> Html:
    """Makes an element.

    Args:
        tag: its name.
        *children: what it holds.
        **attributes: an underscore at the end is dropped (``class_``), others become hyphens; None and False
            leave the attribute out, True gives it without a value.
    """
    words = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        key = name.rstrip("_").replace("_", "-")
        words.append(
            key if value is True else f'{key}="{html.escape(visible_lines(str(value)), quote=True)}"'
        )
    opening = f"<{' '.join(words)}>"
    if tag in _VOID:
        return Html(opening)
    return Html(f"{opening}{join(*children)}</{tag}>")


def join(*children: Child) -> Html:
    """Puts pieces together; text among them is escaped."""
    pieces = (
        c if isinstance(c, Html) else html.escape(visible_lines(c), quote=False)
        for c in children
        if c is not None
    )
    return Html("".join(pieces))


def number(value: float | None, digits: int = 1) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 1) -> str:
    """A difference with its sign, or a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{round(value, digits) + 0.0:+.{digits}f}"  # rounding first keeps "-0.0" out


def table(head: Sequence[str], rows: Sequence[Sequence[Child]], *, caption: Child = None) -> Html:
    """A table whose first column heads the rows; one of many columns becomes a list for each row on narrow pages."""
    kind = "lists" if len(head) > _MOST_NARROW_COLUMNS else None
    first = el("tr", *(el("th", cell, scope="col") for cell in head))
    body = [
        el(
            "tr",
            el("th", row[0], scope="row"),
            *(
                el("td", cell, data_label=name if kind else None)
                for name, cell in zip(head[1:], row[1:], strict=True)
            ),
        )
        for row in rows
    ]
    parts = [el("caption", caption) if caption else None, el("thead", first), el("tbody", *body)]
    return scroll(el("table", *parts, class_=kind), label=head[0] or "table")


def scroll(content: Html, *, label: str) -> Html:
    """A box that scrolls sideways, with the keyboard too."""
    return el("div", content, class_="scroll", tabindex="0", role="region", aria_label=label)


def pairs(rows: Sequence[tuple[str, Child]]) -> Html:
    """Names and values."""
    return el("dl", *(el("div", el("dt", name), el("dd", value)) for name, value in rows if value))


def note(*children: Child) -> Html:
    """Small print below a figure: how it is read, and what good looks like."""
    return el("p", *children, class_="note")


def section(title: str, *children: Child, level: int = 2, id_: str | None = None) -> Html:
    """A section with its heading."""
    return el("section", el(f"h{level}", title), *children, id_=id_)
