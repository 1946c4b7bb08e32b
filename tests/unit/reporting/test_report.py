from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from iccld.metrics import Scores
from iccld.reporting import report as module
from iccld.reporting.curves import adversary_charts
from iccld.reporting.record import Example, Record, Subject, labels_uri
from iccld.reporting.report import report_page

Make = Callable[..., Subject]
PIXEL = labels_uri(np.zeros((1, 1), np.uint8), ((200, 100, 0),))
VOID = {"img", "br", "meta", "link"}


class Page(HTMLParser):
    """Checks that elements nest, and gathers headings, images and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)


def test_one_run_has_every_section(make_subject: Make):
    text = report_page([make_subject()])
    page = Page(text)
    assert page.headings == [
        "ICCLD report: mine", "Training", "Classes", "Images", "Confusion", "Calibration", "Environment",
    ]  # fmt: skip
    links = [a["href"] for tag, a in page.tags if tag == "a"]
    assert {f"#{a['id']}" for tag, a in page.tags if tag == "section"} == set(links)
    images = [a for tag, a in page.tags if tag == "img"]
    assert len(images) == 4
    assert all(a["alt"] and str(a["src"]).startswith("data:image/") for a in images)
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert "further losses" in text


def test_nothing_of_the_user_becomes_markup(make_subject: Make):
    nasty = "<img src=x onerror='alert(1)'>\u202e"
    subject = make_subject(name=nasty, facts=[(nasty, nasty)])
    record = subject.record
    assert record.scores is not None
    scores = replace(record.scores, classes=(nasty, *record.scores.classes[1:]), protocol=nasty)
    examples = tuple(replace(e, name=nasty, role=nasty) for e in record.examples)
    record = replace(
        record, scores=scores, examples=examples, legend=((nasty, (1, 2, 3)),), measured_on=nasty,
        environment={"command": nasty},
    )  # fmt: skip
    for subjects in ([replace(subject, record=record)], [replace(subject, record=record), make_subject()]):
        text = report_page(subjects)
        assert "<img src=x" not in text
        assert "\u202e" not in text
        assert r"&lt;img src=x onerror=&#39;alert(1)&#39;&gt;\u202e" in text


def test_several_runs_are_compared_and_then_shown_one_by_one(make_subject: Make):
    one, two = make_subject("plain", right=50), make_subject("adapted", right=90)
    text = report_page([one, two])
    page = Page(text)
    assert page.headings[:4] == ["ICCLD report: plain, adapted", "Runs", "Training", "Classes"]
    assert page.headings.count("Confusion") == page.headings.count("Images") == 2
    assert one.record.scores is not None
    assert two.record.scores is not None
    gain = two.record.scores.miou - one.record.scores.miou
    assert f'<td data-label="gain">{gain:+.2f}</td>' in text
    assert "do not compare" not in text


def test_runs_measured_otherwise_have_no_gain(make_subject: Make):
    other = make_subject("other")
    assert other.record.scores is not None
    record = replace(other.record, scores=replace(other.record.scores, protocol="else"))
    text = report_page([make_subject(), replace(other, record=record)])
    assert "their figures do not compare" in text
    assert "not shown here: other." in text
    elsewhere = replace(other, record=replace(other.record, measured_on="train"))
    assert "their figures do not compare" in report_page([make_subject(), elsewhere])


def test_an_unfinished_run_says_so_and_shows_its_curves(make_subject: Make):
    text = report_page([make_subject(record=Record(), unfinished="4 of 9 steps")])
    assert "This run is not finished: 4 of 9 steps." in text
    assert Page(text).headings == ["ICCLD report: mine", "Training", "Environment"]


def test_without_labels_the_reason_is_given(make_subject: Make):
    subject = make_subject()
    examples = tuple(replace(e, miou=None) for e in subject.record.examples)
    record = Record(no_scores="val: no <labels>", examples=examples)
    text = report_page([replace(subject, record=record)])
    assert "No scores: val: no &lt;labels&gt;" in text
    assert "there are no labels to tell good from bad" in text
    assert "Confusion" not in Page(text).headings


def test_rows_of_the_confusion_are_shares_of_the_true_class(make_subject: Make):
    subject = make_subject(right=80)
    scores = subject.record.scores
    assert isinstance(scores, Scores)
    text = report_page([subject])
    table = text[text.index('<table class="matrix">') :]
    rows = re.findall(
        r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', table[: table.index("</table>")], re.DOTALL
    )
    assert [(name, re.findall(r">(\d*)</td>", cells)) for name, cells in rows] == [
        ("road", ["80", "20"]),
        ("car", ["", "100"]),
    ]
    assert 'class="own high"' in text
    assert "no answer" not in text
    gaps = replace(scores, unlabeled=(5, *scores.unlabeled[1:]))
    assert "no answer" in report_page([replace(subject, record=replace(subject.record, scores=gaps))])


def test_bars_have_the_length_of_their_value(make_subject: Make):
    text = report_page([make_subject(right=80), make_subject(right=80)])
    assert text.count("width:80.00%") == 2, "IoU of road, of both runs"
    assert "width:0.00%" in text, "no other class is there"
    assert "<td>+0.0</td>" in text


def test_classes_have_a_gain_between_two_runs_that_compare_alone(make_subject: Make):
    one, two, three = make_subject("one"), make_subject("two"), make_subject("three")
    assert module.class_bars([one, two])["with_gain"]
    assert not module.class_bars([one, two, three])["with_gain"]
    elsewhere = replace(two, record=replace(two.record, measured_on="train"))
    text = report_page([one, elsewhere])
    assert "<td>+0.0</td>" not in text
    assert 'title="two"' in text


def test_the_adversary_is_shown_where_there_was_one(make_subject: Make):
    table = {"step": [1.0, 2.0], "train/loss": [1.0, 1.0]}
    assert adversary_charts(table) == []
    for domain in ("source", "target"):
        table[f"train/discriminator_accuracy_{domain}"] = [0.5, 0.6]
    table |= {"train/latent_distance": [0.3, 0.2], "train/adversarial_relief": [1.0, 0.5]}
    table |= {f"train/gradient_share_{name}": [0.5, 0.5] for name in ("seg_source", "adversarial")}
    text = report_page([make_subject(table=table)])
    for words in (
        "discriminator accuracy",
        "distance of source and target latents",
        "share of each loss in the gradient",
        "relief of the adversary",
        ">chance</text>",
        "seg source</span>",
    ):
        assert words in text


def test_pages_of_many_runs_stay_small(make_subject: Make, monkeypatch: pytest.MonkeyPatch):
    record = make_subject().record
    example = record.examples[0]
    examples = tuple(replace(example, name=f"{r}{i}", role=r) for r in ("best", "worst") for i in range(3))
    size = sum(map(len, example.panels.values()))
    monkeypatch.setattr(module, "MOST_CHARACTERS", 7 * size)
    kept = module.trimmed([replace(record, examples=examples), record, record])
    assert [[e.name for e in r.examples] for r in kept] == [
        ["best0", "best1", "worst0"],
        ["best.png", "worst.png"],
        ["best.png", "worst.png"],
    ]


def _with_random(subject: Subject, *, other_picture: bool = False) -> Subject:
    """A run whose record has one more image, drawn at random."""
    panels = {"image": "data:image/png;base64,AAAA" if other_picture else PIXEL, "truth": PIXEL}
    answers = {"prediction": PIXEL, "errors": PIXEL, "uncertainty": PIXEL}
    example = Example("street_7.png", "random", 33.0, panels | answers)
    return replace(subject, record=replace(subject.record, examples=(*subject.record.examples, example)))


def test_runs_are_shown_on_the_same_images_beside_the_truth(make_subject: Make):
    runs = [_with_random(make_subject(name)) for name in ("source_only", "iccld")]
    text = report_page(runs)
    page = Page(text)
    assert page.headings[4] == "The same images"
    of_it = [str(a["alt"]) for tag, a in page.tags if tag == "img" and "street_7" in str(a["alt"])]
    assert [alt.split(", ")[-1] for alt in of_it[:2]] == ["input image", "in the colors of the legend"]
    assert [alt.rsplit(", ", 1)[-1] for alt in of_it[2:]] == ["source_only"] * 3 + ["iccld"] * 3
    assert text.count("street_7.png") == len(of_it) + 1, "these images are not repeated below"
    for unlike in (make_subject("other"), _with_random(make_subject("other"), other_picture=True)):
        assert "The same images" not in report_page([runs[0], unlike])
    assert "The same images" not in report_page(runs[:1])
