"""Variants by cost and worth, with the Pareto frontier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from googlenet_deploy.report.charts.scale import Linear, axis_from, axis_top, span_around, tick_texts, unit_text
from googlenet_deploy.report.charts.svg import WIDTH, Svg, text_width

HEIGHT, LEFT, RIGHT, TOP, BASE = 276, 46, WIDTH - 22, 26, 224
SMALLEST, LARGEST = 5.0, 15.0


@dataclass(frozen=True)
class Point:
    """One variant.

    Attributes:
        label: Its name.
        cost: Horizontal value: more is worse.
        worth: Vertical value: more is better.
        low: Lower end of the worth's interval.
        high: Upper end.
        area: The quantity shown as the circle's area; None for a plain dot.
        style: Class of the mark.
        tip: Tooltip.
    """

    label: str
    cost: float
    worth: float
    low: float
    high: float
    area: float | None = None
    style: str = "c-main"
    tip: str = ""


class Circle(NamedTuple):
    """A circle's centre and radius, in units of the drawing."""

    x: float
    y: float
    radius: float


def scatter(points: Sequence[Point], cost: str, worth: str, label: str) -> str:
    """The chart.

    Args:
        points: The variants.
        cost: Title of the horizontal axis.
        worth: Title of the vertical axis.
        label: What the chart shows, for screen readers.
    """
    costs = [point.cost for point in points]
    x = axis_from(costs, LEFT, RIGHT, axis_top(max(costs) * 1.1))
    y = Linear(*span_around([end for point in points for end in (point.low, point.high)]), BASE, TOP)
    svg = Svg(HEIGHT, label)
    for tick, text in _labelled(x.ticks(5)):
        svg.line((x(tick), TOP), (x(tick), BASE), "grid")
        svg.text((x(tick), BASE + 16), text, "muted", "middle")
    for tick, text in _labelled(y.ticks(4)):
        svg.line((LEFT, y(tick)), (RIGHT, y(tick)), "grid")
        svg.text((LEFT - 7, y(tick) + 4.5), text, "muted", "end")
    svg.text((RIGHT, BASE + 38), unit_text(cost, x), "muted", "end")
    svg.text((6, 13), worth, "muted")
    frontier = pareto(points)
    if len(frontier) > 1:
        svg.path([(x(point.cost), y(point.worth)) for point in frontier], "frontier")
    largest = max((point.area for point in points if point.area), default=0.0)
    circles = [
        Circle(x(point.cost), y(point.worth), SMALLEST if not point.area else _radius(point.area / largest))
        for point in points
    ]
    for point, circle in zip(points, circles, strict=True):
        svg.line((circle.x, y(point.low)), (circle.x, y(point.high)), f"whisker {point.style}")
        svg.circle((circle.x, circle.y), circle.radius, f"{point.style} bubble", point.tip or point.label)
    for point, (place, anchor) in zip(points, label_places([point.label for point in points], circles), strict=True):
        svg.text(place, point.label, "strong", anchor)
    return svg.render()


def label_places(labels: Sequence[str], circles: Sequence[Circle]) -> list[tuple[tuple[float, float], str]]:
    """The position and anchor of each label: right, left, above or below its circle, whichever is free first."""
    taken = [(c.x - c.radius, c.y - c.radius, c.x + c.radius, c.y + c.radius) for c in circles]
    places = []
    for label, circle in zip(labels, circles, strict=True):
        width, gap = text_width(label), circle.radius + 6
        boxes = [
            ((circle.x + gap, circle.y + 4.5), "start", circle.x + gap, circle.y - 8),
            ((circle.x - gap, circle.y + 4.5), "end", circle.x - gap - width, circle.y - 8),
            ((circle.x, circle.y - gap - 2), "middle", circle.x - width / 2, circle.y - gap - 14),
            ((circle.x, circle.y + gap + 10), "middle", circle.x - width / 2, circle.y + gap - 2),
        ]
        free = [box for box in boxes if _is_free((box[2], box[3], box[2] + width, box[3] + 16), taken)]
        place, anchor, left, top = (free or boxes)[0]
        taken.append((left, top, left + width, top + 16))
        places.append((place, anchor))
    return places


def _is_free(box: tuple[float, float, float, float], taken: Sequence[tuple[float, float, float, float]]) -> bool:
    inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= BASE
    return inside and not any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken
    )


def _labelled(ticks: list[float]) -> list[tuple[float, str]]:
    return list(zip(ticks, tick_texts(ticks), strict=True))


def _radius(share: float) -> float:
    """The radius of a circle whose area represents the quantity."""
    return float(max(SMALLEST, LARGEST * share**0.5))


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other point beats in both cost and worth, sorted by cost."""
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each.cost, -each.worth)):
        if not best or point.worth > best[-1].worth:
            best.append(point)
    return best
