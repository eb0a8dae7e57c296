"""Signals that ask a run to stop."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from googlenet_deploy.device.signals import StopSignals


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
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


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
