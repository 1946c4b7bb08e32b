"""Mistakes in the file of a search."""

from __future__ import annotations

from pathlib import Path

import pytest

from iccld.bench.tuning import read_search
from iccld.errors import InputError

SEARCH = (Path(__file__).parents[2] / "search.toml").read_text(encoding="utf-8")


@pytest.fixture
def search(tmp_path: Path) -> Path:
    path = tmp_path / "search.toml"
    path.write_text(SEARCH)
    return path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"adaptation.start"', '"adaptation.strat"', "strat"),
        ("low = 0.1, high = 0.5", "low = 0.5, high = 0.1", "not below high"),
        ("low = 0.1, high = 0.5", "low = 0.1, high = 7.0", "adaptation.start"),
        ("low = 0.1, high = 0.5", "low = 0.1", "either low and high, or choices"),
        ("low = 1e-4", "low = 0.0", "log needs low above 0"),
        ("low = 1, high = 2", "low = 1, high = 2.5", "batch_size"),
        ("choices = [0.5, 1.0]", 'choices = ["much"]', "color_transfer"),
        ('preset = "demo"', 'preset = "dmeo"', "dmeo"),
        (
            'preset = "demo"',
            'preset = "demo"\nmethod = "dacs"',
            "--adaptation.color-transfer is not read here",
        ),
        ("[settings]", "[settings]\nspets = 3", "spets"),
    ],
)
def test_mistakes_in_the_file(old: str, new: str, said: str, search: Path) -> None:
    assert old in SEARCH
    search.write_text(SEARCH.replace(old, new))
    with pytest.raises(InputError, match=said) as error:
        read_search(search)
    assert str(search) in str(error.value)
