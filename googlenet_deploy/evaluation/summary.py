"""An evaluation's metrics: as numbers for gates and JSON, and as human-readable lines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from googlenet_deploy.device.text import counted
from googlenet_deploy.evaluation.statistics import PairedDifference, Proportion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from googlenet_deploy.evaluation.diagnosis import Verdict
    from googlenet_deploy.evaluation.evaluate import Answers, Evaluation
    from googlenet_deploy.evaluation.layer_error import LayerError, TensorRange

TOP = 5
SHOWN = 5
INDENT = 16


@dataclass(frozen=True)
class AccuracyFigures:
    """The accuracy of one model, and its agreement with the FP32 model.

    Attributes:
        top1: Images whose best class is the true one; None without labels.
        top5: Images whose true class is among the best five; None without labels or with fewer than five classes.
        difference: Difference of top-1 from the FP32 model on the same images; None without labels and for FP32 itself.
        agreement: Images whose best class is that of the FP32 model; None for FP32 itself.
        sqnr: Signal-to-noise ratio of the scores against the FP32 model, in dB; None if there is no difference.
        divergence: Mean Kullback-Leibler divergence from the FP32 model, in nats.
    """

    top1: Proportion | None = None
    top5: Proportion | None = None
    difference: PairedDifference | None = None
    agreement: Proportion | None = None
    sqnr: float | None = None
    divergence: float | None = None


def summary_of(result: Evaluation) -> AccuracyFigures:
    """The metrics of a model, compared with its reference if it has one."""
    shares, agreement = accuracies_of(result), result.agreement
    return AccuracyFigures(
        top1=shares.get("top1"),
        top5=shares.get("top5"),
        difference=paired_of(result).get("top1"),
        agreement=None if agreement is None else agreement.proportion,
        sqnr=None if agreement is None or math.isinf(agreement.sqnr) else agreement.sqnr,
        divergence=None if agreement is None else agreement.mean_divergence,
    )


def accuracies_of(result: Evaluation) -> dict[str, Proportion]:
    """Top-1 and top-5 of the model and its reference, as far as measured; empty without labels."""
    found: dict[str, Proportion] = {}
    for prefix, answers in (("", result.model), ("reference_", result.reference)):
        if answers is None or not result.labels:
            continue
        found[f"{prefix}top1"] = answers.accuracy1
        if result.classes_given >= TOP:
            found[f"{prefix}top5"] = answers.accuracy5
    return found


def figures_of(result: Evaluation) -> dict[str, float]:
    """The metrics for gates and JSON, in percent, nats and dB."""
    figures = {name: share.percent for name, share in accuracies_of(result).items()}
    if result.agreement is not None:
        figures["agreement"] = result.agreement.proportion.percent
        figures["kl_divergence"] = result.agreement.mean_divergence
        figures["sqnr"] = result.agreement.sqnr
    return figures


def intervals_of(result: Evaluation) -> dict[str, tuple[float, float]]:
    """95 % intervals of the metrics, in the same units."""
    intervals = {name: share.interval for name, share in accuracies_of(result).items()}
    if result.agreement is not None:
        intervals["agreement"] = result.agreement.proportion.interval
        intervals["kl_divergence"] = result.agreement.divergence_interval
        intervals["sqnr"] = result.agreement.sqnr_interval
    return intervals


def paired_of(result: Evaluation) -> dict[str, PairedDifference]:
    """Model minus reference, by metric; empty without a reference or without labels."""
    if result.reference is None or not result.labels:
        return {}
    paired = {"top1": PairedDifference.of(result.model.top1, result.reference.top1)}
    if result.classes_given >= TOP:
        paired["top5"] = PairedDifference.of(result.model.top5, result.reference.top5)
    return paired


def lines_of(result: Evaluation) -> list[str]:
    """One line per metric, with its interval."""
    labelled = bool(result.labels)
    entries = _accuracies("", result.model, result.classes_given) if labelled else []
    if result.agreement is not None and result.reference is not None:
        entries += _accuracies("reference ", result.reference, TOP) if labelled else []
        entries += [(f"{name[:3]}-{name[3:]} change", str(each)) for name, each in paired_of(result).items()]
        agreement = result.agreement
        share = f"{agreement.proportion.percent:.1f} % of the best classes are the reference's"
        entries += [
            ("agreement", f"{share}{_interval(agreement.proportion.interval, 1)}"),
            ("KL divergence", f"{agreement.mean_divergence:.5f} nats{_interval(agreement.divergence_interval, 5)}"),
            ("score SQNR", f"{agreement.sqnr:.2f} dB{_interval(agreement.sqnr_interval, 2)}"),
        ]
    return [f"  {name:{INDENT}} {value}" for name, value in entries]


def inner_lines(layers: Sequence[LayerError], ranges: Sequence[TensorRange], images: int) -> list[str]:
    """The largest losses: layers, and the quantised activations that fit their range worst."""
    lines = [f"inside, on {counted(images, 'image')} (SQNR against the reference, dB):"]
    lines += [
        f"  {layer.operator:8} {layer.name:34} {_decibels(layer.before)} -> {_decibels(layer.sqnr)}"
        for layer in sorted(layers, key=lambda each: each.drop, reverse=True)[:SHOWN]
    ]
    if ranges:
        lines.append("coarsest activations (SQNR of their own rounding, dB; share clipped, now and in calibration):")
    for use in sorted(ranges, key=lambda each: each.sqnr)[:SHOWN]:
        then = "?" if use.expected is None else f"{100 * use.expected:.4f} %"
        lines.append(
            f"  {use.tensor:43} {_decibels(use.sqnr)}   {100 * use.saturated:.4f} %  {then}"
            f"   {100 * use.used:.0f} % of the range used"
        )
    return lines


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """The diagnosis, a line per verdict."""
    return [f"{verdict.severity}: {verdict.text} [{verdict.cause}]" for verdict in verdicts]


def as_json(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """The value with infinities and NaN, which JSON lacks, as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: as_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(entry) for entry in value]
    return value


def _accuracies(prefix: str, answers: Answers, classes_given: int) -> list[tuple[str, str]]:
    top5 = str(answers.accuracy5)
    if classes_given < TOP:
        top5 = f"not measured: the model returns {classes_given} classes per image"
    return [(f"{prefix}top-1", str(answers.accuracy1)), (f"{prefix}top-5", top5)]


def _interval(ends: tuple[float, float], digits: int) -> str:
    if not all(math.isfinite(end) for end in ends):
        return ""
    return f" (95 % interval {ends[0]:.{digits}f} to {ends[1]:.{digits}f})"


def _decibels(value: float | None) -> str:
    return "image" if value is None else f"{value:5.1f}"
