"""Values with their intervals, one row each, and ranges between two bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from googlenet_deploy.report.charts.scale import Linear, axis_from, span_around, tick_texts, unit_text
from googlenet_deploy.report.charts.svg import WIDTH, Svg, shortened, text_width

ROW, TOP, BOTTOM, GAP = 34, 20, 36, 10
WIDEST_LABEL = 120


@dataclass(frozen=True)
class Interval:
    """One row: its label, value, both ends, and the class of its mark."""

    label: str
    value: float
    low: float
    high: float
    style: str = "c-main"


def intervals(
    rows: Sequence[Interval],
    unit: str,
    label: str,
    form: Callable[[float], str],
    *,
    mark: float | None = None,
    mark_label: str = "",
) -> str:
    """Dots with whiskers.

    Args:
        rows: Rows from top to bottom.
        unit: Unit of the values.
        label: What the chart shows, for screen readers.
        form: Formats a value.
        mark: A value marked by a dashed line, such as no difference.
        mark_label: Label of that value.
    """
    left = min(WIDEST_LABEL, max(text_width(row.label) for row in rows)) + GAP
    right = WIDTH - 24
    top = TOP + (18 if mark is not None else 0)
    base = top + ROW * len(rows)
    values = [end for row in rows for end in (row.low, row.high)] + ([mark] if mark is not None else [])
    x = Linear(*span_around(values), left + 12, right)
    svg = Svg(base + BOTTOM, label)
    ticks = x.ticks(5)
    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        svg.line((x(tick), top), (x(tick), base), "grid")
        svg.text((x(tick), base + 15), text, "muted", "middle")
    svg.text((right, base + 31), unit, "muted", "end")
    if mark is not None:
        svg.line((x(mark), top - 6), (x(mark), base), "mark")
        svg.text((x(mark), top - 11), mark_label, "muted", "middle")
    for index, row in enumerate(rows):
        middle = top + ROW * (index + 0.5) + 4
        tip = f"{row.label}: {form(row.value)} {unit}, 95 % interval {form(row.low)} to {form(row.high)}"
        svg.text((left - GAP + 4, middle + 4.5), shortened(row.label, left - GAP), "", "end")
        svg.line((x(row.low), middle), (x(row.high), middle), f"whisker {row.style}")
        for end in (row.low, row.high):
            svg.line((x(end), middle - 5), (x(end), middle + 5), f"whisker {row.style}")
        svg.circle((x(row.value), middle), 5.5, row.style, tip)
        svg.text((x(row.value), middle - 9), form(row.value), "halo", "middle")
    return svg.render()


@dataclass(frozen=True)
class Range:
    """One row: from `low` to `high`, each of which is a bound."""

    label: str
    low: float
    high: float
    style: str = "c-main"


def ranges(rows: Sequence[Range], unit: str, label: str, form: Callable[[float], str], ends: tuple[str, str]) -> str:
    """Bars between two bounds, on an axis from 0, or a logarithmic one if values differ tenfold.

    Args:
        rows: Rows from top to bottom.
        unit: Unit of the values.
        label: What the chart shows, for screen readers.
        form: Formats a value.
        ends: Names of the lower and the upper bound, for the tooltips.
    """
    height, right_text = 26, 84
    left = min(WIDEST_LABEL + 40, max(text_width(row.label) for row in rows)) + GAP
    right = WIDTH - right_text
    base = 6 + height * len(rows)
    x = axis_from([end for row in rows for end in (row.low, row.high)], left, right)
    svg = Svg(base + BOTTOM, label)
    ticks = x.ticks(4)
    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        svg.line((x(tick), 6), (x(tick), base), "grid")
        svg.text((x(tick), base + 15), text, "muted", "middle")
    svg.text((right, base + 31), unit_text(unit, x), "muted", "end")
    for index, row in enumerate(rows):
        middle = 6 + height * (index + 0.5)
        tip = f"{row.label}: {ends[0]} {form(row.low)}, {ends[1]} {form(row.high)} {unit}"
        svg.text((left - GAP + 4, middle + 4.5), shortened(row.label, left - GAP), "", "end")
        svg.rectangle((x(row.low), middle - 5), (x(row.high) - x(row.low), 10), f"{row.style} soft", tip)
        svg.circle((x(row.low), middle), 4, row.style, tip)
        svg.circle((x(row.high), middle), 4, f"{row.style} hollow", tip)
        svg.text((x(row.high) + 9, middle + 4.5), f"{form(row.low)}\N{EN DASH}{form(row.high)}", "muted")
    svg.line((left, 6), (left, base), "axis")
    return svg.render()
