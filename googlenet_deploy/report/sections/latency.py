"""Latency distributions, predictions for the target, and lower bounds from its rates."""

from __future__ import annotations

from collections.abc import Sequence

from googlenet_deploy.analysis.prediction.predict import ModePrediction
from googlenet_deploy.report.charts.intervals import Range, ranges
from googlenet_deploy.report.charts.quantiles import Distribution, quantiles
from googlenet_deploy.report.charts.svg import style_of
from googlenet_deploy.report.document import Absent, Block, Chart, Drawing, ReportSection, Table, table
from googlenet_deploy.report.figures import Latency
from googlenet_deploy.report.results import Results
from googlenet_deploy.report.sections.accuracy import EMPTY
from googlenet_deploy.report.text import count, number, plain, precision

_SCOPES = {"run": "the network", "end_to_end": "image file to class", "compute": "the network's computation"}


def section(results: Results) -> ReportSection:
    """The section "Latency and energy"."""
    lead = (
        "Measured times; what is predicted for the target from published measurements; and what its published rates "
        "allow (the roofline model): no engine in FP16 or INT8 is faster than the floor."
    )
    blocks: list[Block] = []
    if results.latencies:
        blocks.append(_distributions(results))
    else:
        blocks.append(Absent("Measured times", results.why_missing("latency")))
    if results.bounds:
        blocks += [_bounds(results)]
    else:
        blocks.append(Absent("Bounds on the target", results.why_missing("bounds")))
    return ReportSection("latency", "Latency and energy", lead, tuple(blocks))


def _distributions(results: Results) -> Chart:
    drawings = []
    for scope in dict.fromkeys(entry.scope for entry in results.latencies):
        entries = [entry for entry in results.latencies if entry.scope == scope]
        rows = [
            Distribution(_row_name(e, results), e.lowest, e.highest, e.percentiles, style_of(e.variant))
            for e in entries
        ]
        title = _scope_name(scope).capitalize()
        drawings.append(Drawing(title, quantiles(rows, "ms", f"{title}: how the times are distributed")))
    places = " and on ".join(dict.fromkeys(entry.where for entry in results.latencies))
    caption = (
        f"Milliseconds per batch of {results.latencies[0].batch}, measured on {places}. Thin lines reach from the "
        "shortest to the longest run, bars from the median to the 95th percentile."
    )
    return Chart(tuple(drawings), caption, _times(results.latencies))


def _times(entries: Sequence[Latency]) -> Table:
    percentiles = list(dict.fromkeys(key for entry in entries for key in entry.percentiles))
    columns = ("model", "scope", "on", "runs", "shortest", *percentiles, "longest")
    rows = [
        (
            precision(entry.variant),
            _scope_name(entry.scope),
            entry.where,
            count(entry.runs),
            number(entry.lowest),
            *(number(entry.percentiles[key]) if key in entry.percentiles else EMPTY for key in percentiles),
            number(entry.highest),
        )
        for entry in entries
    ]
    return table("Times in milliseconds", columns, rows, (0, 1, 2))


def _row_name(entry: Latency, results: Results) -> str:
    """The precision, and the machine if the times are from several machines."""
    name = precision(entry.variant)
    here = [each.where.startswith("this machine") for each in results.latencies]
    if all(here) or not any(here):
        return name
    return f"{name}, {'here' if entry.where.startswith('this machine') else 'device'}"


def _scope_name(scope: str) -> str:
    return _SCOPES.get(scope, scope.replace("_", " "))


def _bounds(results: Results) -> Chart:
    bounds = [(variant, bound) for variant, each in results.bounds.items() for bound in each]
    several = len(results.bounds) > 1
    rows = [
        Range(
            f"{bound.mode.name}, {precision(variant)}" if several else bound.mode.name,
            bound.floor_ms,
            bound.roofline_ms,
            style_of(variant),
        )
        for variant, bound in bounds
    ]
    label = "Floor and roofline of each power mode"
    drawing = ranges(rows, "ms per image", label, lambda value: number(value, 2), ("floor", "roofline"))
    columns = (
        "power mode",
        "model",
        "W at most",
        "predicted ms",
        "range",
        "mJ",
        "range",
        "W",
        "roofline ms",
        "floor ms",
    )
    lines = [
        (
            bound.mode.name,
            precision(variant),
            plain(bound.mode.watts) if bound.mode.watts is not None else EMPTY,
            *_expected(bound.prediction),
            number(bound.roofline_ms),
            number(bound.floor_ms),
        )
        for variant, bound in bounds
    ]
    caption = (
        f"{results.subject.target_title}, one image at a time. Drawn: from the floor (filled) to the roofline (ring), "
        "which published rates allow. In the table before them: what is predicted for a TensorRT engine from published "
        "measurements, with the range in which nine of ten measurements lie that are predicted so, and the board's "
        "energy and mean power likewise. A mode's watts cap the power of the board."
    )
    return Chart(
        (Drawing("", drawing),), caption, table("Prediction and bounds per power mode", columns, lines, (0, 1))
    )


def _expected(prediction: ModePrediction | None) -> tuple[str, ...]:
    if prediction is None:
        return (EMPTY,) * 5
    latency, energy = prediction.latency, prediction.energy
    return (
        number(latency.value),
        f"{number(latency.low)} to {number(latency.high)}",
        number(energy.value),
        f"{number(energy.low)} to {number(energy.high)}",
        number(prediction.watts),
    )
