"""Reports as one HTML file: the results of one run or evaluation, or of several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from iccld import __version__
from iccld.files import write_text
from iccld.metrics import Scores
from iccld.reporting.charts import COLORS, reliability_svg
from iccld.reporting.curves import adversary_charts, training_charts
from iccld.reporting.record import Example, Record, Subject, comparable
from iccld.reporting.templates import render

MOST_CHARACTERS = 3_600_000
"""Maximum number of characters of all pictures in a report, so that the HTML file stays below 5 MB."""
_SHARED_SECTIONS = {"runs": "Runs", "curves": "Training", "classes": "Classes", "same": "The same images"}
_RUN_SECTIONS = ("images", "confusion", "calibration", "adversary", "environment")


def write_report(path: Path, subjects: Sequence[Subject], *, title: str | None = None) -> Path:
    """Writes the report of one or more runs or evaluations as an HTML file."""
    return write_text(path, report_page(subjects, title=title))


def report_page(subjects: Sequence[Subject], *, title: str | None = None) -> str:
    """Returns the report as HTML; see ``write_report``."""
    assert subjects
    records = trimmed([s.record for s in subjects])
    same, rest = _same_images(records)
    runs = [_run(replace(s, record=r), i) for i, (s, r) in enumerate(zip(subjects, rest, strict=True))]
    page: dict[str, Any] = {
        "comparable": comparable(subjects),
        "runs": len(subjects) > 1,
        "curves": _charts(subjects),
        "classes": class_bars(subjects),
        "same": same,
    }
    page["sections"] = [(key, name) for key, name in _SHARED_SECTIONS.items() if page[key]]
    links = [(f"run{i}", s.name) for i, s in enumerate(subjects)]
    page["links"] = links if len(links) > 1 else runs[0]["sections"]
    title = title or f"ICCLD report: {', '.join(s.name for s in subjects)}"
    return render_page("report.html.j2", title, page=page, runs=runs)


def render_page(template: str, title: str, **values: Any) -> str:
    """Renders a template to one HTML page with embedded style and without scripts.

    The template must extend ``page.html.j2``.
    """
    return render(template, title=title, version=__version__, colors=COLORS, **values)


def _run(subject: Subject, index: int) -> dict[str, Any]:
    """Returns the values of one run for the template. ``index`` is the position of the run and selects its color."""
    record, calibration = subject.record, subject.record.calibration
    run = {
        "index": index,
        "name": subject.name,
        "subject": subject,
        "record": record,
        "figures": calibration.figures if calibration else {},
        "images": record.examples,
        "confusion": _confusion(record.scores) if record.scores else {},
        "calibration": reliability_svg(calibration, index) if calibration else "",
        "adversary": adversary_charts(subject.table),
        "environment": True,
    }
    return run | {"sections": [(key, key.capitalize()) for key in _RUN_SECTIONS if run[key]]}


def _charts(subjects: Sequence[Subject]) -> dict[str, list[Any]]:
    """Returns the training charts: mIoU and main losses under ``first``, all other charts under ``further``."""
    groups: dict[str, list[Any]] = {"first": [], "further": []}
    for key, chart in training_charts({s.name: s.table for s in subjects}).items():
        is_main = key in ("val/miou", "train/loss") or key.startswith("train/loss_seg")
        groups["first" if is_main else "further"].append(chart)
    return groups if any(groups.values()) else {}


def class_bars(subjects: Sequence[Subject]) -> dict[str, Any]:
    """Returns the IoU of each class for each run, for the bars of the report.

    Runs whose protocol or classes differ from those of the first run are omitted and listed under ``others``. If there
    are exactly two runs and both are comparable, each class also has the gain of the second run over the first run in
    points.
    """
    scored = [(i, s.name, s.record.scores) for i, s in enumerate(subjects) if s.record.scores is not None]
    if not scored:
        return {}
    first = scored[0][2]
    kept = [(i, name, scores) for i, name, scores in scored if scores.measure == first.measure]
    with_gain = len(subjects) == len(kept) == 2 and comparable(subjects)
    colors = {name: color for s in subjects for name, color in s.record.legend}
    rows = []
    for name in [*first.iou, None]:
        values = [scores.miou if name is None else scores.iou.get(name) for _, _, scores in kept]
        gain = values[1] - values[0] if with_gain and None not in values else None  # type: ignore[operator]
        rows.append({"name": name, "color": colors.get(name or ""), "values": values, "gain": gain})
    return {
        "protocol": first.protocol,
        "runs": [(index, name) for index, name, _ in kept],
        "others": [name for _, name, scores in scored if scores.measure != first.measure],
        "rows": rows,
        "with_gain": with_gain,
    }


def _confusion(scores: Scores) -> dict[str, Any]:
    """Returns the confusion matrix of the classes that occur. A row is in percent of the pixels of its true class."""
    names = [*scores.classes, "no answer"]
    counts = np.column_stack([scores.confusion, scores.unlabeled]).astype(float)
    truths = counts.sum(axis=1)
    columns = np.flatnonzero(counts.sum(axis=0) + [*truths, 0])
    rows = [
        (names[i], [(100 * counts[i, j] / truths[i], i == j) for j in columns])
        for i in np.flatnonzero(truths)
    ]
    return {"head": [names[j] for j in columns], "rows": rows}


def _same_images(records: Sequence[Record]) -> tuple[list[tuple[Example, list[Example]]], Sequence[Record]]:
    """Separates the random images that all runs share from the other example images.

    Returns the shared images, each with the examples of all runs, and the records without the shared images. With only
    one record, no image is shared.
    """
    by_picture = [{_picture(e): e for e in r.examples if e.role == "random"} for r in records]
    shared = [p for p in by_picture[0] if all(p in found for found in by_picture)] if len(records) > 1 else []
    same = [(by_picture[0][picture], [found[picture] for found in by_picture]) for picture in shared]
    rest = [replace(r, examples=tuple(e for e in r.examples if _picture(e) not in shared)) for r in records]
    return same, rest


def trimmed(records: Sequence[Record]) -> list[Record]:
    """Removes example images one by one until all pictures fit into one report.

    Each image is removed from the record with the most images.
    """
    kept = [_by_turns(record.examples) for record in records]
    while sum(len(uri) for examples in kept for e in examples for uri in e.panels.values()) > MOST_CHARACTERS:
        max(kept, key=len).pop()
    pairs = zip(records, kept, strict=True)
    return [replace(r, examples=tuple(e for e in r.examples if e in examples)) for r, examples in pairs]


def _by_turns(examples: Sequence[Example]) -> list[Example]:
    """Returns examples with alternating roles, so that removal from the end affects all roles equally."""
    roles = [e.role for e in examples]
    ranks = [roles[:i].count(role) for i, role in enumerate(roles)]
    return [examples[i] for i in sorted(range(len(examples)), key=ranks.__getitem__)]


def _picture(example: Example) -> tuple[str | None, ...]:
    return example.name, example.role, example.panels.get("image"), example.panels.get("truth")
