from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from iccld.reporting.html.charts import Series, line_chart, reliability_diagram

NAN = float("nan")


def svg(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", markup, re.DOTALL).group())  # type: ignore[union-attr]


def points(line: ElementTree.Element) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]  # type: ignore[misc]


def test_few_points_are_marked_and_gaps_left_out():
    picture = svg(line_chart("loss", [Series("run", [0, 1, 2], [4.0, NAN, 2.0])]))
    (line,) = picture.iter("polyline")
    (x0, y0), (x1, y1) = points(line)
    assert x0 < x1
    assert y0 < y1, "y grows downward: the loss falls"
    assert len(list(picture.iter("circle"))) == 2
    assert picture.attrib["role"] == "img"
    assert "run: 2 at step 2" in picture.attrib["aria-label"]


def test_many_points_are_thinned_under_their_running_mean():
    steps = list(range(5000))
    picture = svg(line_chart("loss", [Series("run", steps, [float(s) for s in steps])]))
    raw, smooth = picture.iter("polyline")
    assert len(points(raw)) == len(points(smooth)) == 300
    assert "raw" in raw.attrib["class"]
    assert not list(picture.iter("circle"))


@pytest.mark.parametrize(
    "values", [[3.0], [3.0, 3.0], [0.0, 0.0], [1e-10], [-3e-10], [2e-8], [0.0, 1e-9], [-1e-3, 1e6]]
)
def test_every_range_has_ticks_and_all_lies_inside(values: list[float]):
    picture = svg(line_chart("a", [Series("run", list(range(len(values))), values)]))
    assert 2 <= len(list(picture.iter("line"))) <= 8
    (line,) = picture.iter("polyline")
    assert all(44 <= x <= 352 and 8 <= y <= 184 for x, y in points(line))


def test_nothing_to_draw_is_nothing():
    assert line_chart("a", [Series("run", [1], [NAN])]) == ""


def test_a_level_and_a_legend():
    series = [Series("<b>", [0, 1], [0.2, 0.4])]
    made = line_chart("a", series, low=0, high=1, reference=(0.5, "chance"), with_legend=True)
    assert ">chance</text>" in made
    assert made.count("&lt;b&gt;") >= 2
    assert "<b>" not in made.replace("<b>a</b>", "")


def test_columns_of_the_reliability_diagram_are_as_high_as_the_accuracy():
    picture = svg(reliability_diagram([0, 25, 75], [None, 0.5, 0.9], [None, 0.5, 1.0]))
    rectangles = [float(r.attrib["height"]) for r in picture.iter("rect")]
    full = rectangles[-1]
    assert rectangles == pytest.approx([0, full / 4, full * 3 / 4, full / 2, full], abs=0.2)
    assert len(list(picture.iter("circle"))) == 2
