"""Charts: well-formed, within their frame, and true to the numbers."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.report.charts.area import area
from googlenet_deploy.report.charts.bars import Bar, bars
from googlenet_deploy.report.charts.histogram import histogram
from googlenet_deploy.report.charts.intervals import Interval, Range, intervals, ranges
from googlenet_deploy.report.charts.quantiles import Distribution, quantiles
from googlenet_deploy.report.charts.scale import (
    Linear,
    Log,
    axis_from,
    axis_top,
    round_step,
    span_around,
    tick_texts,
    unit_text,
)
from googlenet_deploy.report.charts.scatter import Circle, Point, label_places, pareto, scatter
from googlenet_deploy.report.charts.svg import Svg, shortened, text_width
from googlenet_deploy.report.text import fixed, number

POSITIVE = st.floats(1e-3, 1e6)


def parsed(svg: str) -> ET.Element:
    """The drawing as XML; every coordinate lies within the frame but for labels that end near it."""
    root = ET.fromstring(svg)
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"]
    for element in root.iter():
        x = [float(element.attrib[key]) for key in ("x", "x1", "x2", "cx") if key in element.attrib]
        y = [float(element.attrib[key]) for key in ("y", "y1", "y2", "cy") if key in element.attrib]
        assert all(-12 <= value <= width + 12 for value in x), element.attrib
        assert all(-4 <= value <= height + 4 for value in y), element.attrib
        for key in ("width", "height", "r"):
            assert float(element.attrib.get(key, 0)) >= 0
    return root


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter("text")]


def of_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [element for element in root.iter() if name in element.attrib.get("class", "").split()]


@given(st.lists(POSITIVE, min_size=1, max_size=40), st.integers(1, 3))
def test_bars_are_as_long_as_their_values(values: list[float], columns: int) -> None:
    drawings = [parsed(svg) for svg in bars([Bar(f"row {i}", v) for i, v in enumerate(values)], "ms", "bars", columns)]
    assert len(drawings) <= columns
    lengths = [float(rect.attrib["width"]) for root in drawings for rect in of_class(root, "c-main")]
    largest, smallest = max(values), min((value for value in values if value > 0), default=1.0)
    logarithmic = largest > 10 * smallest
    assert ("ms, logarithmic" in texts(drawings[0])) == logarithmic
    for value, length in zip(values, lengths, strict=True):
        if logarithmic:  # from two thirds of the smallest value above 0
            share = math.log(max(value, smallest / 1.5) / (smallest / 1.5)) / math.log(largest / (smallest / 1.5))
        else:
            share = value / largest
        assert length / max(lengths) == pytest.approx(share, abs=0.02)


def test_rows_have_their_label_note_and_tip() -> None:
    (svg,) = bars([Bar("a <b>", 2.0, "c-bad", "two & more")], "s", 'say "hi"')
    root = parsed(svg)
    assert {"a <b>", "two & more", "s"} <= set(texts(root))
    assert of_class(root, "c-bad")[0].find("title").text == "a <b>: two & more s"  # type: ignore[union-attr]
    assert root.attrib["aria-label"] == 'say "hi"'


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0, 20), st.floats(0, 20)), min_size=1, max_size=6))
def test_dots_lie_between_their_whiskers(rows: list[tuple[float, float, float]]) -> None:
    data = [Interval(f"m{i}", value, value - low, value + high) for i, (value, low, high) in enumerate(rows)]
    root = parsed(intervals(data, "%", "intervals", fixed, mark=0.0, mark_label="none"))
    dots = [float(circle.attrib["cx"]) for circle in root.iter("circle")]
    lines = [line for line in of_class(root, "whisker") if line.attrib["y1"] == line.attrib["y2"]]
    for dot, line in zip(dots, lines, strict=True):
        assert float(line.attrib["x1"]) - 0.02 <= dot <= float(line.attrib["x2"]) + 0.02
    assert len(of_class(root, "mark")) == 1


def test_ranges_reach_from_floor_to_roofline() -> None:
    root = parsed(ranges([Range("7W", 1.0, 2.0), Range("15W", 0.5, 4.0)], "ms", "r", number, ("floor", "roofline")))
    first, second = of_class(root, "soft")
    assert float(second.attrib["width"]) == pytest.approx(3.5 * float(first.attrib["width"]), rel=0.01)
    assert "7W: floor 1.00, roofline 2.00 ms" in ET.tostring(root, encoding="unicode")


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=64), st.floats(0.1, 1.2))
def test_histograms_colour_what_is_clipped(counts: list[int], share: float) -> None:
    chosen = share * len(counts)
    root = parsed(histogram(counts, 1.0, chosen, {"max": float(len(counts))}, "h"))
    clipped = sum(1 for index, amount in enumerate(counts) if amount and index >= chosen)
    kept = sum(1 for index, amount in enumerate(counts) if amount and index < chosen)
    assert len(of_class(root, "c-clipped")) == clipped
    assert len(of_class(root, "c-main")) == kept
    assert f"clip at {number(chosen)}" in texts(root)


def test_a_histogram_of_nothing_is_empty() -> None:
    assert not of_class(parsed(histogram([0, 0], 1.0, 1.0, {}, "h")), "c-main")


@pytest.mark.parametrize(("low", "high"), [(1.0, 2.0), (1.0, 100.0)])
def test_times_of_wide_spread_are_logarithmic(low: float, high: float) -> None:
    rows = [Distribution("FP32", low, high, {"p50": low * 1.2, "p95": high * 0.9}), Distribution("INT8", low, high, {})]
    root = parsed(quantiles(rows, "ms", "times"))
    assert ("ms, logarithmic" in texts(root)) == (high > 8 * low)
    assert f"median {number(low * 1.2)}" in texts(root)


POINTS = st.builds(
    lambda cost, worth, area: Point("INT8", cost, worth, worth - 3, worth + 3, area),
    POSITIVE,
    st.floats(10, 90),
    st.none() | POSITIVE,
)


@given(st.lists(POINTS, min_size=1, max_size=5))
def test_no_point_beats_one_of_the_frontier(points: list[Point]) -> None:
    root = parsed(scatter(points, "ms", "%", "trade-off"))
    assert len(list(root.iter("circle"))) == len(points)
    frontier = pareto(points)
    for kept in frontier:
        assert not any(p.cost < kept.cost and p.worth > kept.worth for p in points)
    for point in points:
        assert any(k.cost <= point.cost and k.worth >= point.worth for k in frontier)


def test_a_circles_area_stands_for_the_quantity() -> None:
    points = [Point("a", 1, 50, 40, 60, 100.0), Point("b", 2, 50, 40, 60, 25.0), Point("c", 3, 50, 40, 60, 0.1)]
    radii = [float(c.attrib["r"]) for c in parsed(scatter(points, "ms", "%", "t")).iter("circle")]
    assert radii[0] == pytest.approx(2 * radii[1], rel=0.01)
    assert radii[2] == 5


def test_labels_keep_clear_of_each_other() -> None:
    circles = [Circle(100, 100, 6), Circle(125, 100, 6), Circle(112, 112, 6)]
    places = label_places(["INT8", "FP16", "FP32"], circles)
    boxes = []
    for (x, y), anchor in places:
        left = x - {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * text_width("INT8")
        boxes.append((left, y - 12, left + text_width("INT8"), y + 3))
    for index, one in enumerate(boxes):
        for other in boxes[:index]:
            assert one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]


@given(st.lists(POSITIVE, min_size=1, max_size=100))
def test_the_largest_of_a_schedule_is_marked(values: list[float]) -> None:
    names = [f"inception{index // 7}/node{index}" for index in range(len(values))]
    root = parsed(area(list(zip(names, values, strict=True)), "MB", "memory", number))
    (peak,) = of_class(root, "c-strong")
    heights = [float(rect.attrib["height"]) for rect in root.iter("rect")]
    assert float(peak.attrib["height"]) == max(heights)


@given(POSITIVE, st.integers(2, 8))
def test_axes_hold_their_values_and_end_on_a_tick(value: float, count: int) -> None:
    top = axis_top(value, count)
    assert top >= value * (1 - 1e-9)
    ticks = Linear(0, top, 0, 100).ticks(count)
    assert len(ticks) <= 2 * count + 2
    assert ticks[-1] == pytest.approx(top)
    shown = [float(text.replace("\u202f", "")) for text in tick_texts(ticks)]
    assert shown == pytest.approx(ticks, abs=1e-6)


@given(st.floats(1e-3, 1e3), st.floats(1.01, 1e6))
def test_logarithmic_ticks_lie_within(low: float, factor: float) -> None:
    scale = Log(low, low * factor, 10, 90)
    assert all(9.9 <= scale(tick) <= 90.1 for tick in scale.ticks())
    assert scale(low) == 10
    assert scale(low * factor) == pytest.approx(90)


def test_degenerate_axes() -> None:
    assert Linear(1, 1, 5, 9)(1) == 5
    assert Log(1, 1, 5, 9)(1) == 5
    assert axis_top(0) == 1
    assert round_step(0) == round_step(float("inf")) == 1
    low, high = span_around([3.0, 3.0])
    assert low < 3 < high
    assert span_around([0.0]) == (-1, 1)


def test_long_labels_lose_their_middle() -> None:
    name = "inception4b/branch3/1/conv/with/a/long/tail"
    cut = shortened(name, 150)
    assert text_width(cut) <= 160
    assert cut.startswith("incep")
    assert cut.endswith("tail")
    assert "\N{HORIZONTAL ELLIPSIS}" in cut
    assert shortened("conv1", 150) == "conv1"


def test_numbers_in_drawings_are_short() -> None:
    svg = Svg(10, "x")
    svg.line((1 / 3, 0), (2, 1e-9), "grid")
    assert not re.search(r"\d\.\d{3}", svg.render())


@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [([1.0, 10.0], False), ([1.0, 10.1], True), ([0.0, 5.0, 9.0], False), ([0.0, 0.1, 9.0], True), ([0.0], False)],
)
def test_an_axis_is_logarithmic_where_values_differ_tenfold(values: list[float], logarithmic: bool) -> None:
    axis = axis_from(values, 10, 90)
    assert isinstance(axis, Log) == logarithmic
    places = [axis(value) for value in values]
    assert places == sorted(places)
    assert all(10 <= place <= 90 for place in places)
    assert unit_text("ms", axis) == ("ms, logarithmic" if logarithmic else "ms")
