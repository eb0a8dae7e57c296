"""The limits that a deployment must keep, and what to try where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from googlenet_deploy.deployment.config import GATES
from googlenet_deploy.deployment.job import FP32, MODELS, Job
from googlenet_deploy.deployment.steps.evaluate import first_problem
from googlenet_deploy.report.results import Gate

BUDGET = "budget"
_TITLES = {"top1": "top-1", "top5": "top-5", "agreement": "agreement", "sqnr": "SQNR", "loss": "loss of top-1"}


def check_gates(job: Job) -> tuple[Gate, ...]:
    """Holds the evaluation's figures against every limit, in the order of `GATES`.

    A figure that was not measured, as accuracy without labels, does not hold.
    """
    figures = figures_of(job.data("evaluate")["variants"], job.config.precision)
    gates = []
    for name, (unit, sense) in GATES.items():
        if name not in job.config.gates or not _applies(name, job):
            continue
        limit, value = job.config.gates[name], figures.get(name)
        if value is None:
            holds, found = False, "not measured"
        else:
            holds = value >= limit if sense == "at least" else value <= limit
            found = f"{value:.2f} {unit}"
        gates.append(Gate(_TITLES[name], f"{sense} {limit:g} {unit}", found, holds))
    return (*budget_gates(job), *gates)


def budget_gates(job: Job) -> tuple[Gate, ...]:
    """The budget that layers were left in floating point for, as it was judged when they were chosen."""
    precision = job.data("quantize").get("precision") or {}
    summary = precision.get("budget")
    if not summary:
        return ()
    limits = ", ".join(f"{name}={limit:g}" for name, limit in summary["wanted"].items())
    share = 100 * summary["float_multiply_adds"]
    found = f"{'; '.join(summary['reached'])}, {share:.1f} % of the multiply-adds in floating point"
    return (Gate(BUDGET, limits, found, bool(summary["holds"])),)


def figures_of(variants: Mapping[str, Any], precision: str) -> dict[str, float]:
    """The figures that gates name, of the deployed precision; those that were measured."""
    deployed, found = variants[precision], dict[str, float]()
    for name in ("top1", "top5", "agreement"):
        share = deployed.get(name)
        if share is not None:
            found[name] = 100.0 * share["successes"] / share["total"]
    if "agreement" in deployed:
        sqnr = deployed["sqnr"]
        found["sqnr"] = float("inf") if sqnr is None else sqnr
    if "difference" in deployed:
        found["loss"] = -deployed["difference"]["points"]
    return found


def what_to_try(job: Job, gate: Gate) -> str:
    """A remedy for the first gate that does not hold."""
    if gate.found == "not measured":
        return "give --labels with a CSV of filename,label, or a folder per class"
    precision = job.config.precision
    if gate.name == BUDGET:
        return "not even with nearly all layers in floating point: ask for less, or deploy --precision fp16"
    if precision == "fp32":
        return "these are the weights' own answers: train further, or ask for less"
    problem = first_problem(job.data("evaluate").get("int8", {})) if precision == "int8" else ""
    if problem:
        return f"{problem}; the report has the layers: {job.path('report.html')}"
    where = f"googlenet-deploy evaluate {job.path(MODELS[precision])} --reference {job.path(FP32)}"
    ways = {"int8": "more calibration images, --budget agreement=98, or --precision fp16", "fp16": "--precision fp32"}
    return f"{where} says where it is lost; try {ways[precision]}; the report has the layers: {job.path('report.html')}"


def _applies(name: str, job: Job) -> bool:
    """FP32 has nothing to be compared with."""
    return name in ("top1", "top5") or job.config.precision != "fp32"
