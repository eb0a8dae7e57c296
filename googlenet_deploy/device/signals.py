"""Asking a run to stop: SIGTERM and Ctrl-C let the step that is being computed finish, and its state be saved."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator

if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any


SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):  # noqa: N818 - not an error
    """The run stopped because it was asked to, and its state is saved."""


class StopSignals:
    """While the context lasts, the first SIGTERM or Ctrl-C is noted, and a second Ctrl-C interrupts at once.

    Attributes:
        received: The signal that was received first; None before.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # only there may handlers be set
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def requested(self) -> bool:
        """Whether a signal was received."""
        return self.received is not None

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number)


@contextmanager
def cancellation() -> Iterator[threading.Event]:
    """Turns Ctrl-C into an event while the block runs."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    previous = signal.signal(signal.SIGINT, lambda _number, _frame: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def deferred() -> Iterator[None]:
    """Raises a Ctrl-C of the block at its end: in a call back from TensorRT the exception would be swallowed.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the block has run to its end.
    """
    with cancellation() as cancelled:
        yield
    if cancelled.is_set():
        raise KeyboardInterrupt


@contextmanager
def interruptible(*, monitored: bool) -> Iterator[None]:
    """Without a progress monitor (TensorRT 8) nothing asks for the event, so Ctrl-C ends the process at once.

    Nothing has been written by then.

    Args:
        monitored: Whether a progress monitor asks for it.
    """
    if monitored or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
