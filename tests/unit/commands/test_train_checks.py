"""The batch of a rank follows from the global batch."""

from __future__ import annotations

import pytest

from iccld.commands.train_checks import with_rank_batch
from iccld.config import TrainConfig, with_settings
from iccld.errors import InputError


@pytest.mark.parametrize(("ranks", "accumulation", "batch"), [(1, 1, 12), (2, 1, 6), (2, 3, 2), (12, 1, 1)])
def test_the_global_batch_is_divided(
    ranks: int, accumulation: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    config = with_settings(TrainConfig(), {"data.global_batch": 12, "optim.accumulation": accumulation})
    assert with_rank_batch(config).data.batch_size == batch


@pytest.mark.parametrize(("total", "ranks"), [(12, 5), (1, 2)])
def test_a_batch_that_cannot_be_divided_is_refused(
    total: int, ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    config = with_settings(TrainConfig(), {"data.global_batch": total})
    with pytest.raises(InputError, match=rf"--data.global-batch {total}: cannot be divided by {ranks} "):
        with_rank_batch(config)


def test_without_a_global_batch_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "7")
    assert with_rank_batch(TrainConfig()) == TrainConfig()
