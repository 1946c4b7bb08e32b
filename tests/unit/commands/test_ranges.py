"""Every number that a command takes has a range, and what is beyond it is refused before any work."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from iccld.cli import COMMANDS, main
from iccld.commands.flags import check_values
from iccld.commands.train import DataCacheArgs, TrainArgs
from iccld.commands.train_checks import check_config
from iccld.config import TrainConfig, with_settings
from iccld.documents import Range
from iccld.errors import InputError


def kinds() -> Iterator[Any]:
    for command in COMMANDS:
        module, _, name = command.entry.partition(":")
        target = getattr(importlib.import_module(f"iccld.commands.{module}"), name)
        if dataclasses.is_dataclass(target):
            yield target
    yield from (TrainArgs, DataCacheArgs)


def numbers(kind: Any, instance: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any, Range | None]]:
    """Each field that holds numbers: its dotted name, type, owner, and range."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        value = getattr(instance, name)
        if dataclasses.is_dataclass(value):
            yield from numbers(type(value), value, f"{prefix}{name}.")
        elif {int, float} & set(leaves(hint)):
            yield f"{prefix}{name}", hint, instance, next(ranges(hint), None)


def ranges(hint: Any) -> Iterator[Range]:
    """The ranges within a type, outer ones first."""
    yield from (part for part in getattr(hint, "__metadata__", ()) if isinstance(part, Range))
    for part in get_args(hint):
        yield from ranges(part)


def leaves(hint: Any) -> Iterator[Any]:
    inner = [part for part in get_args(hint) if not isinstance(part, Range)]
    if not inner:
        yield hint
    for part in inner:
        yield from leaves(part)


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
def test_every_number_of_every_command_has_a_range(kind: Any) -> None:
    unset = dataclasses.MISSING
    required = [f.name for f in dataclasses.fields(kind) if f.default is unset and f.default_factory is unset]
    hints = {name: str(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
    words = {
        n: ("x",) if "tuple[" in hints[n] else Path("x") if "Path" in hints[n] else "x" for n in required
    }
    instance = kind(
        **{n: (Path("x"),) if "tuple[" in hints[n] and "Path" in hints[n] else w for n, w in words.items()}
    )
    check_values(instance)
    for name, hint, owner, limits in numbers(kind, instance):
        assert limits is not None, f"{kind.__name__}.{name} takes any number"
        last, count = name.rpartition(".")[2], 2 if "tuple[" in str(hint) else 1
        whole = float not in set(leaves(hint))
        bad: list[float] = [math.floor(limits.low) - 1, 2 * limits.high + 1]
        for number in bad if whole else [*bad, math.nan, math.inf, -math.inf]:
            value = (number, number) if count == 2 else number
            with pytest.raises(InputError, match=rf"{last.replace('_', '[- ]')}.* must be "):
                check_values(dataclasses.replace(owner, **{last: value}))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("predict m i --out o --max-frames 0", "--max-frames = 0 must be a whole number of 1 or more"),
        ("predict m i --out o --seconds nan", "--seconds = nan must be a number above 0"),
        (
            "predict m i --out o --window 0 64",
            "--window[0] = 0 must be a whole number from 32 to 65535",
        ),
        ("predict m i --out o --overlap 1", "--overlap = 1.0 must be a number from 0 to 0.99"),
        (
            "rank m i --out o --input-height -1",
            "--input-height = -1 must be a whole number from 0 to 65535",
        ),
        ("evaluate m --limit 0", "--limit = 0 must be a whole number of 1 or more"),
        ("rank m i --out o --top -3", "--top = -3 must be a whole number of 1 or more"),
        ("rank m i --out o --diversity inf", "--diversity = inf must be a number of 0 or more"),
        ("demo --steps 0", "--steps = 0 must be a whole number of 1 or more"),
        (
            "data scenes o --count 1000000000000",
            "--count = 1000000000000 must be a whole number of 1 or more",
        ),
        ("data scenes o --height 20", "--height = 20 must be a whole number from 48 to 16000"),
        ("data check folder . --limit -1", "--limit = -1 must be a whole number of 1 or more"),
        ("export m --steps 0", "--steps = 0 must be a whole number from 1 to 1000"),
        ("app m --port 70000", "--port = 70000 must be a whole number from 0 to 65535"),
        ("train demo --steps 0", "--steps = 0 must be a whole number of 1 or more"),
        (
            "train demo --data.crop 60000 70000",
            "--data.crop[1] = 70000 must be a whole number from 32 to 65536",
        ),
        ("train demo --optim.head-lr nan", "--optim.head-lr = nan must be a number of 0 or more"),
        ("train demo --adaptation.keep inf", "--adaptation.keep = inf must be a number from 0 to 1"),
        ("data cache demo --jobs -1", "--jobs = -1 must be a whole number from 0 to 4096"),
    ],
)
def test_numbers_beyond_their_range(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"iccld: error: {message}")
    assert err.count("\n") == 1


def test_the_python_api_and_plans_have_the_same_ranges() -> None:
    with pytest.raises(InputError, match=r"--data\.batch-size = 0 must be a whole number of 1 or more"):
        check_config(
            dataclasses.replace(TrainConfig(), data=dataclasses.replace(TrainConfig().data, batch_size=0))
        )
    with pytest.raises(ValueError, match="batch_size = 0 must be a whole number of 1 or more"):
        with_settings(TrainConfig(), {"data.batch_size": 0})
