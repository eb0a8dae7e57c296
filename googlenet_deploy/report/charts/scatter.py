"""Variants by what they cost and what they are worth, with the frontier of those that no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from googlenet_deploy.report.charts.scale import Linear, axis_top, span_around
from googlenet_deploy.report.charts.svg import WIDTH, Svg, text_width
from googlenet_deploy.report.text import number

HEIGHT, LEFT, RIGHT, TOP, BASE = 300, 54, WIDTH - 26, 26, 246
SMALLEST, LARGEST = 5.0, 15.0


@dataclass(frozen=True)
class Point:
    """One variant.

    Attributes:
        label: Its name.
        cost: To the right: more is worse.
        worth: Upward: more is better.
        low: Lower end of the worth's interval.
        high: Upper end.
        area: What the circle's area stands for; None for a plain dot.
        style: Class of the mark.
        tip: Shown when it is pointed at.
    """

    label: str
    cost: float
    worth: float
    low: float
    high: float
    area: float | None = None
    style: str = "c-main"
    tip: str = ""


def scatter(points: Sequence[Point], cost: str, worth: str, label: str) -> str:
    """The chart.

    Args:
        points: The variants.
        cost: Title of the horizontal axis.
        worth: Title of the vertical axis.
        label: What the chart shows, for screen readers.
    """
    x = Linear(0.0, axis_top(max(point.cost for point in points) * 1.1), LEFT, RIGHT)
    y = Linear(*span_around([end for point in points for end in (point.low, point.high)]), BASE, TOP)
    svg = Svg(HEIGHT, label)
    for tick in x.ticks(5):
        svg.line((x(tick), TOP), (x(tick), BASE), "grid")
        svg.text((x(tick), BASE + 16), number(tick), "muted", "middle")
    for tick in y.ticks(4):
        svg.line((LEFT, y(tick)), (RIGHT, y(tick)), "grid")
        svg.text((LEFT - 7, y(tick) + 4.5), number(tick, 4), "muted", "end")
    svg.text((RIGHT, BASE + 38), cost, "muted", "end")
    svg.text((6, 13), worth, "muted")
    frontier = pareto(points)
    if len(frontier) > 1:
        svg.path([(x(point.cost), y(point.worth)) for point in frontier], "frontier")
    largest = max((point.area for point in points if point.area), default=0.0)
    for point in points:
        radius = SMALLEST if not point.area else max(SMALLEST, LARGEST * (point.area / largest) ** 0.5)
        _point(svg, point, (x(point.cost), y(point.worth)), (y(point.low), y(point.high)), radius)
    return svg.render()


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in cost and worth, by cost."""
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each.cost, -each.worth)):
        if not best or point.worth > best[-1].worth:
            best.append(point)
    return best


def _point(svg: Svg, point: Point, place: tuple[float, float], ends: tuple[float, float], radius: float) -> None:
    svg.line((place[0], ends[0]), (place[0], ends[1]), f"whisker {point.style}")
    svg.circle(place, radius, f"{point.style} bubble", point.tip or point.label)
    room = WIDTH - place[0] - radius - 6
    to_left = text_width(point.label) > room
    at = (place[0] - radius - 5, place[1] + 4.5) if to_left else (place[0] + radius + 5, place[1] + 4.5)
    svg.text(at, point.label, "strong", "end" if to_left else "start")
