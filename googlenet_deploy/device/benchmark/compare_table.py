"""A comparison as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Sequence

from googlenet_deploy.device.text import columns, number

if TYPE_CHECKING:
    from googlenet_deploy.device.benchmark.compare import Comparison


def comparison_lines(comparison: Comparison, first: str, second: str) -> List[str]:
    """The comparison as text for a terminal."""
    lines = [f"A: {first}", f"B: {second}", ""]
    current = ""
    rows: List[Sequence[str]] = []
    for row in comparison.rows:
        if row.configuration != current:
            lines += columns(rows)
            rows = [(row.configuration, "A", "B", "B/A", "95 % interval", "")]
            current = row.configuration
        between = "" if row.interval is None else f"{row.interval[0]:.3f} to {row.interval[1]:.3f}"
        rows.append(
            (
                f"  {row.figure}, {row.unit}",
                number(row.first),
                number(row.second),
                f"{row.ratio:.3f}",
                between,
                row.verdict,
            )
        )
    lines += columns(rows)
    lines += [f"left out: {text}" for text in comparison.left_out]
    return [*lines, *(f"warning: {text}" for text in comparison.warnings)]
