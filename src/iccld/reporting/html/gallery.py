"""Images with truth, prediction, errors and uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from iccld.reporting.html.charts import color, swatch
from iccld.reporting.html.markup import Child, Html, el, join, note, number
from iccld.reporting.html.subject import Subject
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


def same_images(subjects: Sequence[Subject]) -> tuple[Html, list[Record]]:
    """The randomly drawn images that all runs predicted, side by side beside the truth.

    Returns:
        The section, empty where there are none; and the records without these images.
    """
    records = [s.record for s in subjects]
    shared = set.intersection(*({_picture(e) for e in r.examples if e.role == "random"} for r in records))
    if not shared:
        return Html(""), records
    figures = []
    for first in records[0].examples:
        if first.role == "random" and _picture(first) in shared:
            examples = [next(e for e in r.examples if _picture(e) == _picture(first)) for r in records]
            figures.append(_side_by_side(subjects, examples))
    words = note(
        "The same images for every run, drawn at random. Errors: orange is wrong, gray is right, black is not counted. "
        "Uncertainty: black is sure, pale yellow unsure.",
    )
    rest = [replace(r, examples=tuple(e for e in r.examples if _picture(e) not in shared)) for r in records]
    return join(_legend(records[0]), *figures, words), rest


def _picture(example: Example) -> tuple[str | None, ...]:
    return example.name, example.role, example.panels.get("image"), example.panels.get("truth")


def _side_by_side(subjects: Sequence[Subject], examples: Sequence[Example]) -> Html:
    name = examples[0].name
    panels = [_panel(name, t, uri) for t, uri in examples[0].panels.items() if t in ("image", "truth")]
    rows = [el("div", *panels, class_="panels")]
    for index, (subject, example) in enumerate(zip(subjects, examples, strict=True)):
        score = "" if example.miou is None else f": mIoU {number(example.miou)} %"
        panels = [
            _panel(name, t, uri, by=subject.name)
            for t, uri in example.panels.items()
            if t not in ("image", "truth")
        ]
        heading = el("p", swatch(color(index)), f"{subject.name}{score}", class_="run")
        rows.append(el("div", heading, el("div", *panels, class_="panels")))
    return el("figure", el("figcaption", el("b", name)), *rows, class_="example same")


def gallery(record: Record) -> Html:
    """The images of a run; nothing where there are none."""
    if not record.examples:
        return Html("")
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
    return join(_legend(record), *(_example(e) for e in record.examples), words)


def _legend(record: Record) -> Html:
    names = [el("span", swatch("rgb({},{},{})".format(*paint)), name) for name, paint in record.legend]
    return el("div", *names, class_="legend")


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
    panels = [_panel(example.name, title, uri) for title, uri in example.panels.items()]
    return el("figure", caption, el("div", *panels, class_="panels"), class_="example")


def _panel(name: str, title: str, uri: str, *, by: str = "") -> Html:
    alt = f"{name}, {_ALT.get(title, title)}{f', {by}' if by else ''}"
    return el("figure", el("img", src=uri, alt=alt, loading="eager"), el("figcaption", title))
