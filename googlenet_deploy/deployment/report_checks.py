"""What was verified on the way, and what was not and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from googlenet_deploy.deployment.diagnosis import first_problem
from googlenet_deploy.deployment.job import Job
from googlenet_deploy.evaluation.evidence import FINE
from googlenet_deploy.evaluation.paired import SIGNIFICANT
from googlenet_deploy.report.outcomes import Check, Missing, Step
from googlenet_deploy.report.text import plural

_WHAT = {"export": "FP32 ONNX", "fp16": "FP16 ONNX"}


def checks(job: Job, rows: tuple[Step, ...]) -> tuple[Check, ...]:
    """Everything that was held against something else, in the order in which it was."""
    found: list[Check] = []
    done = {row.name for row in rows if row.outcome in ("done", "unchanged")}
    for step, what in _WHAT.items():
        entries = job.data(step).get("comparisons", []) if step in done else []
        found += [Check(f"{what} equals {entry['against']}", entry["holds"], entry["text"]) for entry in entries]
    images = job.data("images")
    if images["calibration"]:
        both = {*images["calibration"], *images["choosing"]} & set(images["evaluation"])
        text = f"{len(images['calibration'])} and {len(images['evaluation'])} images, {len(both) or 'none'} in both"
        found.append(Check("Calibration and evaluation images differ", not both, text))
    if "quantize" in done:
        findings = job.data("quantize")["findings"]
        text = "; ".join(findings) if findings else "nothing that TensorRT would refuse"
        found.append(Check("INT8 model keeps TensorRT's rules", True, text))
    found += _accuracy(job) if "evaluate" in done else []
    if "build" in done and job.data("build")["check"]:
        found.append(Check("NVIDIA's parser takes the model", True, job.data("build")["check"]))
    if "bundle" in done:
        found.append(
            Check("Bundle's self-test", True, f"{job.data('bundle')['files']} files; passes in an empty folder")
        )
    return tuple(found)


def _accuracy(job: Job) -> list[Check]:
    found = []
    evaluation = job.data("evaluate")
    difference = evaluation["variants"][job.config.precision].get("difference")
    if difference is not None:
        worse = difference["points"] < 0 and difference["p_value"] < SIGNIFICANT
        text = (
            f"{difference['points']:+.2f} points: {plural(difference['gained'], 'image')} gained and "
            f"{difference['lost']} lost, McNemar p = {difference['p_value']:.2g}"
        )
        found.append(Check("No more is lost to FP32 than chance explains", not worse, text))
    if job.config.precision == "int8":
        fine = next((entry["text"] for entry in evaluation["int8"]["verdicts"] if entry["severity"] == FINE), "")
        text = fine or first_problem(evaluation["int8"])
        found.append(Check("INT8 is as near to FP32 as INT8 usually is", bool(fine), text))
    return found


def missing(job: Job, rows: tuple[Step, ...], estimate: Mapping[str, Any]) -> tuple[Missing, ...]:
    """What the report does not have, with the reason, as the report's sections ask for it."""
    reached = {row.name for row in rows}
    stopped = "a gate did not hold, so the deployment stopped before it"
    found: list[Missing] = []
    if not job.data("images")["labels"]:
        found.append(Missing("accuracy", "the images have no labels"))
    if job.config.precision == "fp32":
        found.append(Missing("agreement", "FP32 is what the others would be compared with"))
        found.append(Missing("disagreements", "there is only one precision"))
    if job.config.precision != "int8":
        reason = f"{job.config.precision.upper()} is deployed, which needs no calibration"
        found += [Missing("histograms", reason), Missing("layer SQNR", reason), Missing("sensitivity", reason)]
    elif not job.config.sensitivity and not job.config.budget:
        found.append(Missing("sensitivity", "it was switched off"))
    if "estimate" not in reached:
        found += [Missing(part, stopped) for part in ("layers", "memory", "bounds", "latency")]
    elif estimate.get("why"):
        found.append(Missing("bounds", estimate["why"]))
    found += _measurements(job, rows, reached, stopped)
    return tuple(found)


def _measurements(job: Job, rows: tuple[Step, ...], reached: set[str], stopped: str) -> list[Missing]:
    on_device = "no device is at hand: run `benchmark` of the bundle on it"
    found = [
        Missing("latency on the device", on_device),
        Missing("energy on the device", on_device),
        Missing("layer times", "no engine ran here"),
    ]
    left_out = {row.name: row.text for row in rows if row.outcome == "left out"}
    if "benchmark" in left_out:
        found.append(Missing("latency", f"the benchmark on this machine was left out: {left_out['benchmark']}"))
    if "build" in reached and not job.data("build")["engine"]:
        found.append(Missing("engine", f"it is built on the device: {job.data('build')['why']}"))
    if "bundle" not in reached:
        found.append(Missing("bundle", stopped))
    return found
