"""Signals that ask a run to stop."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from googlenet_deploy.device.signals import SIGNALS, CtrlC, StopSignals, blocked_signals, deferred


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted(number: signal.Signals) -> None:
    with StopSignals() as stop:
        assert not stop.requested()
        os.kill(os.getpid(), number)
        assert stop.requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == number


def test_the_second_ctrl_c_interrupts() -> None:
    with StopSignals():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopSignals():
        pass
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_in_another_thread_nothing_is_handled() -> None:
    seen: list[bool] = []

    def work() -> None:
        with StopSignals() as stop:
            seen.append(stop.requested())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def test_an_event_is_set_and_any_second_signal_can_insist() -> None:
    event = threading.Event()
    with StopSignals(event, insistent=SIGNALS) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert event.is_set()
        assert stop.received is signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_ctrl_c_is_remembered_even_where_a_library_hides_it() -> None:
    with CtrlC() as ctrl_c:
        assert not ctrl_c.pressed
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert ctrl_c.pressed


def test_a_ctrl_c_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with CtrlC() as ctrl_c:
            signal.raise_signal(signal.SIGINT)
            assert not ctrl_c.pressed
    finally:
        signal.signal(signal.SIGINT, before)


def test_blocked_signals_come_after_the_block() -> None:
    with StopSignals() as stop:
        with blocked_signals():
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            assert not stop.requested()
        assert stop.requested()


def test_a_deferred_ctrl_c_lets_the_block_end() -> None:
    done: list[bool] = []

    def press() -> None:
        with deferred():
            signal.raise_signal(signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        press()
    assert done == [True]
