"""The confusion matrix, each row in percent of its true class."""

from __future__ import annotations

from iccld.metrics import Scores
from iccld.reporting.html.markup import Html, el, join, note, scroll

_HIGH = 55.0


def confusion_table(scores: Scores) -> Html:
    """One row for each class that the truth holds, one column for each that was answered or is true."""
    count = len(scores.classes)
    truths = [sum(row) + scores.unlabeled[i] for i, row in enumerate(scores.confusion)]
    answers = [sum(row[j] for row in scores.confusion) for j in range(count)]
    columns = [j for j in range(count) if truths[j] or answers[j]]
    has_gaps = any(scores.unlabeled)
    rows = []
    for i in range(count):
        if not truths[i]:
            continue
        shares = [(100 * scores.confusion[i][j] / truths[i], i == j) for j in columns]
        if has_gaps:
            shares.append((100 * scores.unlabeled[i] / truths[i], False))
        cells = [_cell(share, own=own) for share, own in shares]
        rows.append(el("tr", el("th", scores.classes[i], scope="row"), *cells))
    head = ["true \\ answered", *(scores.classes[j] for j in columns), *(["no answer"] if has_gaps else [])]
    headings = el("tr", *(el("th", name, scope="col") for name in head))
    matrix = el("table", el("thead", headings), el("tbody", *rows), class_="matrix")
    words = note(
        "Rows: the true class; columns: what was answered, in percent of the row's pixels. Good is a dark diagonal "
        "(outlined) and little else. A dark cell beside it names the class that is mistaken for another."
    )
    return join(scroll(matrix, label="confusion matrix"), words)


def _cell(share: float, *, own: bool) -> Html:
    text = "" if share < 0.5 else f"{share:.0f}"
    kinds = " ".join(kind for kind, holds in (("own", own), ("high", share > _HIGH)) if holds)
    return el("td", text, style=f"--v:{share / 100:.3f}" if share >= 0.05 else None, class_=kinds or None)
