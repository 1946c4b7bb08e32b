from __future__ import annotations

import signal
import threading

import pytest

from iccld.exits import Terminated
from iccld.training.interruption import Interruption

pytestmark = pytest.mark.signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_asks(number: signal.Signals) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with Interruption() as interruption:
        assert not interruption.signal
        signal.raise_signal(number)
        assert interruption.signal
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.0, 11.5])
    monkeypatch.setattr("iccld.training.interruption.time.monotonic", lambda: next(clock))
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    def interrupt_twice() -> None:
        with Interruption():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_signals_of_one_event_are_one() -> None:
    with Interruption() as interruption:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert interruption.signal == signal.SIGTERM


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
@pytest.mark.parametrize("early", [True, False])
def test_a_signal_ends_a_wait(number: signal.Signals, kind: type[BaseException], early: bool) -> None:
    def wait(interruption: Interruption) -> None:
        with interruption.raising():
            if not early:
                signal.raise_signal(number)
            pytest.fail("the wait went on")

    with Interruption() as interruption:
        if early:
            signal.raise_signal(number)
        with pytest.raises(kind):
            wait(interruption)
        assert interruption.signal == number


def test_threads_have_no_signals() -> None:
    def work() -> None:
        with Interruption() as interruption, interruption.raising():
            seen.append(interruption.signal)

    seen: list[int] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0]
