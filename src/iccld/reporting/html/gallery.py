"""Images with truth, prediction, errors and uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from iccld.reporting.html.charts import swatch
from iccld.reporting.html.markup import Child, Html, el, join, note, number
from iccld.reporting.record import Example, Record

MOST_CHARACTERS = 3_600_000
"""Of all pictures of a page, so that it stays below 5 MB."""
_ALT = {
    "image": "input image",
    "truth": "true classes, in the colors of the legend",
    "prediction": "predicted classes, in the colors of the legend",
    "errors": "errors: orange wrong, gray right, black not counted",
    "uncertainty": "uncertainty: black sure, pale yellow clueless",
}


def gallery(record: Record) -> Html:
    """The images of a run; nothing where there are none."""
    if not record.examples:
        return Html("")
    names = [el("span", swatch("rgb({},{},{})".format(*paint)), name) for name, paint in record.legend]
    measured = any(e.miou is not None for e in record.examples)
    if measured:
        how: tuple[Child, ...] = (
            "Best and worst by the image's own mIoU, and some drawn at random: judge by these. Labels chose the images "
            "for this page, and nothing else. Errors: orange is wrong, gray is right, black is not counted. ",
        )
    else:
        how = ("Drawn at random; there are no labels to tell good from bad. ",)
    words = note(
        *how,
        "Uncertainty is the entropy of the class probabilities on one scale for all images: black is sure, pale yellow "
        "clueless. It should light up where the prediction is wrong, and at borders.",
    )
    return join(el("div", *names, class_="legend"), *(_example(e) for e in record.examples), words)


def trimmed(records: Sequence[Record]) -> list[Record]:
    """Leaves out images, of the runs with the most first, until all together fit a page."""
    kept = [list(_by_turns(record.examples)) for record in records]
    while sum(_size(e) for examples in kept for e in examples) > MOST_CHARACTERS:
        max(kept, key=len).pop()
    return [
        replace(record, examples=tuple(e for e in record.examples if e in examples))
        for record, examples in zip(records, kept, strict=True)
    ]


def _by_turns(examples: Sequence[Example]) -> list[Example]:
    """One of each role after the other, so that every role loses its last ones first."""
    rank: dict[str, int] = {}
    order = []
    for example in examples:
        rank[example.role] = rank.get(example.role, -1) + 1
        order.append(rank[example.role])
    return [examples[i] for i in sorted(range(len(examples)), key=lambda i: order[i])]


def _size(example: Example) -> int:
    return sum(map(len, example.panels.values()))


def _example(example: Example) -> Html:
    score = "" if example.miou is None else f": mIoU {number(example.miou)} %"
    caption = el("figcaption", el("b", f"{example.role}{score}"), f" – {example.name}")
    panels = [
        el(
            "figure",
            el("img", src=uri, alt=f"{example.name}, {_ALT.get(title, title)}", loading="eager"),
            el("figcaption", title),
        )
        for title, uri in example.panels.items()
    ]
    return el("figure", caption, el("div", *panels, class_="panels"), class_="example")
