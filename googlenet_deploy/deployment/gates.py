"""The limits that a deployment must meet, and what to try if it does not."""

from __future__ import annotations

import math

from googlenet_deploy.deployment.config import GATES
from googlenet_deploy.deployment.job import FP32, MODELS, Job
from googlenet_deploy.deployment.records import EVALUATION, QUANTIZATION, EvaluationRecord, QuantizationRecord
from googlenet_deploy.evaluation.statistics import PairedDifference, Proportion
from googlenet_deploy.evaluation.summary import AccuracyFigures
from googlenet_deploy.report.results import GateResult

MOST_IMAGES = 100_000  # more than anyone evaluates
BUDGET = "budget"
_TITLES = {"top1": "top-1", "top5": "top-5", "agreement": "agreement", "sqnr": "SQNR", "loss": "loss of top-1"}


def check_gates(job: Job) -> tuple[GateResult, ...]:
    """Checks the evaluation's metrics against every limit, in the order of `GATES`.

    A metric that was not measured, such as accuracy without labels, fails.
    """
    record = job.load(EvaluationRecord, EVALUATION)
    figures = values_of(record.variants[job.config.precision])
    gates = []
    for name, (unit, sense) in GATES.items():
        if name not in job.config.gates or not _applies(name, job):
            continue
        limit, value = job.config.gates[name], figures.get(name)
        required = f"{sense} {limit:g} {unit}"
        if value is None:
            gates.append(GateResult(_TITLES[name], required, "not measured", False))
            continue
        holds = value >= limit if sense == "at least" else value <= limit
        why = why_inconclusive(name, limit, record.images) if holds else ""
        gates.append(GateResult(_TITLES[name], required, f"{value:.2f} {unit}", holds, why))
    return (*budget_gates(job), *gates)


def why_inconclusive(name: str, limit: float, images: int) -> str:
    """Why a gate that holds is inconclusive with this number of images; empty if it is conclusive.

    A share or a loss is known only to its 95 % interval. If even a result without a single error leaves a value beyond
    the limit inside that interval, the gate cannot distinguish a model that meets the limit from one that does not.
    """
    if name == "sqnr":
        return ""
    needed = next((count for count in range(images, MOST_IMAGES) if _flawless(name, count) >= _wanted(name, limit)), 0)
    if needed == images:
        return ""
    kind = f"a flawless result on {images} images leaves {abs(_flawless(name, images)):.1f} {GATES[name][0]} possible"
    return f"{kind}; {needed or f'more than {MOST_IMAGES}'} images could show it"


def _flawless(name: str, images: int) -> float:
    """The worst true value still possible after a result without errors; for a loss, with reversed sign."""
    return PairedDifference(0, 0, images).low if name == "loss" else Proportion(images, images).low


def _wanted(name: str, limit: float) -> float:
    return -limit if name == "loss" else limit


def budget_gates(job: Job) -> tuple[GateResult, ...]:
    """The budget for which layers were kept in floating point, as evaluated when they were chosen."""
    budget = job.load(QuantizationRecord, QUANTIZATION).budget
    if budget is None:
        return ()
    limits = ", ".join(f"{name}={limit:g}" for name, limit in budget.wanted.items())
    share = 100 * budget.float_multiply_adds
    found = f"{'; '.join(budget.reached)}, {share:.1f} % of the multiply-adds in floating point"
    return (GateResult(BUDGET, limits, found, budget.holds),)


def values_of(figures: AccuracyFigures) -> dict[str, float]:
    """The metrics used by gates, as far as measured."""
    found = {
        name: share.percent
        for name, share in (("top1", figures.top1), ("top5", figures.top5), ("agreement", figures.agreement))
        if share is not None
    }
    if figures.agreement is not None:
        found["sqnr"] = math.inf if figures.sqnr is None else figures.sqnr
    if figures.difference is not None:
        found["loss"] = -figures.difference.points
    return found


def what_to_try(job: Job, gate: GateResult) -> str:
    """A remedy for the first gate that does not hold."""
    if gate.found == "not measured":
        return "pass --labels with a CSV of filename,label, or a folder per class"
    precision = job.config.precision
    if gate.name == BUDGET:
        return "not even with nearly all layers in floating point: ask for less, or deploy --precision fp16"
    if precision == "fp32":
        return "these are the weights' own answers: train further, or ask for less"
    problem = job.load(EvaluationRecord, EVALUATION).first_problem if precision == "int8" else ""
    if problem:
        return f"{problem}; the report has the layers: {job.path('report.html')}"
    where = f"googlenet-deploy evaluate {job.path(MODELS[precision])} --reference {job.path(FP32)}"
    ways = {"int8": "more calibration images, --budget agreement=98, or --precision fp16", "fp16": "--precision fp32"}
    return (
        f"{where} shows where it is lost; try {ways[precision]}; the report has the layers: {job.path('report.html')}"
    )


def _applies(name: str, job: Job) -> bool:
    """Whether a gate applies: FP32 has nothing to be compared with."""
    return name in ("top1", "top5") or job.config.precision != "fp32"
