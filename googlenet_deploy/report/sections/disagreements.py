"""The images on which precisions disagree."""

from __future__ import annotations

from googlenet_deploy.report.document import Absent, Block, Gallery, Paragraph, Picture, Section
from googlenet_deploy.report.results import Disagreement, Results
from googlenet_deploy.report.text import precision


def section(results: Results) -> Section:
    """The section "Disagreements"."""
    lead = "Images to which the precisions give different classes. Mostly both answers are plausible, and close."
    if results.disagreements:
        caption = f"{len(results.disagreements)} images on which precisions disagree"
        block: Block = Gallery(caption, tuple(_picture(entry) for entry in results.disagreements))
    elif any(entry.part == "disagreements" for entry in results.missing):
        block = Absent("Images on which precisions disagree", results.why_missing("disagreements"))
    elif any(variant.agreement is not None for variant in results.variants):
        block = Paragraph("There are none: every precision gives every image the same class.")
    else:
        block = Absent("Images on which precisions disagree", results.why_missing("agreement"))
    return Section("disagreements", "Disagreements", lead, (block,))


def _picture(entry: Disagreement) -> Picture:
    lines: list[tuple[str, str, bool | None]] = []
    for answer in entry.answers:
        right = answer.name == entry.label if entry.label else None
        lines.append((precision(answer.variant), f"{answer.name} {100 * answer.probability:.0f} %", right))
    if entry.label:
        lines.append(("true", entry.label, None))
    return Picture(entry.thumbnail, entry.image, tuple(lines))
