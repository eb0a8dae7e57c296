"""A quantity along the network, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from googlenet_deploy.report.charts.scale import Linear, axis_top, tick_texts
from googlenet_deploy.report.charts.svg import WIDTH, Svg, shortened, text_width

HEIGHT, LEFT, RIGHT, TOP, BASE = 216, 40, WIDTH - 8, 30, 172


def area(values: Sequence[tuple[str, float]], unit: str, label: str, form: Callable[[float], str]) -> str:
    """One column per node in execution order, with the largest marked.

    Args:
        values: (node, value).
        unit: Unit of the values.
        label: What the chart shows, for screen readers.
        form: Formats a value.
    """
    peak = max(range(len(values)), key=lambda index: values[index][1])
    y = Linear(0.0, axis_top(values[peak][1] * 1.05, 4), BASE, TOP)
    step = (RIGHT - LEFT) / len(values)
    svg = Svg(HEIGHT, label)
    ticks = y.ticks(4)
    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        svg.line((LEFT, y(tick)), (RIGHT, y(tick)), "grid")
        svg.text((LEFT - 7, y(tick) + 4.5), text, "muted", "end")
    svg.text((4, 14), unit, "muted")
    for index, (name, value) in enumerate(values):
        corner = (LEFT + index * step, y(value))
        style = "c-strong" if index == peak else "c-main"
        svg.rectangle(corner, (max(0.8, step - 0.5), BASE - y(value)), style, f"{name}: {form(value)} {unit}", 0.0)
    svg.line((LEFT, BASE), (RIGHT, BASE), "axis")
    _landmarks(svg, [name for name, _ in values], step)
    name, value = values[peak]
    note = shortened(f"{form(value)} {unit} at {name}", RIGHT - LEFT)
    middle = LEFT + (peak + 0.5) * step
    half = text_width(note) / 2
    svg.text((min(max(middle, LEFT + half), RIGHT - half), y(value) - 7), note, "", "middle")
    return svg.render()


def _landmarks(svg: Svg, names: Sequence[str], step: float) -> None:
    """Labels the modules along the axis, as many as fit, by the part of a node's name before the first slash."""
    free = float(LEFT)
    modules = [name.partition("/")[0] for name in names]
    for index, module in enumerate(modules):
        if index and module == modules[index - 1]:
            continue
        place, text = LEFT + index * step, module.removeprefix("inception")
        svg.line((place, BASE), (place, BASE + 4), "tick")
        if place >= free and place + text_width(text) <= RIGHT + 4:
            svg.text((place, BASE + 17), text, "small muted")
            free = place + text_width(text) + 8
    svg.text((RIGHT, BASE + 34), "nodes in the order in which they run", "muted", "end")
