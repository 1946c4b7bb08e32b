"""Prints a random sample of comments and docstrings with the code: ``python benchmarks/reader.py --seed N``.

Give the output to a reader who knows segmentation but not this project, and ask which texts are unclear at first
reading. The aim is at most 3 of 60 texts, three times in a row with new seeds.
"""

from __future__ import annotations

import argparse
import ast
import random
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONTEXT = 12  # lines of code shown after a text


@dataclass(frozen=True)
class Text:
    """A comment or docstring: the file, and the numbers of the first and last line, counted from 1."""

    path: Path
    first: int
    last: int


def main() -> None:
    """Prints the sampled texts with numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=60)
    arguments = parser.parse_args()
    texts = [text for path in sorted((ROOT / "src").rglob("*.py")) for text in find(path)]
    drawn = random.Random(arguments.seed).sample(texts, min(arguments.count, len(texts)))
    for number, text in enumerate(drawn, 1):
        lines = text.path.read_text(encoding="utf-8").splitlines()
        start = max(1, text.first - 3)
        shown = "\n".join(lines[start - 1 : text.last + CONTEXT])
        print(
            f"--- {number}: {text.path.relative_to(ROOT)}, lines {text.first} to {text.last} ---\n{shown}\n"
        )


def find(path: Path) -> Iterator[Text]:
    """Yields the docstrings and comments of a file. Comments on consecutive lines are one text."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            yield Text(path, node.body[0].lineno, node.body[0].end_lineno or node.body[0].lineno)
    with path.open("rb") as file:
        rows = [t.start[0] for t in tokenize.tokenize(file.readline) if t.type == tokenize.COMMENT]
    for row in rows:
        if row - 1 not in rows:
            last = row
            while last + 1 in rows:
                last += 1
            yield Text(path, row, last)


if __name__ == "__main__":
    main()
