"""Single images: confused classes, and images on which precisions disagree."""

from __future__ import annotations

from googlenet_deploy.report.document import (
    Absent,
    Block,
    Gallery,
    Paragraph,
    Picture,
    ReportSection,
    table,
)
from googlenet_deploy.report.figures import Confusion, Disagreement
from googlenet_deploy.report.results import Results
from googlenet_deploy.report.text import plural, precision


def confusions_section(results: Results) -> ReportSection:
    """The section "Errors by class"."""
    name = precision(results.subject.precision)
    lead = (
        f"Which classes the {name} model takes for which others most often. Where FP32 makes the same mistake, the "
        "weights or the labels are the cause, not the precision."
    )
    identifier, title = "errors", "Errors by class"
    if results.confusions:
        rows = [
            (entry.label, entry.answer, f"{entry.count} of {entry.total}", str(entry.reference))
            for entry in results.confusions
        ]
        columns = ("true class", "taken for", "images", "by FP32 too")
        pictures = tuple(picture for entry in results.confusions for picture in _examples(entry))
        blocks: tuple[Block, ...] = (table("Most frequent confusions", columns, rows, (0, 1)),)
        blocks += (Gallery("Some of these images", pictures, small=True),) if pictures else ()
    elif results.deployed is None or results.deployed.top1 is None:
        blocks = (Absent("Errors by class", results.why_missing("errors by class")),)
    else:
        blocks = (Paragraph(f"There are none: {name} is right on every evaluation image."),)
    return ReportSection(identifier, title, lead, blocks)


def _examples(entry: Confusion) -> tuple[Picture, ...]:
    lines: tuple[tuple[str, str, bool | None], ...] = (("true", entry.label, None), ("taken for", entry.answer, False))
    return tuple(Picture(example.thumbnail, example.image, lines) for example in entry.examples)


def disagreements_section(results: Results) -> ReportSection:
    """The section "Disagreements"."""
    lead = "Images to which the precisions assign different classes. Mostly both answers are plausible, and close."
    if results.disagreements:
        caption = f"{plural(len(results.disagreements), 'image')} on which precisions disagree"
        block: Block = Gallery(caption, tuple(_picture(entry) for entry in results.disagreements))
    elif any(entry.part == "disagreements" for entry in results.missing):
        block = Absent("Images on which precisions disagree", results.why_missing("disagreements"))
    elif any(variant.agreement is not None for variant in results.variants):
        block = Paragraph("There are none: every precision assigns the same class to every image.")
    else:
        block = Absent("Images on which precisions disagree", results.why_missing("agreement"))
    return ReportSection("disagreements", "Disagreements", lead, (block,))


def _picture(entry: Disagreement) -> Picture:
    lines: list[tuple[str, str, bool | None]] = []
    for answer in entry.answers:
        right = answer.name == entry.label if entry.label else None
        lines.append((precision(answer.variant), f"{answer.name} {100 * answer.probability:.0f} %", right))
    if entry.label:
        lines.append(("true", entry.label, None))
    return Picture(entry.thumbnail, entry.image, tuple(lines))
