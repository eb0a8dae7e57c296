"""Ctrl-C while TensorRT works: an exception must not cross its C++ frames."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import Iterator


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
