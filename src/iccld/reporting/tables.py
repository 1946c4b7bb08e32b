"""Tables of scores: plain text, markdown, and colored in a terminal."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO, cast

from iccld.errors import InputError
from iccld.escaping import DrawingStream, in_markdown, visible
from iccld.metrics import Scores

_ABSENT = "–"
_TOTALS = ("mIoU", "pixel accuracy")


def scores_table(scores: Mapping[str, Scores], *, markdown: bool = False) -> str:
    """Tabulates the IoU of each class, the mIoU and the pixel accuracy of one or more results, in percent.

    Args:
        scores: column heading → result; all of one protocol. With two or more, a last column gives the gain
            of the last over the first in points.
        markdown: a markdown table instead of aligned plain text.

    Returns:
        The table's lines, without a newline at the end.

    Raises:
        InputError: the results were made by different protocols.
    """
    if len({s.measure for s in scores.values()}) != 1:
        protocols = sorted({s.protocol for s in scores.values()})
        which = (
            f"protocols {', '.join(protocols)}" if len(protocols) > 1 else f"other classes of {protocols[0]}"
        )
        raise InputError(f"scores of {which} cannot share a table; make one for each")
    columns = [_column(s) for s in scores.values()]
    headings = ["class", *scores]
    if len(columns) > 1:
        headings.append("gain")
    rows = []
    for name in columns[0]:
        values = [column.get(name) for column in columns]
        cells = [name, *(_percent(v) for v in values)]
        rows.append([*cells, _gain(values[0], values[-1])] if len(values) > 1 else cells)
    return _markdown(headings, rows) if markdown else _plain(headings, rows)


def print_scores(scores: Scores) -> None:
    """Prints IoU and accuracy of each class and the means: colored in a terminal, aligned text elsewhere."""
    headings = ["class", "IoU %", "accuracy %"]
    rows = [[n, _percent(v), _percent(scores.accuracy[n])] for n, v in scores.iou.items()]
    means = ["mean", _percent(scores.miou), _percent(scores.mean_accuracy)]
    images = f"{scores.num_images} image{'' if scores.num_images == 1 else 's'}"
    closing = (
        f"mIoU {_percent(scores.miou)} %, pixel accuracy {_percent(scores.pixel_accuracy)} % "
        f"({scores.protocol}, {images})"
    )
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        _print_rich(headings, rows, means, closing)
    else:
        print(_plain(headings, [*rows, means], num_totals=1), closing, sep="\n")


def _column(scores: Scores) -> dict[str, float | None]:
    return {**scores.iou, **dict(zip(_TOTALS, (scores.miou, scores.pixel_accuracy), strict=True))}


def _percent(value: float | None) -> str:
    return _ABSENT if value is None or math.isnan(value) else f"{value:.1f}"


def _gain(first: float | None, last: float | None) -> str:
    if first is None or last is None or math.isnan(first) or math.isnan(last):
        return _ABSENT
    # Rounding before the sign keeps "-0.0" out.
    return f"{round(last - first, 1) + 0.0:+.1f}"


def _plain(headings: Sequence[str], rows: Sequence[Sequence[str]], *, num_totals: int = len(_TOTALS)) -> str:
    headings, rows = [visible(h) for h in headings], [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        return "  ".join(cells).rstrip()

    rule = "  ".join("─" * width for width in widths)
    body, totals = rows[:-num_totals], rows[-num_totals:]
    return "\n".join([line(headings), rule, *map(line, body), rule, *map(line, totals)])


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(row) + " |"

    headings, rows = [in_markdown(h) for h in headings], [[in_markdown(cell) for cell in row] for row in rows]
    body, totals = rows[: -len(_TOTALS)], rows[-len(_TOTALS) :]
    bold = [[f"**{cell}**" for cell in row] for row in totals]
    rule = "|---|" + "---:|" * (len(headings) - 1)
    return "\n".join([line(headings), rule, *map(line, body), *map(line, bold)])


def _print_rich(
    headings: Sequence[str], rows: Sequence[Sequence[str]], means: Sequence[str], closing: str
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    for index, (heading, mean) in enumerate(zip(headings, means, strict=True)):
        table.add_column(heading, footer=mean, justify="right" if index else "left")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    console = Console(highlight=False, file=cast(TextIO, DrawingStream("stdout")))
    console.print(table)
    console.print(visible(closing), style="bold", markup=False)
