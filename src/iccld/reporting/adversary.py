"""What the adversary does, as a picture: who wins, how far the domains' latents lie apart, which loss pulls."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iccld.errors import InputError
from iccld.reporting.canvas import FAINT_INK, FONT_SIZE, INK, new_figure, save_png
from iccld.reporting.curves import read_table, running_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#F0E442", "#000000")
_ACCURACY, _SHARE = "train/discriminator_accuracy_", "train/gradient_share_"


def draw_adversary(metrics: str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """Draws four panels from a run's ``metrics.csv``.

    Discriminator accuracy of each domain beside chance; sliced Wasserstein distance between source and target latents;
    share of each loss in the gradients at the denoised latents; and the relief that the adversary's weight got.

    Args:
        metrics: the CSV file.
        path: the PNG file.

    Returns:
        ``path``.

    Raises:
        InputError: the file cannot be read, or its run had no adversary.
    """
    table = {name: np.asarray(values, float) for name, values in read_table(Path(metrics)).items()}
    accuracies = [name for name in table if name.startswith(_ACCURACY)]
    if not accuracies:
        raise InputError(f"{metrics}: its run had no adversary; nothing to draw")
    figure = new_figure(9.0, 5.4)
    figure.set_layout_engine("constrained")
    panels = [figure.add_subplot(2, 2, place) for place in range(1, 5)]
    order = [f"{_ACCURACY}{domain}" for domain in ("source", "mixed", "target")]
    shown = [name for name in order if name in table]
    for name, color in zip(shown, _COLORS, strict=False):
        _draw(panels[0], table["step"], table[name], color, name.removeprefix(_ACCURACY))
    panels[0].axhline(1 / len(shown), color=FAINT_INK, linewidth=0.8, linestyle="--")
    panels[0].annotate(
        "chance",
        (table["step"][0], 1 / len(shown)),
        (2, 3),
        textcoords="offset points",
        fontsize=7,
        color=FAINT_INK,
    )
    panels[0].set_ylim(0, 1)
    if "train/latent_distance" in table:
        _draw(panels[1], table["step"], table["train/latent_distance"], _COLORS[0])
        panels[1].set_ylim(bottom=0)
    _draw_shares(panels[2], table)
    _draw(panels[3], table["step"], table["train/adversarial_relief"], _COLORS[0])
    panels[3].set_ylim(0, 1.05)
    titles = (
        "discriminator accuracy",
        "distance of source and target latents",
        "share of the gradient at the latents",
        "relief of the adversary (1: none)",
    )
    for axes, title in zip(panels, titles, strict=True):
        _dress(axes, title, float(table["step"][-1]))
    return save_png(figure, path)


def _draw(axes: Axes, steps: np.ndarray, values: np.ndarray, color: str, label: str | None = None) -> None:
    kept = np.isfinite(values)
    steps, values = steps[kept], values[kept]
    if len(values) >= 12:
        axes.plot(steps, values, color=color, linewidth=0.7, alpha=0.25)
        values = running_mean(values, reach=2)
    axes.plot(steps, values, color=color, linewidth=1.6, label=label)


def _draw_shares(axes: Axes, table: dict[str, np.ndarray]) -> None:
    names = [name for name in table if name.startswith(_SHARE) and np.nanmax(table[name]) > 0]
    if not names:
        return
    shares = np.nan_to_num(np.stack([table[name] for name in names]))
    kept = shares.sum(axis=0) > 0
    labels = [name.removeprefix(_SHARE).replace("_", " ") for name in names]
    axes.stackplot(table["step"][kept], shares[:, kept], labels=labels, colors=_COLORS, linewidth=0)
    axes.set_ylim(0, 1)


def _dress(axes: Axes, title: str, last_step: float) -> None:
    axes.set_title(title, fontsize=FONT_SIZE + 1, color=INK, loc="left")
    axes.set_xlim(0, last_step)
    axes.set_xlabel("step", fontsize=FONT_SIZE - 1, color=FAINT_INK)
    axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=FONT_SIZE - 1, labelcolor=FAINT_INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color("#bbbbbb")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=FONT_SIZE - 1.5, labelcolor=INK, loc="best", framealpha=0.85, edgecolor="none")
