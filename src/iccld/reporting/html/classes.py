"""Per-class IoU as bars, of one run or several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iccld.metrics import Scores
from iccld.reporting.html.charts import color, legend, named_swatch, swatch
from iccld.reporting.html.markup import Html, el, join, note, number, scroll, signed
from iccld.reporting.html.subject import Subject, comparable

Colors = Mapping[str, tuple[int, int, int]]


def class_bars(subjects: Sequence[Subject]) -> Html:
    """A bar for each class and run; runs by another protocol than the first are left out and named.

    Two runs that compare have their gain; among more, a single column could not say whose it is.
    """
    scored = [(i, s.name, s.record.scores) for i, s in enumerate(subjects) if s.record.scores is not None]
    if not scored:
        return Html("")
    protocol, measure = scored[0][2].protocol, scored[0][2].measure
    kept = [(i, scores) for i, _, scores in scored if scores.measure == measure]
    run_names = [name for _, name, scores in scored if scores.measure == measure]
    others = [name for _, name, scores in scored if scores.measure != measure]
    colors = {name: paint for s in subjects for name, paint in s.record.legend}
    left_out = None
    if others:
        text = f"Measured by another protocol than {protocol}, so not shown here: {', '.join(others)}."
        left_out = el("p", text, class_="warn")
    names = legend([s.name for s in subjects]) if len(subjects) > 1 else None
    words = note(
        "Intersection over union in percent: 100 would be every pixel of the class found and none claimed wrongly. "
        "Rare and thin classes are the hard ones. A dash: neither truth nor prediction holds the class."
    )
    with_gain = len(subjects) == len(kept) == 2 and comparable(subjects)
    return join(left_out, names, _table(kept, run_names, colors, with_gain), words)


def _table(
    scored: Sequence[tuple[int, Scores]], run_names: Sequence[str], colors: Colors, with_gain: bool
) -> Html:
    first = scored[0][1]
    rows = [_row(name, [(i, s.iou.get(name)) for i, s in scored], colors, with_gain) for name in first.iou]
    rows.append(_row("mean", [(i, s.miou) for i, s in scored], colors, with_gain, total=True))
    cells = [el("th", "class", scope="col"), el("td")]
    if len(scored) == 1:
        cells.append(el("th", "IoU %", scope="col"))
    else:
        # A name would be wider than the figures below it; it is told to the pointer and to readers of the screen.
        for (index, _), name in zip(scored, run_names, strict=True):
            cells.append(el("th", swatch(color(index)), scope="col", aria_label=f"IoU %, {name}", title=name))
    if with_gain:
        cells.append(el("th", "gain", scope="col"))
    content = el("table", el("thead", el("tr", *cells)), el("tbody", *rows), class_="bars")
    return scroll(content, label="IoU of each class")


def _row(
    name: str,
    values: Sequence[tuple[int, float | None]],
    colors: Colors,
    with_gain: bool,
    *,
    total: bool = False,
) -> Html:
    mark = named_swatch("rgb({},{},{})".format(*colors[name]), name) if name in colors else name
    bars = el("td", *(bar(value, index) for index, value in values), class_="bar")
    cells = [el("td", number(value)) for _, value in values]
    if with_gain:
        low, high = values[0][1], values[1][1]
        cells.append(el("td", signed(None if low is None or high is None else high - low)))
    heading = el("th", mark, scope="row")
    return el("tr", heading, bars, *cells, class_="total" if total else None)


def bar(value: float | None, index: int, *, spread: float = 0.0) -> Html:
    """A bar from 0 to 100 in the color of a run, with a thin line for the spread around its end."""
    length = 0.0 if value is None or value != value else min(100.0, max(0.0, value))
    fill = el("div", class_="fill", style=f"width:{length:.2f}%;background:{color(index)}")
    line = None
    if spread > 0:
        low, high = max(0.0, length - spread), min(100.0, length + spread)
        line = el("div", class_="spread", style=f"left:{low:.2f}%;width:{high - low:.2f}%")
    return el("div", fill, line, class_="track")
