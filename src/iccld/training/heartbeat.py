"""Ends a run on several nodes if a node is lost. Without this, the other nodes would wait for up to half an hour."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from iccld.exits import EXIT_FAILED

_EVERY = 3.0
_CONNECTION_SECONDS = 30.0
_PATIENCE = 40.0
"""Seconds without a sign of life after which a rank counts as lost."""


class Heartbeat(AbstractContextManager[None]):
    """Exchanges signs of life between ranks while a context is active, through the store of ``torchrun``.

    Each rank counts up a number in the store and reads those of all other ranks. If a number stands still, or the store
    cannot be reached, the process ends with a line on stderr. A rank that leaves the context normally is not missed.

    Args:
        rank: Rank of this process.
        world_size: Number of ranks. If all of them are on this node, nothing is exchanged, because ``torchrun`` ends
            the ranks of a node together.
        end: Function that ends the process. It is called in a thread, because the main thread may wait for other ranks.
    """

    def __init__(self, rank: int, world_size: int, *, end: Callable[[str], None] | None = None) -> None:
        self.rank, self.world_size, self._end = rank, world_size, end or _end_process
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._seen: dict[int, tuple[bytes, float]] = {}

    def __enter__(self) -> None:
        if self.world_size > int(os.environ.get("LOCAL_WORLD_SIZE", "1")):
            now = time.monotonic()
            self._seen = {rank: (b"", now) for rank in range(self.world_size) if rank != self.rank}
            works = (self._exchange, self._watch)
            self._threads = [threading.Thread(target=work, name="heartbeat", daemon=True) for work in works]
            for thread in self._threads:
                thread.start()

    def __exit__(self, *error: Any) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_EVERY)  # a thread whose connection is lost may not end

    def _exchange(self) -> None:
        """Reads and writes the store. A call may hang if the connection is lost, so another thread watches the time."""
        try:
            host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = TCPStore(
                host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=30)
            )
            count = 0
            while not self._stop.wait(_EVERY):
                count += 1
                store.set(f"iccld/beat/{self.rank}", str(count))
                for rank, (before, _) in self._seen.items():
                    key = f"iccld/beat/{rank}"
                    value = store.get(key) if store.check([key]) else b""
                    if value != before or value == b"end":
                        self._seen[rank] = value, time.monotonic()
            store.set(f"iccld/beat/{self.rank}", "end")
        except RuntimeError:  # the store is lost; the other thread ends the process
            return

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            silent = {rank: time.monotonic() - seen for rank, (_, seen) in self._seen.items()}
            rank = max(silent, key=lambda rank: silent[rank])
            if silent[rank] > _PATIENCE and not self._stop.is_set():
                self._end(
                    f"rank {rank} has given no sign of life for {_PATIENCE:.0f} s; its node or the network is lost. "
                    "The same command on all nodes continues from the last checkpoint"
                )
                return


def _end_process(message: str) -> None:
    print(f"iccld: error: {message}", file=sys.stderr, flush=True)
    os._exit(EXIT_FAILED)  # the main thread waits in a collective operation and cannot be interrupted
