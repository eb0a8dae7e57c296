"""What quantising each layer alone costs."""

from __future__ import annotations

from googlenet_deploy.report.charts.bars import Bar, bars
from googlenet_deploy.report.document import Absent, Chart, Drawing, Section, table
from googlenet_deploy.report.results import Results
from googlenet_deploy.report.sections.accuracy import EMPTY
from googlenet_deploy.report.text import count, fixed

SHOWN, ONE_COLUMN = 24, 12


def section(results: Results) -> Section:
    """The section "Sensitivity"."""
    lead = (
        "Each layer quantised alone, everything else in FP32. Short bars are the layers to keep in floating point "
        "first, if an accuracy budget asks for it."
    )
    if not results.sensitivity:
        return Section("sensitivity", "Sensitivity", lead, (Absent("Sensitivity", results.why_missing("sensitivity")),))
    ranked = sorted(results.sensitivity, key=lambda entry: entry.sqnr)
    rows = [
        Bar(entry.layer, max(0.0, entry.sqnr), "c-fp16" if entry.kept else "c-int8", fixed(entry.sqnr))
        for entry in ranked[:SHOWN]
    ]
    label = "Signal over noise of the scores with one layer quantised, worst first"
    drawings = bars(rows, "dB of the scores", label, columns=2 if len(rows) > ONE_COLUMN else 1)
    lines = [
        (
            entry.layer,
            fixed(entry.sqnr),
            fixed(entry.agreement) if entry.agreement is not None else EMPTY,
            count(entry.multiply_adds),
            "floating point" if entry.kept else "INT8",
        )
        for entry in ranked
    ]
    columns = ("layer", "score SQNR dB", "agreement %", "multiply-adds", "deployed in")
    kept = sum(entry.kept for entry in results.sensitivity)
    stayed = f" {kept} stayed in floating point." if kept else " None had to stay in floating point."
    caption = f"The {len(rows)} most sensitive of {len(ranked)} layers.{stayed}"
    numbers = table("Sensitivity of the layers", columns, lines, (0, 4))
    return Section(
        "sensitivity", "Sensitivity", lead, (Chart(tuple(Drawing("", svg) for svg in drawings), caption, numbers),)
    )
