"""Sections from ``metrics.csv``: curves of training, and what the adversary did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iccld.reporting.curves import title_of
from iccld.reporting.html.charts import Series, legend, line_chart
from iccld.reporting.html.markup import Html, el, join, note
from iccld.reporting.html.subject import Subject

_ACCURACY, _SHARE = "train/discriminator_accuracy_", "train/gradient_share_"
_DOMAINS = ("source", "mixed", "target")


def training_curves(subjects: Sequence[Subject]) -> Html:
    """MIoU and every loss over the steps, all runs in one chart each; nothing without metrics."""
    logged = [s for s in subjects if s.table]
    present = dict.fromkeys(key for s in logged for key in s.table)
    losses = [k for k in present if k.startswith("train/loss")]
    scores = [k for k in present if k == "val/miou"]
    first = [*scores, *(k for k in losses if k == "train/loss" or k.startswith("train/loss_seg"))]
    # mIoU from zero: half a point should not look like a cliff.
    charts = [
        line_chart(title_of(key), _series(subjects, key), low=0 if key in scores else None) for key in first
    ]
    further = [line_chart(title_of(key), _series(subjects, key)) for key in losses if key not in first]
    if not any(charts):
        return Html("")
    more = el("details", el("summary", "further losses"), el("div", *further, class_="charts"))
    words = (
        "Faint: as logged; strong: running mean. Segmentation losses should fall and level off. mIoU is measured on "
        "labeled target images to watch, never to choose; a single point means that it was measured at the end alone "
        "(", el("code", "--eval-every N"), " measures more often).",
    )  # fmt: skip
    names = legend([s.name for s in subjects]) if len(subjects) > 1 else None
    return join(names, el("div", *charts, class_="charts"), more if any(further) else None, note(*words))


def adversary(table: Mapping[str, Sequence[float]]) -> Html:
    """Discriminator accuracy, latent distance, gradient shares and relief; nothing where a run had none of them."""
    accuracies = [(d, f"{_ACCURACY}{d}") for d in _DOMAINS if f"{_ACCURACY}{d}" in table]
    charts = []
    if accuracies:
        series = [Series(d, table["step"], table[key], i) for i, (d, key) in enumerate(accuracies)]
        chance = (1 / len(accuracies), "chance")
        charts.append(
            line_chart("discriminator accuracy", series, low=0, high=1, reference=chance, with_legend=True)
        )
    if "train/latent_distance" in table:
        distance = Series("distance", table["step"], table["train/latent_distance"])
        charts.append(line_chart("distance of source and target latents", [distance], low=0))
    if accuracies:
        shares = [k for k in table if k.startswith(_SHARE) and any(v > 0 for v in table[k])]
        series = [
            Series(k.removeprefix(_SHARE).replace("_", " "), table["step"], table[k], i)
            for i, k in enumerate(shares)
        ]
        charts.append(
            line_chart("share of each loss in the gradient", series, low=0, high=1, with_legend=True)
        )
    if "train/adversarial_relief" in table:
        relief = Series("relief", table["step"], table["train/adversarial_relief"])
        charts.append(line_chart("relief of the adversary (1: none)", [relief], low=0, high=1))
    if not any(charts):
        return Html("")
    words = (
        "The discriminator guesses from which domain a latent comes. Near chance for all domains: it cannot tell them "
        "apart, which is what the segmenter is after. Near 1 throughout: it wins, and its loss teaches little. The "
        "distance should fall once the adaptation begins."
    )
    return join(el("div", *charts, class_="charts"), note(words))


def _series(subjects: Sequence[Subject], key: str) -> list[Series]:
    return [
        Series(s.name, s.table["step"], s.table[key], index)
        for index, s in enumerate(subjects)
        if key in s.table
    ]
