"""How times are distributed, and what the target's rates allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from googlenet_deploy.report.charts.intervals import Range, ranges
from googlenet_deploy.report.charts.quantiles import Distribution, quantiles
from googlenet_deploy.report.charts.svg import style_of
from googlenet_deploy.report.document import Absent, Block, Chart, Drawing, Section, Table, table
from googlenet_deploy.report.results import Latency, ModeBound, Results
from googlenet_deploy.report.sections.accuracy import EMPTY
from googlenet_deploy.report.text import count, number, plain, precision

_SCOPES = {"run": "the network", "end_to_end": "image file to class", "compute": "the network's computation"}


def section(results: Results) -> Section:
    """The section "Latency, energy and bounds"."""
    lead = (
        "Measured times, and for the target the bounds that follow from its published rates (the roofline model): no "
        "engine can be faster than the floor, and real ones mostly lie above the roofline."
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
    return Section("latency", "Latency, energy and bounds", lead, tuple(blocks))


def _distributions(results: Results) -> Chart:
    drawings = []
    for scope in dict.fromkeys(entry.scope for entry in results.latencies):
        entries = [entry for entry in results.latencies if entry.scope == scope]
        rows = [
            Distribution(precision(e.variant), e.lowest, e.highest, e.percentiles, style_of(e.variant)) for e in entries
        ]
        title = _scope_name(scope).capitalize()
        drawings.append(Drawing(title, quantiles(rows, "ms", f"{title}: how the times are distributed")))
    places = ", ".join(dict.fromkeys(entry.where for entry in results.latencies))
    caption = (
        f"Milliseconds per batch of {results.latencies[0].batch}, measured on {places}. Thin lines reach from the "
        "shortest to the longest run, bars from the median to the 95th percentile."
    )
    return Chart(tuple(drawings), caption, _times(results.latencies))


def _times(entries: Sequence[Latency]) -> Table:
    percentiles = list(dict.fromkeys(key for entry in entries for key in entry.percentiles))
    columns = ("model", "scope", "runs", "shortest", *percentiles, "longest")
    rows = [
        (
            precision(entry.variant),
            _scope_name(entry.scope),
            count(entry.runs),
            number(entry.lowest),
            *(number(entry.percentiles[key]) if key in entry.percentiles else EMPTY for key in percentiles),
            number(entry.highest),
        )
        for entry in entries
    ]
    return table("Times in milliseconds", columns, rows, (0, 1))


def _scope_name(scope: str) -> str:
    return _SCOPES.get(scope, scope.replace("_", " "))


def _bounds(results: Results) -> Chart:
    several = len({bound.variant for bound in results.bounds}) > 1
    rows = [Range(_label(b, several=several), b.floor_ms, b.roofline_ms, style_of(b.variant)) for b in results.bounds]
    drawing = ranges(
        rows,
        "ms per image",
        "Floor and roofline of each power mode",
        lambda value: number(value, 2),
        ("floor", "roofline"),
    )
    columns = ("power mode", "model", "W", "floor ms", "roofline ms", "images/s below", "mJ per image")
    lines = [
        (
            bound.mode,
            precision(bound.variant),
            plain(bound.watts) if bound.watts is not None else EMPTY,
            number(bound.floor_ms),
            number(bound.roofline_ms),
            number(1e3 / bound.floor_ms),
            number(bound.millijoules) if bound.millijoules is not None else EMPTY,
        )
        for bound in results.bounds
    ]
    caption = (
        f"Bounds for {results.subject.target_title}, one image at a time: from the floor (filled) to the roofline "
        "(ring). Energy is the mode's whole power for the roofline's time."
    )
    return Chart((Drawing("", drawing),), caption, table("Bounds per power mode", columns, lines, (0, 1)))


def _label(bound: ModeBound, *, several: bool) -> str:
    return f"{bound.mode}, {precision(bound.variant)}" if several else bound.mode


SCOPES = ("run", "end_to_end")


def benchmark_latencies(variant: str, result: Mapping[str, Any]) -> tuple[Latency, ...]:
    """The times of the network and of the whole way, from the first configuration with one stream."""
    chosen = next(entry for entry in result["configurations"] if entry["streams"] == 1)
    backend = result["backend"]["name"]
    found = []
    for scope in SCOPES:
        times = chosen["milliseconds"].get(scope, {})
        if "runs" not in times:
            continue
        names = [name for name in times if name.startswith("p") and times[name]["value"] is not None]
        found.append(
            Latency(
                variant=variant,
                scope=scope,
                where=f"this machine, {backend}",
                batch=int(chosen["batch"]),
                runs=int(times["runs"]),
                lowest=float(times["lowest"]),
                highest=float(times["highest"]),
                percentiles={name: float(times[name]["value"]) for name in names},
            )
        )
    return tuple(found)
