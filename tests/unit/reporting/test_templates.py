from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from iccld.reporting import templates
from iccld.reporting.templates import number, render, signed

NASTY = "<script>alert('x')</script> & \"more\"\x1b\u202e\ud800"
ESCAPED = r"&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &#34;more&#34;\x1b\u202e\ud800"


def test_text_and_attributes_are_escaped() -> None:
    page = render("bench.html.j2", title=NASTY, version="1", colors=[], tasks=[], links=[(NASTY, NASTY)])
    assert f"<title>{ESCAPED}</title>" in page
    task = {"title": NASTY, "tables": [{"title": NASTY, "head": [NASTY] * 4, "rows": [[NASTY] * 4]}]}
    values = {"tasks": [task], "links": [(NASTY, NASTY)], "bars": [[(NASTY, 1.0, None)]]}
    page = render("bench.html.j2", title=NASTY, version=NASTY, colors=[NASTY], **values)
    assert "<script" not in page
    assert "\u202e" not in page
    assert f'<section id="{ESCAPED}"><h2>{ESCAPED}</h2>' in page
    assert f'<td data-label="{ESCAPED}">{ESCAPED}</td>' in page


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        render("page.html.j2", version="1", colors=[])


def test_every_template_is_used_as_html_markdown_or_text() -> None:
    folder = Path(templates.__file__).parent / "templates"
    kinds = {file.name.split(".", 1)[1] for file in folder.iterdir()}
    assert kinds == {"html.j2", "css.j2", "md.j2", "txt.j2"}
    assert not [file for file in folder.iterdir() if "|safe" in file.read_text().replace(" ", "")]


@pytest.mark.parametrize(
    ("value", "plain", "difference"),
    [(None, "–", "–"), (float("nan"), "–", "–"), (12.34, "12.3", "+12.3"), (-0.04, "-0.0", "+0.0")],
)
def test_numbers(value: float | None, plain: str, difference: str) -> None:
    assert (number(value), signed(value)) == (plain, difference)
