"""The registry of report sections: where to import their functions, see `device.registry`, in the report's order."""

from __future__ import annotations

from googlenet_deploy.device.registry import load_member
from googlenet_deploy.report.document import ReportSection
from googlenet_deploy.report.results import Results

SECTIONS = (
    "googlenet_deploy.report.sections.accuracy:section",
    "googlenet_deploy.report.sections.errors:confusions_section",
    "googlenet_deploy.report.sections.errors:disagreements_section",
    "googlenet_deploy.report.sections.tradeoff:section",
    "googlenet_deploy.report.sections.latency:section",
    "googlenet_deploy.report.sections.tuning:section",
    "googlenet_deploy.report.sections.layers:section",
    "googlenet_deploy.report.sections.layers:sensitivity_section",
    "googlenet_deploy.report.sections.activations:section",
    "googlenet_deploy.report.sections.layers:memory_section",
    "googlenet_deploy.report.sections.pipeline:section",
    "googlenet_deploy.report.sections.pipeline:reproduce_section",
)


def sections(results: Results) -> tuple[ReportSection, ...]:
    """All sections; those without data state why."""
    return tuple(load_member(place)(results) for place in SECTIONS)
