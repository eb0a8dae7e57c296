"""The absolute values of an activation on a logarithmic scale, with the threshold beyond which they are clipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from googlenet_deploy.report.charts.scale import Linear, Log
from googlenet_deploy.report.charts.svg import Svg
from googlenet_deploy.report.text import number

WIDE, HIGH = 240, 118
LEFT, RIGHT, TOP, BASE = 8, 232, 18, 92


def histogram(counts: Sequence[int], width: float, chosen: float, others: Mapping[str, float], label: str) -> str:
    """A small chart, to be placed side by side with others.

    Args:
        counts: Values per bin, from 0 up.
        width: Width of a bin.
        chosen: The threshold that is used.
        others: Thresholds of other methods, by name.
        label: What the chart shows, for screen readers.
    """
    end = max(len(counts) * width, chosen, *others.values()) if others else max(len(counts) * width, chosen)
    x = Linear(0.0, end, LEFT, RIGHT)
    y = Log(0.5, max(1.0, *map(float, counts)), BASE, TOP)
    svg = Svg(HIGH, label, WIDE)
    for index, amount in enumerate(counts):
        if amount:
            start, stop = x(index * width), x((index + 1) * width)
            style = "c-clipped" if index * width >= chosen else "c-main"
            tip = f"{number(index * width)} to {number((index + 1) * width)}: {amount:,} values"
            size = (max(0.6, stop - start - 0.4), BASE - y(amount))
            svg.rectangle((start, y(amount)), size, style, tip, 0.0)
    svg.line((LEFT, BASE), (RIGHT, BASE), "axis")
    for name, value in others.items():
        svg.line((x(value), BASE), (x(value), BASE + 5), "tick")
        svg.rectangle((x(value) - 3, BASE - 4), (6, 12), "ghost", f"{name}: {number(value)}", 0.0)
    svg.line((x(chosen), TOP - 6), (x(chosen), BASE), "mark strong")
    near_end = x(chosen) > (LEFT + RIGHT) / 2
    anchor = "end" if near_end else "start"
    svg.text((x(chosen) + (-4 if near_end else 4), TOP - 7), f"clip at {number(chosen)}", "small", anchor)
    svg.text((LEFT, BASE + 18), "0", "small muted")
    svg.text((RIGHT, BASE + 18), number(end), "small muted", "end")
    return svg.render()
