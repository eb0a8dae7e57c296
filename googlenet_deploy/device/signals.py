"""Stopping a program: the only module that handles signals.

Handlers belong to the main thread; in any other thread everything here does nothing, and Ctrl-C is unchanged.
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
    """The run was stopped on request, and its state is saved."""


@contextmanager
def handled(numbers: Iterable[int], handler: Any) -> Iterator[None]:  # noqa: ANN401 - what signal.signal takes
    """Sets a handler while the block runs, and restores the previous handler afterwards.

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
    """In this context the first SIGTERM or Ctrl-C is only recorded, and an insistent second one interrupts at once.

    Args:
        event: Set with the first signal.
        insistent: The signals that interrupt when they arrive second.

    Attributes:
        received: The first received signal; None before.
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
    """Records that Ctrl-C was pressed, since some libraries turn the KeyboardInterrupt into their own error.

    If Ctrl-C is ignored (``nohup``) or handled elsewhere, that is left unchanged.

    Attributes:
        pressed: Whether Ctrl-C was pressed.
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
    """Raises a Ctrl-C during the block at its end: in a TensorRT callback the exception would be lost.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the block has run to its end.
    """
    with cancellation() as cancelled:
        yield
    if cancelled.is_set():
        raise KeyboardInterrupt


@contextmanager
def interruptible(*, monitored: bool) -> Iterator[None]:
    """Without a progress monitor (TensorRT 8) nothing checks the event, so Ctrl-C ends the process at once.

    Nothing has been written by then.

    Args:
        monitored: Whether a progress monitor checks it.
    """
    with handled(() if monitored else (signal.SIGINT,), signal.SIG_DFL):
        yield


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Blocks SIGTERM and Ctrl-C while the block runs; processes started in it inherit that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals() -> None:
    """Ignores SIGTERM and Ctrl-C in a process that is ended by another process."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
