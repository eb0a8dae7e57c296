"""Latency distributions: one row per variant, from the shortest to the longest time, with percentiles marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from googlenet_deploy.report.charts.scale import Linear, Log, axis_from, tick_texts, unit_text
from googlenet_deploy.report.charts.svg import WIDTH, Svg, shortened, text_width
from googlenet_deploy.report.text import number

ROW, TOP, BOTTOM, GAP = 44, 10, 36, 10


@dataclass(frozen=True)
class Distribution:
    """One row.

    Attributes:
        label: Text on its left.
        lowest: The shortest time.
        highest: The longest time.
        percentiles: Percentiles by name: "p50" and others.
        style: Class of the marks.
    """

    label: str
    lowest: float
    highest: float
    percentiles: Mapping[str, float]
    style: str = "c-main"


def quantiles(rows: Sequence[Distribution], unit: str, label: str) -> str:
    """Ranges; a thick bar reaches from the median to the 95th percentile.

    A logarithmic axis is used if the longest time is more than ten times the shortest.

    Args:
        rows: Rows from top to bottom.
        unit: Unit of the times.
        label: What the chart shows, for screen readers.
    """
    left = min(130.0, max(text_width(row.label) for row in rows)) + GAP
    right = WIDTH - 18
    x = axis_from([end for row in rows for end in (row.lowest, row.highest)], left, right)
    base = TOP + ROW * len(rows)
    svg = Svg(base + BOTTOM, label)
    ticks = x.ticks()
    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        svg.line((x(tick), TOP), (x(tick), base), "grid")
        svg.text((x(tick), base + 15), text, "muted", "middle")
    svg.text((right, base + 31), unit_text(unit, x), "muted", "end")
    for index, row in enumerate(rows):
        _row(svg, row, x, TOP + ROW * (index + 0.5) + 5, left, unit)
    svg.line((left, TOP), (left, base), "axis")
    return svg.render()


def _row(svg: Svg, row: Distribution, x: Linear | Log, middle: float, left: float, unit: str) -> None:
    svg.text((left - GAP, middle + 4.5), shortened(row.label, left - GAP), "", "end")
    svg.line((x(row.lowest), middle), (x(row.highest), middle), f"whisker {row.style}")
    for name, end in (("shortest", row.lowest), ("longest", row.highest)):
        svg.circle((x(end), middle), 2.5, row.style, f"{row.label}, {name}: {number(end)} {unit}")
    median, p95 = row.percentiles.get("p50"), row.percentiles.get("p95")
    if median is not None and p95 is not None:
        tip = f"{row.label}: half of the runs above {number(median)}, 5 % above {number(p95)} {unit}"
        svg.rectangle((x(median), middle - 7), (max(1.0, x(p95) - x(median)), 14), f"{row.style} soft", tip)
    for name, value in row.percentiles.items():
        svg.line((x(value), middle - 7), (x(value), middle + 7), f"whisker {row.style}")
        svg.rectangle((x(value) - 2, middle - 7), (4, 14), "ghost", f"{row.label}, {name}: {number(value)} {unit}", 0)
    if median is not None:
        svg.text((x(median), middle - 11), f"median {number(median)}", "small", "middle")
