from __future__ import annotations

import re
from collections import Counter
from xml.etree import ElementTree

import pytest

from iccld.reporting.charts import COLORS, Chart, Series, reliability_svg
from iccld.reporting.record import Calibration

NAN = float("nan")
SVG = "{http://www.w3.org/2000/svg}"
Points = list[tuple[float, float]]


def paths(markup: str, color: str, *, fill: bool = False) -> list[Points]:
    """The points of each path that is drawn in a color."""
    found = []
    for path in ElementTree.fromstring(markup).iter(f"{SVG}path"):
        kind = "fill" if fill else "fill: none; stroke"
        if f"{kind}: {color}" in path.attrib.get("style", ""):
            numbers = [float(n) for n in re.findall(r"-?[\d.]+", path.attrib["d"])]
            found.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return found


def test_gaps_are_left_out_and_few_points_are_marked() -> None:
    picture = Chart("loss", (Series("run", [0, 1, 2], [4.0, NAN, 2.0]),)).svg()
    (line,) = paths(picture, COLORS[0])
    (x0, y0), (x1, y1) = line
    assert x0 < x1
    assert y0 < y1, "y grows downward: the loss falls"
    assert picture.count("<use ") == 2
    assert 'role="img" aria-label="loss. run: 2 at step 2"' in picture


def test_many_points_are_thinned_under_their_running_mean() -> None:
    steps = list(range(5000))
    picture = Chart("loss", (Series("run", steps, [float(s % 7) for s in steps]),)).svg()
    raw, smooth = paths(picture, COLORS[0])
    assert all(100 < len(line) <= 300 for line in (raw, smooth))
    assert "stroke-opacity: 0.25" in picture
    assert "<use " not in picture


@pytest.mark.parametrize(
    "values", [[3.0], [3.0, 3.0], [0.0, 0.0], [1e-10], [-3e-10], [0.0, 1e-9], [-1e-3, 1e6]]
)
def test_every_range_can_be_drawn(values: list[float]) -> None:
    picture = Chart("a", (Series("run", list(range(len(values))), values),)).svg()
    _, _, width, height = map(float, re.search(r'viewBox="(.*?)"', picture).group(1).split())  # type: ignore[union-attr]
    for line in paths(picture, COLORS[0]):
        assert all(0 <= x <= width and 0 <= y <= height for x, y in line)


def test_the_same_chart_has_the_same_markup_and_another_has_other_identifiers() -> None:
    one, other = (Chart(t, (Series("run", [0, 1], [1.0, 2.0]),), level=(1.5, "chance")) for t in ("a", "b"))
    assert one.svg() == one.svg()
    assert ">chance</text>" in one.svg()
    identifiers = [set(re.findall(r' id="(.*?)"', chart.svg())) for chart in (one, other)]
    assert not set.intersection(*identifiers)
    assert "<style" not in one.svg()


def test_names_are_text() -> None:
    name = '<b>"$\\frac{1}{0}\u202e\ud800'
    made = Chart(name, (Series(name, [0, 1], [0.2, 0.4]),), level=(0.5, name)).svg()
    assert "<b>" not in made
    assert "\u202e" not in made
    assert made.count("&lt;b&gt;") == 3
    ElementTree.fromstring(made)


def test_shares_are_stacked() -> None:
    shares = tuple(Series(str(i), [0, 1, 2], [0.25 + i / 2] * 3, i) for i in range(2))
    picture = Chart("shares", shares, 0, 1, stacked=True).svg()
    lower, upper = (paths(picture, COLORS[i], fill=True)[0] for i in range(2))
    heights = [max(y for _, y in area) - min(y for _, y in area) for area in (lower, upper)]
    assert heights[1] == pytest.approx(3 * heights[0], rel=0.05)


def test_columns_of_the_reliability_diagram_are_as_high_as_the_accuracy() -> None:
    picture = reliability_svg(Calibration({}, (0, 25, 75), (None, 0.5, 0.9), (None, 0.5, 1.0)))
    columns = [
        max(y for _, y in area) - min(y for _, y in area) for area in paths(picture, COLORS[0], fill=True)
    ]
    # Columns of the accuracies, and the marker of the points in them.
    full = max(columns)
    assert Counter(round(height / full, 2) for height in columns[:3]) == Counter([0.0, 0.5, 1.0])
    assert "0.50: 0.50, 0.90: 1.00" in picture
