from __future__ import annotations

import threading

import pytest

from iccld.inference.prefetch import read_ahead


def test_items_come_in_order_with_their_results():
    assert [(item, result()) for item, result in read_ahead(range(7), lambda i: i * i)] == [
        (i, i * i) for i in range(7)
    ]


def test_nothing_to_read():
    assert list(read_ahead([], str)) == []


def test_a_failure_is_raised_where_its_result_is_asked_for():
    def read(item: int) -> int:
        if item == 1:
            raise ValueError("bad item")
        return item

    results = []
    for item, result in read_ahead(range(3), read):
        if item == 1:
            with pytest.raises(ValueError, match="bad item"):
                result()
        else:
            results.append(result())
    assert results == [0, 2]


def test_reads_ahead_but_not_without_bound():
    begun: list[int] = []
    lock = threading.Lock()

    def read(item: int) -> int:
        with lock:
            begun.append(item)
        return item

    stream = read_ahead(range(100), read, num_threads=2)
    for _ in range(3):
        item, result = next(stream)
        result()
        assert len(begun) <= item + 3
    stream.close()
    assert len(begun) <= 5
    assert threading.active_count() == len(
        [t for t in threading.enumerate() if not t.name.startswith("read")]
    )
