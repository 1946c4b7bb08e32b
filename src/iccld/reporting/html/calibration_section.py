"""Whether confidence can be believed: the reliability diagram with its figures."""

from __future__ import annotations

from iccld.reporting.html.charts import reliability_diagram
from iccld.reporting.html.markup import Html, el, join, note, number, table
from iccld.reporting.record import Calibration

_NAMES = {
    "ece": "expected calibration error (ECE), 0 is best",
    "auroc_entropy": "AUROC of entropy",
    "auroc_confidence": "AUROC of 1 − confidence",
    "auroc_mutual_information": "AUROC of mutual information between draws",
    "aurc_confidence": "area under the risk-coverage curve (AURC) of confidence, 0 is best",
    "fpr95_confidence": "false positive rate of confidence where 95 % of the wrong pixels are found, 0 is best",
    "class_ece": "class-wise calibration error, 0 is best",
}


def reliability(calibration: Calibration, paint: int = 0) -> Html:
    """The diagram, the figures, and how they are read."""
    picture = reliability_diagram(
        calibration.pixels, calibration.confidence, calibration.accuracy, paint=paint
    )
    caption = el("figcaption", el("b", "accuracy over confidence"), "; gray: share of the pixels")
    figures = calibration.figures
    # With one draw there is no disagreement: its AUROC is that of a coin.
    figures = {k: v for k, v in figures.items() if (k, v) != ("auroc_mutual_information", 0.5)}
    rows = [
        [name, number(figures.get(key), 3)] for key, name in _NAMES.items() if figures.get(key) is not None
    ]
    words = note(
        "Columns on the dashed line: of the pixels that the model is 80 % sure of, 80 % are right. Below the line it "
        "is too sure, above it too modest. The ECE is the mean distance from the line, weighted by the pixels (the "
        "gray columns). AUROC: the chance that a wrong pixel looks less sure than a right one; 0.5 is "
        "guessing, 1 perfect."
    )
    return join(
        el("div", el("figure", caption, picture), table(["figure", "value"], rows), class_="charts"), words
    )
