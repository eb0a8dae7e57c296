"""What was done, with times and outcomes."""

from __future__ import annotations

from googlenet_deploy.report.charts.bars import Bar, bars
from googlenet_deploy.report.document import Absent, Block, Chart, Code, Drawing, ReportSection, table
from googlenet_deploy.report.results import Results
from googlenet_deploy.report.text import duration

_STYLES = {"done": "c-main", "unchanged": "c-quiet", "left out": "c-quiet", "failed": "c-bad"}


def section(results: Results) -> ReportSection:
    """The section "Pipeline"."""
    lead = "Every step, what it did, and how long it took in the run that did it."
    blocks: list[Block] = []
    if results.steps:
        total = sum(step.seconds for step in results.steps)
        rows = [(step.name, step.outcome, duration(step.seconds), step.text) for step in results.steps]
        numbers = table("Steps of the pipeline", ("step", "outcome", "time", "result"), rows, (0, 1, 3))
        timed = [step for step in results.steps if step.outcome != "left out"]
        drawings = bars(
            [
                Bar(step.name, step.seconds, _STYLES.get(step.outcome, "c-main"), duration(step.seconds))
                for step in timed
            ],
            "seconds",
            f"Time of each step; {duration(total)} in all",
        )
        caption = f"{duration(total)} in all."
        if any(step.outcome == "unchanged" for step in results.steps):
            caption += " Grey steps were taken over from an earlier run, since nothing had changed."
        blocks.append(Chart((Drawing("", drawings[0]),), caption, numbers))
    else:
        blocks.append(Absent("The steps", results.why_missing("pipeline")))
    if results.notes:
        blocks.append(table("Notes", ("note",), [(note,) for note in results.notes], (0,)))
    return ReportSection("pipeline", "Pipeline", lead, tuple(blocks))


def reproduce_section(results: Results) -> ReportSection:
    """The section "Reproduce"."""
    lead = "The same inputs produce the same files, byte for byte: compare the hashes."
    blocks: list[Block] = []
    if results.commands:
        blocks.append(Code("Commands", "\n".join(results.commands)))
    else:
        blocks.append(Absent("Commands", results.why_missing("commands")))
    subject = results.subject
    files = [(f"{subject.weights} (from)", subject.weights_sha256), *results.artefacts.items()]
    blocks.append(table("Files", ("file", "SHA-256"), files, (0, 1)))
    if results.device:
        blocks.append(table("Device", ("", "value"), list(results.device.items()), (0, 1)))
    if results.environment:
        blocks.append(table("Environment", ("", "version"), list(results.environment.items()), (0, 1)))
    return ReportSection("reproduce", "Reproduce", lead, tuple(blocks))
