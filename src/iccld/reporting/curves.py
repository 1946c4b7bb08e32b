"""Charts of losses, scores and adversary metrics, drawn from the ``metrics.csv`` of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from iccld.errors import InputError
from iccld.files import AnyPath
from iccld.reporting.charts import Chart, Series, save_panels
from iccld.training.tracking import read_metrics

Metrics = Mapping[str, Sequence[float]]
"""Mapping from metric names to values. The entry ``step`` contains the training steps. A missing value is NaN."""

_ACCURACY, _SHARE = "train/discriminator_accuracy_", "train/gradient_share_"
_DISTANCE, _RELIEF = "train/latent_distance", "train/adversarial_relief"


def curves(
    runs: Mapping[str, Metrics | AnyPath], path: AnyPath, *, keys: Sequence[str] | None = None
) -> Path:
    """Draws losses and scores over the training steps to a PNG file, with one panel per metric and one color per run.

    ``runs`` maps the name of each run to its metrics or to the path of its ``metrics.csv``. See ``training_charts`` for
    ``keys``. Raises ``InputError`` if a CSV file cannot be read, or no run has any of the metrics.
    """
    tables = {name: m if isinstance(m, Mapping) else read_table(Path(m)) for name, m in runs.items()}
    charts = list(training_charts(tables, keys).values())
    if not charts:
        raise InputError(f"{', '.join(runs)}: no metrics to draw; let the runs log some steps first")
    num_columns = 2 if len(charts) == 4 else min(3, len(charts))
    last_step = max(max(table["step"], default=1) for table in tables.values())
    return save_panels(charts, path, num_columns, last_step, run_names=list(tables))


def draw_adversary(metrics: AnyPath, path: AnyPath) -> Path:
    """Draws ``adversary_charts`` of a run's ``metrics.csv`` to a PNG file.

    Raises ``InputError`` if the file cannot be read, or if the run had no adversary.
    """
    table = read_table(Path(metrics))
    charts = adversary_charts(table)
    if not charts:
        raise InputError(f"{metrics}: its run had no adversary; nothing to draw")
    return save_panels(charts, path, 2, table["step"][-1])


def read_table(path: Path) -> dict[str, list[float]]:
    """Reads a run's ``metrics.csv`` as columns, with NaN for missing values.

    Raises ``InputError`` if the file cannot be read or has no rows.
    """
    rows = read_metrics(path)
    if not rows:
        raise InputError(f"{path}: has no rows; give the metrics.csv of a run")
    names = ["step", *sorted({name for row in rows for name in row} - {"step"})]
    return {name: [float(row.get(name, "nan")) for row in rows] for name in names}


def training_charts(tables: Mapping[str, Metrics], keys: Sequence[str] | None = None) -> dict[str, Chart]:
    """Returns a chart for each metric, with one curve per run. Charts and curves without finite values are omitted.

    ``tables`` maps run names to metrics. ``keys`` are the names of the metrics, by default mIoU and losses.
    """
    present = dict.fromkeys(key for table in tables.values() for key in table if key != "step")
    if keys is None:
        keys = [k for k in present if k == "val/miou"] + [k for k in present if k.startswith("train/loss")]
    charts = {}
    for key in keys:
        series = (
            Series(name, table["step"], table[key], index)
            for index, (name, table) in enumerate(tables.items())
            if key in table
        )
        # The mIoU axis starts at zero, so that a change of half a point does not appear large.
        charts[key] = Chart(_title_of(key), _drawable(series), low=0 if key == "val/miou" else None)
    return {key: chart for key, chart in charts.items() if chart.series}


def adversary_charts(table: Metrics) -> list[Chart]:
    """Returns the charts of a run's adversary, or an empty list if the run had no adversary.

    The charts show four metrics: the discriminator's accuracy in each domain, with the chance level; the sliced
    Wasserstein distance between source and target latents; the fraction of each loss in the gradients at the denoised
    latents; and the relief, a factor that lowers the adversarial loss.
    """

    def of(keys: Iterable[str], prefix: str = "") -> tuple[Series, ...]:
        named = ((key, key.removeprefix(prefix).replace("_", " ")) for key in keys if key in table)
        return _drawable(Series(n, table["step"], table[k], i) for i, (k, n) in enumerate(named))

    accuracies = of((f"{_ACCURACY}{domain}" for domain in ("source", "mixed", "target")), _ACCURACY)
    if not accuracies:
        return []
    chance = (1 / len(accuracies), "chance")
    shares = [key for key in table if key.startswith(_SHARE) and any(value > 0 for value in table[key])]
    charts = [
        Chart("discriminator accuracy", accuracies, 0, 1, chance),
        Chart("distance of source and target latents", of([_DISTANCE], "train/"), low=0),
        Chart("share of each loss in the gradient at the latents", of(shares, _SHARE), 0, 1, stacked=True),
        Chart("relief of the adversary (1: none)", of([_RELIEF], "train/"), 0, 1.05),
    ]
    return [chart for chart in charts if chart.series]


def _drawable(series: Iterable[Series]) -> tuple[Series, ...]:
    return tuple(s for s in series if np.isfinite(s.values).any())


def _title_of(key: str) -> str:
    """Returns the title of a metric, such as "segmentation loss, source" for ``train/loss_seg_source``."""
    if key == "val/miou":
        return "mIoU on validation images, %"
    name = key.split("/", 1)[-1]
    if not name.startswith("loss_"):
        return name.replace("_", " ")
    kind, _, domain = name.removeprefix("loss_").partition("_")
    kind = "segmentation" if kind == "seg" else kind
    return f"{kind} loss, {domain.replace('_', ' ')}" if domain else f"{kind} loss"
