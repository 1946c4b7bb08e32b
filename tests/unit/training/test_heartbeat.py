"""Signs of life between nodes, with a store in this process."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from iccld.training import heartbeat
from iccld.training.heartbeat import Heartbeat


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> TCPStore:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=5))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setattr(heartbeat, "_EVERY", 0.01)
    monkeypatch.setattr(heartbeat, "_PATIENCE", 0.8)
    return store


class Ended:
    """Collects the messages with which a process would end."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.event = threading.Event()

    def __call__(self, message: str) -> None:
        self.messages.append(message)
        self.event.set()


@pytest.mark.usefixtures("store")
def test_ranks_that_live_or_end_normally_are_not_missed() -> None:
    ended = [Ended(), Ended(), Ended()]
    first, second, third = (Heartbeat(rank, 3, end=ended[rank]) for rank in range(3))
    with first, third:
        with second:
            pass
        assert not ended[0].event.wait(1.7), ended[0].messages  # more than twice the patience


def test_a_silent_rank_ends_the_others(store: TCPStore) -> None:
    ended = Ended()
    with Heartbeat(0, 2, end=ended):
        store.set("iccld/beat/1", "7")  # one sign of life, and then no other
        assert ended.event.wait(30)
    assert len(ended.messages) == 1
    assert "rank 1 has given no sign of life" in ended.messages[0]


def test_a_lost_store_ends_the_process(monkeypatch: pytest.MonkeyPatch, store: TCPStore) -> None:
    def lost(*args: object, **options: object) -> None:
        raise RuntimeError("the connection was closed")

    monkeypatch.setattr(heartbeat, "TCPStore", lost)
    ended = Ended()
    with Heartbeat(0, 2, end=ended):
        assert ended.event.wait(30)


def test_ranks_of_one_node_exchange_nothing(store: TCPStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    ended = Ended()
    with Heartbeat(0, 2, end=ended):
        assert not ended.event.wait(1.0)
    assert not store.check(["iccld/beat/0"])
