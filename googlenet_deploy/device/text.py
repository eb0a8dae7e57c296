"""Numbers and columns for a terminal."""

from __future__ import annotations

from typing import Any, List, Sequence


def columns(rows: Sequence[Sequence[str]], words: int = 1) -> List[str]:
    """Rows as lines: the first `words` cells of each to the left, the others to the right; empty for no rows."""
    if not rows:
        return []
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if index < words else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def number(value: float) -> str:
    """Four significant digits, without an exponent."""
    size = abs(value)
    places = 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
    return f"{value:.{places}f}" if size >= 0.01 or value == 0 else f"{value:.5f}"


def megabytes(size: Any) -> str:  # noqa: ANN401 - from JSON
    """Bytes as megabytes; "?" for None."""
    return "?" if size is None else f"{size / 1e6:.1f} MB"


def one_line(error: BaseException) -> str:
    """A library's error on one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
