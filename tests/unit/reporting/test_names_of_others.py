"""Names of classes and data sets in what is written for people: they are text there, whatever they hold."""

from __future__ import annotations

import csv
import io
import tomllib
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from iccld.config import TrainConfig, to_dict
from iccld.data.description import toml_value
from iccld.errors import InputError
from iccld.inference.ranking import Ranked, write_ranking
from iccld.labels import LabelSpace, custom_protocol
from iccld.metrics import ConfusionMatrix, scores_from_confusion
from iccld.reporting.charts import new_figure, save_png
from iccld.reporting.record import write_readme
from iccld.reporting.release import model_card
from iccld.reporting.tables import scores_table

NAMES = ["<img src=x onerror=alert(1)>", "a|b", "[x](https://evil.example)", "$\\frac{1}{0}$", "`c`", "\u202eevil",
         "https://evil.example/?q", "**bold**", "=1+1", "<!--"]  # fmt: skip
SPACE = LabelSpace.from_names("<script>|x", NAMES)


def _kinds(text: str) -> set[str]:
    """What a reader of Markdown finds in it beside text, tables and what the card itself has."""
    markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tokens = [t for block in markdown.parse(text) for t in [block, *(block.children or ())]]
    return {t.type for t in tokens if t.type in ("html_block", "html_inline", "image", "s_open")} | {
        str(t.attrs.get("href")) for t in tokens if t.type == "link_open"
    }


def _card(**training: Any) -> str:
    config = TrainConfig()
    facts = {"preset": "<b>p</b>", "step": 5, "weights": "ema_teacher", **to_dict(config)}
    facts["data"] |= {"target": "<i>|t", "val_split": "v|[l](http://e.example)"}
    rows = [{"step": "5", "val/miou": "50", **{f"val/iou/{name}": "50" for name in NAMES}}]
    stored = {"label_space": SPACE.to_dict(), "model": {"backbone": "auto:<b>"}, "training": facts | training}
    return model_card(stored, rows, repo_id="me/streets", license="<u>free</u>")


def test_the_model_card_has_no_markup_of_others() -> None:
    card = _card()
    body = card.split("---\n", 2)[2]
    assert _kinds(body) == {"https://arxiv.org/abs/2412.16859"}
    assert "\u202e" not in card
    cells = {row.replace("\\|", "").count("|") for row in body.splitlines() if row.startswith("| ")}
    assert cells == {3}


@pytest.mark.parametrize(
    "change", [{"step": "5"}, {"method": None}, {"data": {}}, {"data": 3}, {"model": []}, {"seed": 1.5}]
)
def test_a_card_of_a_strange_record_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="training"):
        _card(**change)


def test_tables_of_scores() -> None:
    confusion = ConfusionMatrix(len(SPACE))
    confusion.counts[:, 0] = 1
    scores = scores_from_confusion(confusion, custom_protocol(SPACE))
    table = scores_table({"<b>a|b": scores, "c": scores}, markdown=True)
    assert _kinds(table) == set()
    assert {row.replace("\\|", "").count("|") for row in table.splitlines()} == {5}
    assert "\u202e" not in scores_table({"a": scores})


def test_figures_set_no_formulas(tmp_path: Path) -> None:
    figure = new_figure(2, 1)
    figure.text(0.1, 0.5, "\n".join(NAMES))  # a broken formula would raise
    save_png(figure, tmp_path / "x.png")


def test_cells_of_a_ranking_are_no_formulas_and_stay_paths(tmp_path: Path) -> None:
    names = [("=cmd|' /C calc'!A0.png", None), ("a\n=b.png", None), ("-x.mp4", 3), ("dir/y.png", None)]
    order = [Ranked(i, 0.5, None if i == 0 else 1.0, None if i == 0 else 0) for i in range(4)]
    path = write_ranking(tmp_path / "rank.csv", order, names)
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [row["file"] for row in rows] == [f"./{names[0][0]}", r"a\n=b.png", "./-x.mp4", "dir/y.png"]
    assert rows[1]["neighbor"] == f"./{names[0][0]}"
    assert rows[0]["score"] == "0.500000"


@pytest.mark.parametrize("text", ["a\x7fb", 'a"\\x41\n', "\u202eb", "\U000e0041", "ä 道", *NAMES])
def test_texts_of_toml_come_back(text: str) -> None:
    line = f"a = {toml_value(text)}"
    assert tomllib.loads(line) == {"a": text}
    assert line.isprintable()


def test_the_readme_of_a_run_has_the_lines_that_it_has(tmp_path: Path) -> None:
    plain, strange = tmp_path / "plain", tmp_path / "a\nb\x1b[2J"
    lengths = {
        len(write_readme(p, command=f"iccld train\t{p}").read_text().splitlines()) for p in (plain, strange)
    }
    assert len(lengths) == 1
