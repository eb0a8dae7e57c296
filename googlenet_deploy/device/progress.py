"""Progress of long work on stderr: a bar on a terminal if rich is installed, otherwise plain lines."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import Iterator, Optional, Protocol

SECONDS_BETWEEN_LINES = 5.0


class Advance(Protocol):
    """The callback that reports completed work."""

    def __call__(self, count: int, note: str = "") -> None:
        """Reports `count` more completed units; `note`, such as a rate, is shown after the number."""


@contextmanager
def progress(label: str, total: Optional[int] = None, *, quiet: bool = False) -> Iterator[Advance]:
    """Shows how far some work has come.

    For example::

        with progress("calibrate", len(paths)) as advance:
            for path in paths:
                ...
                advance(1)

    Args:
        label: Name of the work.
        total: Total units of work; None if unknown.
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


def _ignore(count: int, note: str = "") -> None:
    del count, note


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

    note_column = TextColumn("{task.fields[note]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note_column)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, note="")

        def advance(count: int, note: str = "") -> None:
            bar.update(task, advance=count, note=note)

        yield advance


class _PlainLines:
    """Prints a line every few seconds, so that a log stays short; nothing for work that finishes before the first."""

    def __init__(self, label: str, total: Optional[int]) -> None:
        self.label, self.total, self.done, self.note = label, total, 0, ""
        self.start = self.last = time.monotonic()
        self.shown: Optional[int] = None

    def advance(self, count: int, note: str = "") -> None:
        self.done, self.note = self.done + count, note
        if time.monotonic() - self.last >= SECONDS_BETWEEN_LINES:
            self._print()

    def finish(self) -> None:
        if self.shown not in (None, self.done):
            self._print()

    def _print(self) -> None:
        of_total = f"/{self.total}" if self.total else ""
        note = f"  {self.note}" if self.note else ""
        print(f"{self.label}: {self.done}{of_total}{note}{self._left()}", file=sys.stderr, flush=True)
        self.last, self.shown = time.monotonic(), self.done

    def _left(self) -> str:
        if not self.total or not 0 < self.done < self.total:
            return ""
        seconds = int((time.monotonic() - self.start) / self.done * (self.total - self.done))
        return f"  {seconds // 60}:{seconds % 60:02d} left"
