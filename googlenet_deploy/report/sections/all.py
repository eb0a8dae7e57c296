"""The sections in their order."""

from __future__ import annotations

from googlenet_deploy.report.document import ReportSection
from googlenet_deploy.report.results import Results
from googlenet_deploy.report.sections import accuracy, activations, errors, latency, layers, pipeline, tradeoff

_ORDER = (
    accuracy.section, errors.confusions_section, errors.disagreements_section, tradeoff.section, latency.section,
    layers.section, layers.sensitivity_section, activations.section, layers.memory_section, pipeline.section,
    pipeline.reproduce_section,
)  # fmt: skip


def sections(results: Results) -> tuple[ReportSection, ...]:
    """All sections; those without data say why."""
    return tuple(section(results) for section in _ORDER)
