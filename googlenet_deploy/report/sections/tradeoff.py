"""Accuracy against latency against energy."""

from __future__ import annotations

from googlenet_deploy.evaluation.statistics import Proportion
from googlenet_deploy.report.charts.scatter import Point, pareto, scatter
from googlenet_deploy.report.charts.svg import style_of
from googlenet_deploy.report.document import Absent, Block, Chart, Drawing, ReportSection, Table, table
from googlenet_deploy.report.figures import MEASURED, PREDICTED, Quantity, Variant
from googlenet_deploy.report.results import Results
from googlenet_deploy.report.sections.accuracy import EMPTY
from googlenet_deploy.report.summary import amount
from googlenet_deploy.report.text import fixed, number, precision, size


def section(results: Results) -> ReportSection:
    """The section "Trade-off"."""
    lead = "What each precision costs, and what it is worth."
    usable = [variant for variant in results.variants if variant.latency is not None and _worth(variant) is not None]
    blocks: list[Block] = []
    numbers = _numbers(results)
    if usable:
        blocks.append(Chart((Drawing("", _chart(usable)),), _caption(usable), numbers))
    else:
        reason = results.why_missing("latency" if all(v.latency is None for v in results.variants) else "accuracy")
        blocks.append(Absent("The comparison of costs", reason))
        blocks += [numbers] if results.variants else []
    return ReportSection("trade-off", "Trade-off", lead, tuple(blocks))


def _worth(variant: Variant) -> Proportion | None:
    return variant.top1 if variant.top1 is not None else variant.agreement


def _chart(variants: list[Variant]) -> str:
    accuracy = all(variant.top1 is not None for variant in variants)
    points = []
    for variant in variants:
        share = _worth(variant)
        assert share is not None
        assert variant.latency is not None
        energy = variant.energy.value if variant.energy is not None else None
        tip = f"{precision(variant.name)}: {number(variant.latency.value)} ms, {fixed(share.percent)} %"
        tip += f", {number(energy)} mJ" if energy is not None else ""
        cost = variant.latency.value
        points.append(
            Point(
                precision(variant.name), cost, share.percent, share.low, share.high, energy, style_of(variant.name), tip
            )
        )
    predicted = any(variant.latency is not None and variant.latency.kind == PREDICTED for variant in variants)
    cost_title = "milliseconds per image" + (", predicted" if predicted else "")
    worth_title = "top-1, %" if accuracy else "top-1, or agreement with FP32, %"
    return scatter(points, cost_title, worth_title, "Accuracy against latency of each precision")


def _caption(variants: list[Variant]) -> str:
    places = {"measured on": MEASURED, "predicted, not measured, for": PREDICTED}
    latencies = [variant.latency for variant in variants if variant.latency is not None]
    how = [
        f"{words} {where}"
        for words, kind in places.items()
        for where in dict.fromkeys(each.where for each in latencies if each.kind == kind)
    ]
    text = f"Up and to the left is better. Latency: {'; others '.join(how)}. "
    text += "Whiskers are 95 % intervals of the accuracy."
    if len({each.kind for each in latencies}) > 1:
        text += " A measured and a predicted latency are not comparable: measure the others on the device too."
    if any(variant.energy is not None for variant in variants):
        text += " A circle's area is the energy per image, as far as the table says where it comes from."
    names = [point.label for point in pareto(_plain(variants))]
    return f"{text} No other is better in both than: {', '.join(names)}."


def _plain(variants: list[Variant]) -> list[Point]:
    points = []
    for variant in variants:
        share = _worth(variant)
        if share is not None and variant.latency is not None:
            points.append(Point(precision(variant.name), variant.latency.value, share.percent, share.low, share.high))
    return points


def _numbers(results: Results) -> Table:
    columns = ("model", "latency", "on", "energy", "memory", "file", "multiply-adds by type")
    rows = [
        (
            precision(variant.name),
            _text(variant.latency),
            variant.latency.where if variant.latency else EMPTY,
            _text(variant.energy),
            _text(variant.memory),
            size(variant.bytes),
            ", ".join(f"{precision(kind)} {100 * share:.0f} %" for kind, share in variant.shares.items()) or EMPTY,
        )
        for variant in results.variants
    ]
    return table("Costs of each precision", columns, rows, (0, 1, 2, 3, 6))


def _text(quantity: Quantity | None) -> str:
    if quantity is None:
        return EMPTY
    text = amount(quantity)
    if quantity.kind == PREDICTED and quantity.low is not None and quantity.high is not None:
        return f"{text} (predicted; {number(quantity.low)} to {number(quantity.high)})"
    return text
