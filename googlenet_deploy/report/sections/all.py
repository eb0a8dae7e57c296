"""The sections in their order."""

from __future__ import annotations

from googlenet_deploy.report.document import Section
from googlenet_deploy.report.results import Results
from googlenet_deploy.report.sections import accuracy, activations, latency, layers, pipeline, tradeoff
from googlenet_deploy.report.sections import accuracy as disagreements
from googlenet_deploy.report.sections import layers as memory
from googlenet_deploy.report.sections import layers as sensitivity
from googlenet_deploy.report.sections import pipeline as reproduce

_ORDER = (
    accuracy, tradeoff, latency, layers, sensitivity, activations, memory, disagreements, pipeline, reproduce,
)  # fmt: skip


def sections(results: Results) -> tuple[Section, ...]:
    """All sections; those without data say why."""
    return tuple(module.section(results) for module in _ORDER)
