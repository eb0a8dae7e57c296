"""Quantities over the epochs of a training run, as lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from googlenet_deploy.report.charts.scale import Linear, axis_top, tick_texts
from googlenet_deploy.report.charts.svg import WIDTH, Svg, text_width

HEIGHT, LEFT, RIGHT, TOP, BASE = 230, 46, WIDTH - 10, 44, 184


@dataclass(frozen=True)
class Line:
    """A quantity per epoch: its name, its style in `style.css`, and its values, none below 0."""

    name: str
    style: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Axes:
    """The positions of epochs and values in a drawing, with the ticks of both."""

    x: Linear
    y: Linear
    epochs: tuple[int, ...]
    levels: tuple[float, ...]


def axes_of(epochs: Sequence[int], lines: Sequence[Line], box: tuple[float, float, float, float]) -> Axes:
    """The axes of lines over `epochs`, values from 0, in a box of (left, top, right, base)."""
    left, top, right, base = box
    x = Linear(float(epochs[0]), float(max(epochs[-1], epochs[0] + 1)), left, right)
    y = Linear(0.0, axis_top(max(max(line.values) for line in lines), 4), base, top)
    whole = tuple(dict.fromkeys(round(tick) for tick in x.ticks(6)))
    return Axes(x, y, tuple(tick for tick in whole if epochs[0] <= tick <= epochs[-1]), tuple(y.ticks(4)))


def lines_chart(
    epochs: Sequence[int], lines: Sequence[Line], unit: str, label: str, form: Callable[[float], str]
) -> str:
    """An SVG element with a line and a dot per epoch for each quantity, and their names above.

    Args:
        epochs: Their numbers, at least one.
        lines: The quantities, a value per epoch each.
        unit: Unit of the values.
        label: What the chart shows, for screen readers.
        form: Formats a value.
    """
    axes = axes_of(epochs, lines, (LEFT, TOP, RIGHT, BASE))
    svg = Svg(HEIGHT, label)
    for level, text in zip(axes.levels, tick_texts(list(axes.levels)), strict=True):
        svg.line((LEFT, axes.y(level)), (RIGHT, axes.y(level)), "grid")
        svg.text((LEFT - 7, axes.y(level) + 4.5), text, "muted", "end")
    for epoch in axes.epochs:
        svg.text((axes.x(epoch), BASE + 17), str(epoch), "muted", "middle")
    svg.line((LEFT, BASE), (RIGHT, BASE), "axis")
    svg.text((4, 30), unit, "muted")
    svg.text((RIGHT, BASE + 36), "epoch", "muted", "end")
    place = float(LEFT)
    for line in lines:
        svg.circle((place + 5, 10), 4, line.style)
        svg.text((place + 14, 14), line.name)
        place += text_width(line.name) + 34
        points = [(axes.x(epoch), axes.y(value)) for epoch, value in zip(epochs, line.values, strict=True)]
        for start, end in pairwise(points):
            svg.line(start, end, line.style)
        for point, epoch, value in zip(points, epochs, line.values, strict=True):
            svg.circle(point, 2.5, line.style, f"{line.name}, epoch {epoch}: {form(value)} {unit}".rstrip())
    return svg.render()
