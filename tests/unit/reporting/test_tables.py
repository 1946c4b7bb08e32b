from __future__ import annotations

import pytest
import torch

from iccld.errors import InputError
from iccld.labels import PROTOCOLS, LabelSpace, custom_protocol
from iccld.metrics import Scores, scores_from_confusion
from iccld.reporting.tables import print_scores, scores_table

SPACE = LabelSpace.from_names("street", ["road", "traffic sign", "sky", "car"])


def scores(counts: list[list[int]], num_images: int = 1) -> Scores:
    return scores_from_confusion(torch.tensor(counts), custom_protocol(SPACE), num_images=num_images)


# IoU 80, 0 (never found), absent, 50
BEFORE = scores([[8, 0, 0, 2], [0, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 4]])
# IoU 90, 50, absent, 66.7
AFTER = scores([[9, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 4]])


def cells(table: str, separator: str | None = None) -> list[list[str]]:
    return [[c.strip() for c in line.split(separator) if c.strip()] for line in table.splitlines()]


def test_plain_table_is_aligned_and_gives_the_gain():
    table = scores_table({"source only": BEFORE, "ICCLD": AFTER})
    lines = table.splitlines()
    rows = cells(table, "  ")
    assert rows[0] == ["class", "source only", "ICCLD", "gain"]
    assert rows[2] == ["road", "80.0", "90.0", "+10.0"]
    assert rows[3] == ["traffic sign", "0.0", "50.0", "+50.0"]
    assert rows[4] == ["sky", "–", "–", "–"]
    assert rows[5] == ["car", "50.0", "66.7", "+16.7"]
    assert rows[7] == ["mIoU", "43.3", "68.9", "+25.6"]
    assert rows[8] == ["pixel accuracy", "75.0", "87.5", "+12.5"]
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 9


def test_losses_and_ties_have_their_signs():
    rows = cells(scores_table({"a": AFTER, "b": BEFORE, "c": AFTER}), "  ")
    assert rows[2] == ["road", "90.0", "80.0", "90.0", "+0.0"]
    rows = cells(scores_table({"a": AFTER, "b": BEFORE}), "  ")
    assert rows[2][-1] == "-10.0"


def test_one_result_has_no_gain():
    assert cells(scores_table({"ICCLD": AFTER}), "  ")[0] == ["class", "ICCLD"]


def test_markdown_table():
    lines = scores_table({"source|only": BEFORE, "ICCLD": AFTER}, markdown=True).splitlines()
    assert lines[0] == r"| class | source\|only | ICCLD | gain |"
    assert lines[1] == "|---|---:|---:|---:|"
    assert lines[2] == "| road | 80.0 | 90.0 | +10.0 |"
    assert lines[-2] == "| **mIoU** | **43.3** | **68.9** | **+25.6** |"
    assert len(lines) == 8


def test_protocols_are_not_mixed():
    other = scores_from_confusion(torch.eye(19, dtype=torch.int64), PROTOCOLS["synthia16"])
    with pytest.raises(InputError, match="custom:street, synthia16"):
        scores_table({"a": AFTER, "b": other})
    # Two folders of one name may have other classes.
    twin = custom_protocol(LabelSpace.from_names("street", ["cat", "dog"]))
    with pytest.raises(InputError, match="other classes of custom:street cannot share a table"):
        scores_table({"a": AFTER, "b": scores_from_confusion(torch.eye(2, dtype=torch.int64), twin)})


def test_printed_scores_are_plain_text(capsys: pytest.CaptureFixture[str]):
    print_scores(BEFORE)
    text = capsys.readouterr().out
    rows = cells(text, "  ")
    assert rows[0] == ["class", "IoU %", "accuracy %"]
    assert rows[3] == ["traffic sign", "0.0", "0.0"]
    assert rows[4] == ["sky", "–", "–"]
    assert rows[7] == ["mean", "43.3", "60.0"]
    assert rows[8] == ["mIoU 43.3 %, pixel accuracy 75.0 % (custom:street, 1 image)"]
    assert "\x1b" not in text
