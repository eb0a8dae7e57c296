"""Horizontal bars with their labels beside them: one row per layer, step or mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from googlenet_deploy.report.charts.scale import Linear, axis_top
from googlenet_deploy.report.charts.svg import WIDTH, Svg, shortened, text_width
from googlenet_deploy.report.text import number

ROW, TOP, BOTTOM, GAP = 20, 6, 34, 8
WIDEST_LABEL = 190


@dataclass(frozen=True)
class Bar:
    """One row.

    Attributes:
        label: On its left.
        value: Length, at least 0.
        style: Class of the bar.
        note: Behind the bar; the value where empty.
    """

    label: str
    value: float
    style: str = "c-main"
    note: str = ""


def bars(rows: Sequence[Bar], unit: str, label: str, *, mark: float | None = None, mark_label: str = "") -> str:
    """Bars from 0.

    Args:
        rows: From top to bottom.
        unit: Of the values, written at the axis.
        label: What the chart shows, for screen readers.
        mark: A value at which a dashed line stands.
        mark_label: What that value is.
    """
    notes = [row.note or number(row.value) for row in rows]
    left = min(WIDEST_LABEL, max(text_width(row.label) for row in rows)) + GAP
    right = WIDTH - max(map(text_width, notes)) - GAP
    top = TOP + (16 if mark is not None else 0)
    height = top + ROW * len(rows) + BOTTOM
    largest = max(row.value for row in rows)
    x = Linear(0.0, axis_top(max(largest, mark or 0.0), 4), left, right)
    svg = Svg(height, label)
    base = top + ROW * len(rows)
    for tick in x.ticks(4):
        svg.line((x(tick), top), (x(tick), base), "grid")
        svg.text((x(tick), base + 15), number(tick), "muted", "middle")
    svg.text((right, base + 30), unit, "muted", "end")
    for index, (row, note) in enumerate(zip(rows, notes, strict=True)):
        middle = top + ROW * (index + 0.5)
        svg.text((left - GAP, middle + 4.5), shortened(row.label, left - GAP), "", "end")
        tip = f"{row.label}: {note} {unit}"
        svg.rectangle((left, middle - 6.5), (x(row.value) - left, 13), row.style, tip)
        svg.text((x(row.value) + 5, middle + 4.5), note, "muted")
    svg.line((left, top), (left, base), "axis")
    if mark is not None:
        svg.line((x(mark), top - 4), (x(mark), base), "mark")
        svg.text((x(mark), top - 8), mark_label, "muted", "middle")
    return svg.render()
