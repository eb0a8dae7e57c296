"""Histograms of activations with their thresholds."""

from __future__ import annotations

from googlenet_deploy.report.charts.histogram import histogram
from googlenet_deploy.report.document import Absent, Chart, Drawing, ReportSection, table
from googlenet_deploy.report.figures import ActivationHistogram
from googlenet_deploy.report.results import Results
from googlenet_deploy.report.sections.accuracy import EMPTY
from googlenet_deploy.report.text import fixed, number

SHOWN, MARKED = 12, 3


def section(results: Results) -> ReportSection:
    """The section "Activations"."""
    lead = (
        "Absolute values of the activations over the calibration images, counts on a logarithmic scale. INT8 divides "
        "the range up to the dashed line into 127 steps; what is beyond is clipped to it. Small ticks below the axis "
        "are the thresholds of the other methods."
    )
    if not results.histograms:
        absent = Absent("Histograms of activations", results.why_missing("histograms"))
        return ReportSection("activations", "Activations", lead, (absent,))
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
    known = [entry for entry in worst if entry.sqnr is not None]
    caption += f" The worst is `{known[0].tensor}` ({fixed(known[0].sqnr or 0.0)} dB)." if known else ""
    marked = [index for index, entry in enumerate(results.histograms) if entry in known[:MARKED]]
    numbers = table("Thresholds of all activations", columns, rows, (0, 3), marked)
    return ReportSection("activations", "Activations", lead, (Chart(drawings, caption, numbers, small=True),))


def _drawing(entry: ActivationHistogram) -> str:
    others = {name: value for name, value in entry.amax.items() if value != entry.chosen}
    label = f"Histogram of {entry.tensor}, clipped at {number(entry.chosen)}"
    return histogram(entry.counts, entry.width, entry.chosen, others, label)


def _line(entry: ActivationHistogram) -> str:
    sqnr = f"{fixed(entry.sqnr)} dB, " if entry.sqnr is not None else ""
    return f"{sqnr}{100 * entry.clipped:.4f} % clipped, by {entry.rule}"
