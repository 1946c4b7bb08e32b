"""docs/tutorial.md, every block in turn, in an empty folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from iccld.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


def blocks() -> list[tuple[str, str]]:
    """(language, text) of the page's blocks, in order."""
    return re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def run_shell(text: str) -> None:
    """Runs a block's lines; only ``iccld`` may stand there, so no shell is needed."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        assert words[0] == "iccld", line
        assert main(words[1:]) == 0, line


def test_every_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    languages = [language for language, _ in blocks()]
    assert set(languages) == {"sh", "python"}
    for language, text in blocks():
        if language == "sh":
            run_shell(text)
        else:
            exec(compile(text, "tutorial.md", "exec"), {})
    output = capsys.readouterr().out
    assert re.search(r"road \d+%, unsure \d\.\d\d", output)
    assert "mIoU" in output
    for made in (
        "runs/mine/report.html",
        "runs/mine/README.txt",
        "predictions/overlay",
        "next/rank.csv",
        "next/contact_sheet.png",
        "scores.json",
        "labeled/iccld_labels",
        "runs/labeled/report.html",
    ):
        assert (tmp_path / made).exists(), made
