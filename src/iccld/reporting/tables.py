"""Tables of scores as aligned text and as Markdown."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from iccld.errors import InputError
from iccld.escaping import in_markdown, visible
from iccld.metrics import Scores
from iccld.reporting.templates import number, signed


def scores_table(scores: Mapping[str, Scores], *, markdown: bool = False) -> str:
    """Returns a table of class IoU, mIoU and pixel accuracy of one or more results, in percent.

    ``scores`` maps column headings to results. With two or more results, a last column contains the gain of the last
    result over the first in points. The table has no newline at the end. Raises ``InputError`` if the results have
    different protocols or classes.
    """
    if len({s.measure for s in scores.values()}) != 1:
        protocols = sorted({s.protocol for s in scores.values()})
        several = f"protocols {', '.join(protocols)}"
        which = several if len(protocols) > 1 else f"other classes of {protocols[0]}"
        raise InputError(f"scores of {which} cannot share a table; make one for each")
    columns = [{**s.iou, "mIoU": s.miou, "pixel accuracy": s.pixel_accuracy} for s in scores.values()]
    rows = []
    for name in columns[0]:
        values = [column.get(name) for column in columns]
        first, last = values[0], values[-1]
        gain = signed(None if first is None or last is None else last - first)
        rows.append([name, *(number(v) for v in values), gain])
    headings = ["class", *scores, "gain"]
    if len(columns) == 1:
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    return _markdown(headings, rows) if markdown else _text(headings, rows, num_totals=2)


def print_scores(scores: Scores) -> None:
    """Prints a table of the IoU and the accuracy of each class and of the means, and a line with the main scores."""
    rows = [[n, number(v), number(scores.accuracy[n])] for n, v in scores.iou.items()]
    rows.append(["mean", number(scores.miou), number(scores.mean_accuracy)])
    table = _text(["class", "IoU %", "accuracy %"], rows, num_totals=1)
    images = f"{scores.num_images} image{'' if scores.num_images == 1 else 's'}"
    closing = (
        f"mIoU {number(scores.miou)} %, pixel accuracy {number(scores.pixel_accuracy)} % "
        f"({visible(scores.protocol)}, {images})"
    )
    print(table, closing, sep="\n")


def _text(headings: Sequence[str], rows: Sequence[Sequence[str]], *, num_totals: int) -> str:
    """Returns an aligned table whose last ``num_totals`` rows are totals."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, show_edge=False, show_footer=True, pad_edge=False)
    totals = zip(*rows[-num_totals:], strict=True)
    for index, (heading, total) in enumerate(zip(headings, totals, strict=True)):
        footer = Text("\n".join(map(visible, total)))
        table.add_column(Text(visible(heading)), footer=footer, justify="right" if index else "left")
    for row in rows[:-num_totals]:
        table.add_row(*(Text(visible(cell)) for cell in row))
    stream = io.StringIO()
    Console(file=stream, width=10_000, color_system=None).print(table)
    return stream.getvalue().rstrip("\n")


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[in_markdown(cell) for cell in row] for row in (headings, *rows)]
    cells[-2:] = [[f"**{cell}**" for cell in row] for row in cells[-2:]]
    head, *body = (f"| {' | '.join(row)} |" for row in cells)
    return "\n".join([head, "|---|" + "---:|" * (len(headings) - 1), *body])
