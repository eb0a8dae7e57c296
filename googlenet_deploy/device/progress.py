"""Progress of long work: a bar on a terminal where rich is installed, plain lines elsewhere, on stderr."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import Callable, Iterator, Optional

Advance = Callable[[int], None]

SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress(label: str, total: Optional[int] = None, *, quiet: bool = False) -> Iterator[Advance]:
    """Shows how far some work has come.

    For example::

        with progress("calibrate", len(paths)) as advance:
            for path in paths:
                ...
                advance(1)

    Args:
        label: What is being done.
        total: Units of work in all; None where that is not known.
        quiet: Show nothing.
    """
    if quiet:
        yield _ignore
    elif sys.stderr.isatty() and _has_rich():
        with _rich_bar(label, total) as advance:
            yield advance
    else:
        lines = _PlainLines(label, total)
        yield lines.advance
        lines.finish()


def _ignore(_count: int) -> None:
    pass


def _has_rich() -> bool:
    try:
        import rich.progress  # noqa: F401, PLC0415 - optional, and slow to import
    except ImportError:
        return False
    return True


@contextmanager
def _rich_bar(label: str, total: Optional[int]) -> Iterator[Advance]:
    from rich.console import Console  # noqa: PLC0415 - optional, and slow to import
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)


class _PlainLines:
    """A line every few seconds, so that a log stays short; none at all for work that is over before the first."""

    def __init__(self, label: str, total: Optional[int]) -> None:
        self.label, self.total, self.done = label, total, 0
        self.last = time.monotonic()
        self.shown: Optional[int] = None

    def advance(self, count: int) -> None:
        self.done += count
        if time.monotonic() - self.last >= SECONDS_BETWEEN_LINES:
            self._print()

    def finish(self) -> None:
        if self.shown not in (None, self.done):
            self._print()

    def _print(self) -> None:
        of_total = f"/{self.total}" if self.total else ""
        print(f"{self.label}: {self.done}{of_total}", file=sys.stderr, flush=True)
        self.last, self.shown = time.monotonic(), self.done
