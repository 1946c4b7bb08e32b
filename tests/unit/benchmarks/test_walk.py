"""``benchmarks/walk.py`` counts files and switches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from iccld.adaptation.losses import segmentation_loss
from iccld.models.networks import LatentDiscriminator

Walk = Callable[[Callable[[], object]], Any]


@pytest.fixture
def walk(monkeypatch: pytest.MonkeyPatch) -> Walk:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    from walk import walk

    return walk


def test_calls_between_files_are_counted_and_those_within_one_are_not(walk: Walk) -> None:
    discriminator = LatentDiscriminator(4, width=16)

    def action() -> None:
        for _ in range(3):
            discriminator(torch.zeros(1, 4, 8, 8), torch.zeros(1))

    files, calls = walk(action)
    assert files == ["models/networks.py", "models/layers.py"]
    assert list(calls.items()) == [(("models/networks.py", "models/layers.py", "TimeEmbedding.forward"), 3)]


def test_library_functions_in_between_are_left_aside(walk: Walk) -> None:
    """torch calls the hook; its caller is the module's."""

    def hook(*_: object) -> None:
        segmentation_loss(torch.zeros(1, 2, 8, 8), torch.zeros(1, 16, 16, dtype=torch.long))

    layer = torch.nn.Identity()
    layer.register_forward_hook(hook)
    files, calls = walk(lambda: layer(torch.zeros(1)))
    assert files == ["adaptation/losses.py"]
    assert not calls
