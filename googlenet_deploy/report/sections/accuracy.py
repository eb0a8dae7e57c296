"""Is each precision right: accuracy with intervals, the paired difference to FP32, agreement."""

from __future__ import annotations

from googlenet_deploy.evaluation.statistics import Proportion
from googlenet_deploy.report.charts.intervals import Interval, intervals
from googlenet_deploy.report.charts.svg import style_of
from googlenet_deploy.report.document import Absent, Block, Chart, Drawing, ReportSection, Table, table
from googlenet_deploy.report.figures import Variant
from googlenet_deploy.report.results import Results
from googlenet_deploy.report.text import fixed, number, plural, precision, signed

EMPTY = "\N{EN DASH}"


def section(results: Results) -> ReportSection:
    """The section "Accuracy"."""
    subject = results.subject
    lead = (
        f"Each precision on the same {plural(subject.evaluation_images, 'image')}, none of which calibration saw. "
        "Differences are paired: both models see the same image, so the interval is much narrower than the one of "
        "either accuracy."
    )
    compared = [variant for variant in results.variants if variant.difference is not None]
    measured = [variant for variant in results.variants if variant.top1 is not None]
    blocks: list[Block] = []
    numbers = _numbers(results)
    drawings = [Drawing("Top-1", _accuracies(measured))] if measured else []
    drawings += [Drawing("Top-1 against FP32", _differences(compared))] if compared else []
    if drawings:
        caption = "Dots are the values, whiskers 95 % intervals: Wilson's for a share, paired for a difference."
        blocks.append(Chart(tuple(drawings), caption, numbers))
    else:
        blocks.append(Absent("Accuracy", results.why_missing("accuracy")))
        blocks += [numbers] if results.variants else []
    if not any(variant.agreement is not None for variant in results.variants):
        blocks.append(Absent("Agreement with FP32", results.why_missing("agreement")))
    return ReportSection("accuracy", "Accuracy", lead, tuple(blocks))


def _accuracies(variants: list[Variant]) -> str:
    rows = [
        Interval(
            precision(variant.name), variant.top1.percent, variant.top1.low, variant.top1.high, style_of(variant.name)
        )
        for variant in variants
        if variant.top1 is not None
    ]
    return intervals(rows, "% top-1", "Top-1 accuracy of each precision with 95 % intervals", fixed)


def _differences(variants: list[Variant]) -> str:
    rows = [
        Interval(
            precision(variant.name),
            variant.difference.points,
            variant.difference.low,
            variant.difference.high,
            style_of(variant.name),
        )
        for variant in variants
        if variant.difference is not None
    ]
    label = "Difference of top-1 to FP32 with paired 95 % intervals"
    return intervals(rows, "percentage points", label, signed, mark=0.0, mark_label="as FP32")


def _numbers(results: Results) -> Table:
    first = ("model", "top-1 %", "95 % interval", "top-5 %", "against FP32", "95 % paired", "only it is right")
    columns = (*first, "only FP32 is right", "agreement %", "score SQNR dB", "KL nats")
    rows = [_row(variant) for variant in results.variants]
    return table("Accuracy of each precision", columns, rows)


def _row(variant: Variant) -> tuple[str, ...]:
    change = variant.difference
    return (
        precision(variant.name),
        _share(variant.top1),
        f"{fixed(variant.top1.low)} to {fixed(variant.top1.high)}" if variant.top1 else EMPTY,
        _share(variant.top5),
        signed(change.points, 2) if change else EMPTY,
        f"{signed(change.low)} to {signed(change.high)}" if change else EMPTY,
        str(change.gained) if change else EMPTY,
        str(change.lost) if change else EMPTY,
        _share(variant.agreement),
        fixed(variant.sqnr) if variant.sqnr is not None else EMPTY,
        number(variant.divergence, 2) if variant.divergence is not None else EMPTY,
    )


def _share(share: Proportion | None) -> str:
    return fixed(share.percent) if share is not None else EMPTY
