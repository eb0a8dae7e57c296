"""Horizontal bars with labels on their left: one row per layer, step or mode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from googlenet_deploy.report.charts.scale import Linear, Log, axis_from, axis_top, tick_texts, unit_text
from googlenet_deploy.report.charts.svg import WIDTH, Svg, shortened, text_width
from googlenet_deploy.report.text import number

ROW, TOP, BOTTOM, GAP = 20, 6, 34, 8
WIDEST_LABEL = 186
DECIBELS = "dB"  # logarithmic by themselves


@dataclass(frozen=True)
class Bar:
    """One row.

    Attributes:
        label: Text on its left.
        value: Length, at least 0.
        style: Class of the bar.
        note: Text after the bar; the value if empty.
    """

    label: str
    value: float
    style: str = "c-main"
    note: str = ""

    @property
    def text(self) -> str:
        """The text after the bar."""
        return self.note or number(self.value)


def bars(rows: Sequence[Bar], unit: str, label: str, columns: int = 1) -> tuple[str, ...]:
    """Bars from 0, in one drawing or split over several of the same scale; logarithmic if values differ tenfold.

    Args:
        rows: Rows from top to bottom, continuing in the next drawing.
        unit: Unit of the values, shown at the axis.
        label: What the chart shows, for screen readers.
        columns: Number of drawings.
    """
    left = min(WIDEST_LABEL, max(text_width(row.label) for row in rows)) + GAP
    right = WIDTH - max(text_width(row.text) for row in rows) - GAP
    values = [row.value for row in rows]
    linear = Linear(0.0, axis_top(max(values)), left, right)
    x = linear if unit.startswith(DECIBELS) else axis_from(values, left, right, linear.high)
    size = math.ceil(len(rows) / columns)
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    names = [label] if len(parts) == 1 else [f"{label} ({index} of {len(parts)})" for index in range(1, len(parts) + 1)]
    return tuple(_drawing(part, size, unit, name, x) for part, name in zip(parts, names, strict=True))


def _drawing(rows: Sequence[Bar], room: int, unit: str, label: str, x: Linear | Log) -> str:
    base = TOP + ROW * room
    svg = Svg(base + BOTTOM, label)
    ticks = x.ticks(5)
    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        svg.line((x(tick), TOP), (x(tick), base), "grid")
        svg.text((x(tick), base + 15), text, "muted", "middle")
    svg.text((x.end, base + 30), unit_text(unit, x), "muted", "end")
    for index, row in enumerate(rows):
        middle = TOP + ROW * (index + 0.5)
        svg.text((x.start - GAP, middle + 4.5), shortened(row.label, x.start - GAP), "", "end")
        tip = f"{row.label}: {row.text} {unit}"
        svg.rectangle((x.start, middle - 6.5), (max(0.0, x(row.value) - x.start), 13), row.style, tip)
        svg.text((x(row.value) + 5, middle + 4.5), row.text, "muted")
    svg.line((x.start, TOP), (x.start, base), "axis")
    return svg.render()
