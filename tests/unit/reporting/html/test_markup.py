from __future__ import annotations

import pytest

from iccld.reporting.html.markup import Html, el, join, number, pairs, signed, table

NASTY = "<script>alert('x')</script> & \"more\""


def test_text_and_attributes_are_escaped_and_markup_is_not():
    made = el(
        "p", NASTY, el("b", "fine"), None, title=NASTY, class_="note", aria_label="a", hidden=None, open=True
    )
    assert "<script" not in made
    assert made.startswith(
        '<p title="&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; &quot;more&quot;"'
    )
    assert ' class="note" aria-label="a" open>' in made
    assert made.endswith("<b>fine</b></p>")
    assert "hidden" not in made


def test_void_elements_are_not_closed():
    assert el("img", src="data:,", alt="") == '<img src="data:," alt="">'
    assert join("a < b", Html("<br>")) == "a &lt; b<br>"


def test_tables_head_their_rows_and_scroll_by_themselves():
    made = table(["run", "mIoU"], [[NASTY, "1.0"]])
    assert made.startswith('<div class="scroll" tabindex="0" role="region" aria-label="run"><table>')
    assert '<th scope="col">mIoU</th>' in made
    assert '<tr><th scope="row">&lt;script&gt;' in made
    assert "<td>1.0</td>" in made


def test_facts_without_a_value_are_left_out():
    assert pairs([("seed", "0"), ("commit", "")]).count("<dt>") == 1


@pytest.mark.parametrize(
    ("value", "plain", "difference"),
    [(None, "–", "–"), (float("nan"), "–", "–"), (12.34, "12.3", "+12.3"), (-0.04, "-0.0", "+0.0")],
)
def test_numbers(value: float | None, plain: str, difference: str):
    assert (number(value), signed(value)) == (plain, difference)
