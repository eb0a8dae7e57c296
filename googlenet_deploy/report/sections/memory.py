"""Memory over the schedule."""

from __future__ import annotations

from googlenet_deploy.report.charts.area import area
from googlenet_deploy.report.document import Absent, Chart, Drawing, Section, table
from googlenet_deploy.report.results import Results
from googlenet_deploy.report.text import fixed, size


def section(results: Results) -> Section:
    """The section "Memory"."""
    lead = (
        "Bytes of activations that live at once while the network runs in the graph's order, one image, in each "
        "tensor's own type, nothing written over its input. GoogLeNet was designed to keep this low."
    )
    if not results.memory:
        return Section("memory", "Memory", lead, (Absent("Memory over the schedule", results.why_missing("memory")),))
    drawing = area(
        [(step.node, step.bytes / 1e6) for step in results.memory],
        "MB",
        "Live activations at each node",
        lambda value: fixed(value, 1),
    )
    peak = max(results.memory, key=lambda step: step.bytes)
    caption = f"At most {size(peak.bytes)} at once, at {peak.node}. Weights come on top."
    numbers = table(
        "Live activations at each node", ("node", "bytes"), [(s.node, size(s.bytes)) for s in results.memory]
    )
    return Section("memory", "Memory", lead, (Chart((Drawing("", drawing),), caption, numbers),))
