"""Histograms of activations with their thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from googlenet_deploy.report.charts.histogram import histogram
from googlenet_deploy.report.document import Absent, Chart, Drawing, Section, table
from googlenet_deploy.report.results import Results, TensorHistogram
from googlenet_deploy.report.sections.accuracy import EMPTY
from googlenet_deploy.report.text import fixed, number

if TYPE_CHECKING:
    from googlenet_deploy.calibration.histogram import Outline
    from googlenet_deploy.calibration.table import CalibrationTable


SHOWN = 12


def section(results: Results) -> Section:
    """The section "Activations"."""
    lead = (
        "Absolute values of the activations over the calibration images, counts on a logarithmic scale. INT8 divides "
        "the range up to the dashed line into 127 steps; what lies beyond is clipped to it. Small ticks below the axis "
        "are the thresholds of the other methods."
    )
    if not results.histograms:
        absent = Absent("Histograms of activations", results.why_missing("histograms"))
        return Section("activations", "Activations", lead, (absent,))
    worst = sorted(results.histograms, key=lambda entry: entry.sqnr if entry.sqnr is not None else 1e9)[:SHOWN]
    shown = [entry for entry in results.histograms if entry in worst]
    drawings = tuple(Drawing(entry.tensor, _drawing(entry), _line(entry)) for entry in shown)
    methods = list(dict.fromkeys(name for entry in results.histograms for name in entry.amax))
    rows = [
        (
            entry.tensor,
            number(entry.maximum),
            number(entry.chosen),
            entry.rule,
            f"{100 * entry.clipped:.4f}",
            fixed(entry.sqnr) if entry.sqnr is not None else EMPTY,
            *(number(entry.amax[name]) if name in entry.amax else EMPTY for name in methods),
        )
        for entry in results.histograms
    ]
    columns = ("tensor", "largest", "clipped at", "by", "clipped %", "SQNR dB", *methods)
    caption = f"The {len(shown)} of {len(rows)} tensors that INT8 represents worst, in the order of the network."
    numbers = table("Thresholds of all activations", columns, rows, (0, 3))
    return Section("activations", "Activations", lead, (Chart(drawings, caption, numbers, small=True),))


def _drawing(entry: TensorHistogram) -> str:
    others = {name: value for name, value in entry.amax.items() if value != entry.chosen}
    label = f"Histogram of {entry.tensor}, clipped at {number(entry.chosen)}"
    return histogram(entry.counts, entry.width, entry.chosen, others, label)


def _line(entry: TensorHistogram) -> str:
    sqnr = f"{fixed(entry.sqnr)} dB, " if entry.sqnr is not None else ""
    return f"{sqnr}{100 * entry.clipped:.4f} % clipped, by {entry.rule}"


def tensor_histograms(table: CalibrationTable, outlines: Mapping[str, Outline]) -> tuple[TensorHistogram, ...]:
    """One per record of the table that has an outline, in the table's order; tensors that were zero are left out."""
    found = []
    for record in table.records:
        shape = outlines.get(record.members[0])
        if shape is None or record.zero:
            continue
        found.append(
            TensorHistogram(
                tensor=record.members[0],
                width=shape.width,
                counts=shape.counts,
                maximum=max(abs(record.minimum), abs(record.maximum)),
                amax={name: value for name, value in record.amax.items() if name != "auto"},
                chosen=record.amax[table.method],
                rule=record.chosen if table.method == "auto" else table.method,
                clipped=record.saturated.get(table.method, 0.0),
                sqnr=record.errors.get(table.method),
            )
        )
    return tuple(found)
