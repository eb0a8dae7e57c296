"""The measurements of `tune` on the device, and its choice."""

from __future__ import annotations

from collections.abc import Sequence

from googlenet_deploy.device.tune.tuned_file import Tuned, TunedFigure, TunedResult
from googlenet_deploy.report.charts.scatter import Point, pareto, scatter
from googlenet_deploy.report.charts.svg import style_of
from googlenet_deploy.report.document import Absent, Block, Chart, Drawing, ReportSection, Table, table
from googlenet_deploy.report.results import Results
from googlenet_deploy.report.sections.accuracy import EMPTY
from googlenet_deploy.report.text import fixed, number, plain, precision

_OBJECTIVES = {
    "energy": "the least energy per image",
    "latency": "the shortest latency",
    "rate": "the most images per second",
    "size": "the smallest model",
}


def section(results: Results) -> ReportSection:
    """The section "Tuning"."""
    tuned = results.tuned
    if tuned is None:
        lead = "Precision, batch, streams and power mode can be chosen by measurement on the device."
        return ReportSection("tuning", "Tuning", lead, (Absent("Tuning", results.why_missing("tuning")),))
    blocks: list[Block] = []
    if tuned.results:
        blocks.append(Chart(_drawings(tuned), _caption(tuned), _numbers(tuned)))
    if tuned.left_out:
        rows = [(item.what, item.reason) for item in tuned.left_out]
        blocks.append(table("Left out", ("what", "why"), rows, (0, 1)))
    return ReportSection("tuning", "Tuning", _lead(tuned), tuple(blocks))


def _lead(tuned: Tuned) -> str:
    limits = tuned.budget.text()
    goal = f"{_OBJECTIVES[tuned.objective]}{f' within {limits}' if limits else ''}"
    if tuned.choice is not None:
        text = f"Looked for on the device: {goal}. Chosen: {tuned.choice.setting.text()} ({tuned.reason})."
    else:
        nearest = f"; the nearest is {tuned.results[tuned.nearest].setting.text()}" if tuned.nearest is not None else ""
        text = f"Looked for on the device: {goal}. Nothing meets these limits{nearest}."
    return text if tuned.meter else f"{text} No energy was measured: {tuned.no_energy}."


def _drawings(tuned: Tuned) -> tuple[Drawing, ...]:
    """Images per second against the time of a batch, and against the energy if it was measured."""
    times = [(result, result.latency_p95_ms) for result in tuned.results]
    energies = [
        (result, result.millijoules_per_image) for result in tuned.results if result.millijoules_per_image is not None
    ]
    drawings = [_drawing(tuned, times, "milliseconds of a batch, 95 %", "Throughput against latency")]
    if energies:
        drawings.append(_drawing(tuned, energies, "millijoules per image", "Throughput against energy"))
    return tuple(drawings)


def _drawing(tuned: Tuned, costs: Sequence[tuple[TunedResult, TunedFigure]], cost_title: str, title: str) -> Drawing:
    points = [_point(tuned, result, cost) for result, cost in costs]
    # Labelling every point would be unreadable: only the frontier and the choice are labelled.
    named = {id(point) for point in pareto(points)}
    chosen = tuned.choice if tuned.choice is not None else tuned.results[0]
    shown = [
        point if id(point) in named or result is chosen else Point(**{**vars(point), "label": ""})
        for point, (result, _) in zip(points, costs, strict=True)
    ]
    return Drawing(title, scatter(shown, cost_title, "images per second", f"{title} of every setting"))


def _point(tuned: Tuned, result: TunedResult, cost: TunedFigure) -> Point:
    rate, kind = result.images_per_second, tuned.model(result).precision
    low, high = (rate.value if end is None else end for end in (rate.low, rate.high))
    label = f"{precision(kind)} \N{MULTIPLICATION SIGN}{result.setting.batch}"
    tip = f"{result.setting.text()}: {number(cost.value)}, {number(rate.value)} images/s, {result.verdict}"
    return Point(label, cost.value, rate.value, low, high, None, style_of(kind), tip)


def _caption(tuned: Tuned) -> str:
    machine = ", ".join(filter(None, (tuned.machine.get("model") or tuned.machine.get("processor"), tuned.meter)))
    return (
        f"Every setting that was measured on {machine or 'the device'}, in the last stage that it reached; up and to "
        "the left is better. Labels name the precision and the batch of those that no other beats in both. Whiskers "
        "are 95 % intervals over the rounds; settings that were dropped early have one short round and none."
    )


def _numbers(tuned: Tuned) -> Table:
    columns = (
        "setting",
        "precision",
        "batch",
        "ms, median",
        "ms, 95 %",
        "images/s",
        "mJ per image",
        "agreement",
        "rounds",
        "verdict",
    )
    rows = [
        (
            result.setting.text(),
            precision(tuned.model(result).precision),
            plain(result.setting.batch),
            number(result.latency_ms.value),
            number(result.latency_p95_ms.value),
            number(result.images_per_second.value),
            number(result.millijoules_per_image.value) if result.millijoules_per_image is not None else EMPTY,
            f"{fixed(result.agreement)} %" if result.agreement is not None else EMPTY,
            plain(result.rounds),
            result.verdict,
        )
        for result in tuned.results
    ]
    marked = () if tuned.chosen is None else (tuned.chosen,)
    return table("What was measured of each setting", columns, rows, (0, 1, 9), marked)
