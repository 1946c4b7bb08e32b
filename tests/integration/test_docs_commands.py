"""Every ``iccld`` command that a page or the README prints in a shell block is understood as it stands."""

from __future__ import annotations

import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from iccld import cli
from iccld.commands import train

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> Iterator[str]:
    """The command lines of a page's shell blocks, continuation lines joined."""
    for text in re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        for line in text.replace("\\\n", " ").splitlines():
            line = re.sub(r"\$\{?method\}?", "mic", re.sub(r"\$\{?seed\}?", "0", line))  # variables of a loop
            if match := re.match(r"\s*(?:torchrun .* -m |uvx --from \. |docker run .* )?iccld (.*)", line):
                yield match[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_the_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "train", lambda *_, **__: "finished")
    monkeypatch.setattr(train, "fill_caches", lambda *_: [])
    for command in cli.COMMANDS:
        module, _, name = command.entry.partition(":")
        target = getattr(importlib.import_module(f"iccld.commands.{module}"), name)
        if isinstance(target, type):
            monkeypatch.setattr(target, "run", lambda self: 0)
    for line in commands(page):
        words = shlex.split(line, comments=True)
        line = f"iccld {line}  ({page.name})"
        if words[:2] == ["train", "PRESET"]:
            words[1] = "demo"
        assert cli.main(words) == 0, line


def test_there_are_commands() -> None:
    assert sum(len(list(commands(page))) for page in PAGES) > 20


def test_extras_are_installed_from_the_clone() -> None:
    """The project is on no package index: a line that names it there would install nothing, or another's package."""
    texts = [*PAGES, *(ROOT / "src").rglob("*.py"), *(ROOT / "examples").glob("*.ipynb")]
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = set()
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"pip install[^\n]*\biccld\[", text), path
        assert not re.search(r"pip install +(-\S+ +)*iccld\b", text), path
        named |= {extra for extra in re.findall(r"pip install '\.\[(\w+)\]'", text)}
    assert named <= extras
    assert {"app", "onnx"} <= named
