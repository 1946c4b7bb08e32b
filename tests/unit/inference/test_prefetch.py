from __future__ import annotations

import threading

import pytest

from iccld.inference.prefetch import read_ahead, write_behind


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


def test_everything_is_written_before_the_block_ends():
    written: list[int] = []
    with write_behind() as submit:
        for item in range(20):
            submit(lambda item=item: written.append(item))
    assert sorted(written) == list(range(20))


def test_writes_behind_but_not_without_bound():
    release, begun = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        begun.release()
        release.wait()

    with write_behind(num_threads=2) as submit:
        submit(wait)
        submit(wait)
        assert begun.acquire(timeout=60)
        third = threading.Thread(target=submit, args=(wait,))
        third.start()
        third.join(timeout=0.2)
        assert third.is_alive()  # it waits until one of the first two has ended
        release.set()
        third.join()


@pytest.mark.parametrize("count", [1, 5])
def test_a_failed_write_is_raised(count: int):
    def fail() -> None:
        raise OSError("disk full")

    def write() -> None:
        with write_behind(num_threads=1) as submit:
            for _ in range(count):
                submit(fail)

    with pytest.raises(OSError, match="disk full"):
        write()


def test_an_error_of_the_block_is_raised_after_the_writes():
    written: list[int] = []

    def write() -> None:
        with write_behind() as submit:
            submit(lambda: written.append(1))
            raise KeyError("network")

    with pytest.raises(KeyError):
        write()
    assert written == [1]
