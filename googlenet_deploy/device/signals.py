"""Asking a program to stop: the only place that handles signals.

Handlers belong to the main thread; in any other thread everything here does nothing, and Ctrl-C does what it did.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterable, Iterator, Optional

if TYPE_CHECKING:
    from types import FrameType, TracebackType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):  # noqa: N818 - not an error
    """The run stopped because it was asked to, and its state is saved."""


@contextmanager
def handled(numbers: Iterable[int], handler: Any) -> Iterator[None]:  # noqa: ANN401 - what signal.signal takes
    """Sets a handler while the block runs, and what was there before after it.

    Args:
        numbers: The signals.
        handler: Called with the signal and its frame, or ``signal.SIG_DFL``.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class StopSignals:
    """While the context lasts, the first SIGTERM or Ctrl-C is noted, and an insistent second one interrupts at once.

    Args:
        event: Set with the first signal.
        insistent: Which signals interrupt when they come second.

    Attributes:
        received: The signal that was received first; None before.
    """

    def __init__(
        self, event: Optional[threading.Event] = None, insistent: Iterable[signal.Signals] = (signal.SIGINT,)
    ) -> None:
        self.received: Optional[signal.Signals] = None
        self._event, self._insistent = event or threading.Event(), tuple(insistent)
        self._handled = handled(SIGNALS, self._note)

    def __enter__(self) -> StopSignals:
        self._handled.__enter__()
        return self

    def __exit__(self, kind: Optional[type], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self._handled.__exit__(None, None, None)

    def requested(self) -> bool:
        """Whether a signal was received."""
        return self.received is not None

    def _note(self, number: int, _frame: Optional[FrameType]) -> None:
        if self.received is not None and number in self._insistent:
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number)
        self._event.set()


class CtrlC:
    """Notes that Ctrl-C was pressed, since some libraries turn the KeyboardInterrupt into an error of their own.

    Where Ctrl-C is ignored (``nohup``) or handled by somebody else, it stays so.

    Attributes:
        pressed: Whether it was.
    """

    def __init__(self) -> None:
        self.pressed = False
        usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        self._handled = handled((signal.SIGINT,) if usual else (), self._press)

    def __enter__(self) -> CtrlC:
        self._handled.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._handled.__exit__(None, None, None)

    def _press(self, number: int, frame: Optional[FrameType]) -> None:
        self.pressed = True
        signal.default_int_handler(number, frame)


@contextmanager
def cancellation() -> Iterator[threading.Event]:
    """Turns Ctrl-C into an event while the block runs."""
    event = threading.Event()
    with handled((signal.SIGINT,), lambda _number, _frame: event.set()):
        yield event


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
    with handled(() if monitored else (signal.SIGINT,), signal.SIG_DFL):
        yield


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Holds SIGTERM and Ctrl-C back while the block runs; processes that it starts begin with them held back."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals() -> None:
    """In a process that another one ends: leaves SIGTERM and Ctrl-C to that one."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
