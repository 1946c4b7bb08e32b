"""The head of a report: figures, and how they came about; for several runs, a table of them."""

from __future__ import annotations

from collections.abc import Sequence

from iccld.reporting.html.charts import color, named_swatch
from iccld.reporting.html.markup import Child, Html, el, join, note, number, pairs, signed, table
from iccld.reporting.html.subject import Subject, comparable


def headline(subject: Subject) -> Html:
    """The figures of one run as tiles, and its facts."""
    record = subject.record
    parts: list[Child] = []
    if subject.unfinished:
        parts.append(
            el(
                "p",
                f"This run is not finished: {subject.unfinished}. It is shown as far as it went.",
                class_="warn",
            )
        )
    if record.scores is None and record.no_scores:
        parts.append(el("p", f"No scores: {record.no_scores}", class_="warn"))
    tiles = [el("div", el("b", value), el("span", name), class_="tile") for name, value in _tiles(subject)]
    if tiles:
        parts.append(el("div", *tiles, class_="tiles"))
    parts.append(pairs(subject.facts))
    return join(*parts)


def comparison(subjects: Sequence[Subject]) -> Html:
    """One row for each run; gains are over the first."""
    same = comparable(subjects)
    first = _miou(subjects[0])
    rows: list[list[Child]] = []
    for index, subject in enumerate(subjects):
        facts, miou, figures = dict(subject.facts), _miou(subject), _trust(subject)
        gain = None if index == 0 or not same or miou is None or first is None else miou - first
        scores = subject.record.scores
        rows.append(
            [
                named_swatch(color(index), subject.name),
                number(miou, 2),
                signed(gain, 2),
                number(scores.pixel_accuracy if scores else None),
                number(figures.get("ece"), 3),
                number(figures.get("auroc_entropy"), 3),
                subject.method or "–",
                facts.get("seed") or "–",
                facts.get("steps") or "–",
                facts.get("commit") or "–",
            ]
        )
    head = ["run", "mIoU %", "gain", "pixel acc. %", "ECE", "AUROC", "method", "seed", "steps", "commit"]
    warning = None
    if not same:
        text = "These runs were measured on other images or by other protocols: their figures do not compare."
        warning = el("p", text, class_="warn")
    seeds = note(
        "Gain is in points over the first run. One seed each says little: runs that differ in the seed alone differ by "
        "up to several points, so compare means over seeds (", el("code", "iccld bench"), ").",
    )  # fmt: skip
    return join(warning, table(head, rows), seeds)


def _tiles(subject: Subject) -> list[tuple[str, str]]:
    scores, figures = subject.record.scores, _trust(subject)
    if scores is None:
        return []
    tiles = [
        (f"mIoU, {scores.protocol}, {_images(scores.num_images)}", f"{number(scores.miou)} %"),
        ("pixel accuracy", f"{number(scores.pixel_accuracy)} %"),
    ]
    if figures.get("ece") is not None:
        tiles.append(("calibration error (ECE), 0 is best", number(figures["ece"], 3)))
    if figures.get("auroc_entropy") is not None:
        tiles.append(("uncertainty finds errors (AUROC), 1 is best", number(figures["auroc_entropy"], 3)))
    return tiles


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _miou(subject: Subject) -> float | None:
    return subject.record.scores.miou if subject.record.scores else None


def _trust(subject: Subject) -> dict[str, float | None]:
    return dict(subject.record.calibration.figures) if subject.record.calibration else {}
