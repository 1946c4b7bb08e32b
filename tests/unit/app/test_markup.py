from __future__ import annotations

from collections.abc import Callable

from iccld.app.layers import LegendEntry
from iccld.app.markup import agreement_text, clip_facts, heading, legend_style, notice
from iccld.app.models import AppModel
from iccld.app.video import Clip


def test_names_from_outside_are_escaped(make_model: Callable[..., AppModel]) -> None:
    model = make_model(name="<script>x</script>")
    for text in (
        heading([model]),
        notice(model.name),
        clip_facts(model, Clip(1, False, (2, 2), 0.1), (1, 1)),
    ):
        assert "<script" not in text
        assert "&lt;script&gt;" in text


def test_cut_clips_say_so(make_model: Callable[..., AppModel]) -> None:
    whole, cut = (clip_facts(make_model(), Clip(300, c, (20, 30), 0.1234), (1, 2)) for c in (False, True))
    assert "300 frames, 123 ms each" in whole
    assert "30×20" in whole
    assert "only its first" not in whole
    assert "only its first 300 frames are taken" in cut


def test_boxes_have_the_colors_of_their_classes() -> None:
    style = legend_style([LegendEntry("a", (1, 2, 3), (0.5,)), LegendEntry("b", (250, 251, 252), (0.0,))])
    assert "nth-of-type(1) input{border-color:rgb(1,2,3)" in style
    assert "nth-of-type(2) input{border-color:rgb(250,251,252)" in style
    assert style.count("opacity") == 1, "what does not occur is faint"
    assert "white" in style.split("nth-of-type(2) input:")[0], "a mark that can be seen on a dark color"
    assert "black" in style.split("nth-of-type(2) input:")[1]


def test_agreement() -> None:
    assert "<b>93.4 %</b>" in agreement_text(0.9342)
    assert "no class in common" in agreement_text(None)
