"""The checks made, reasons for doubting the result, and missing parts."""

from __future__ import annotations

from collections.abc import Iterable

from googlenet_deploy.deployment.job import Job
from googlenet_deploy.deployment.records import (
    ESTIMATE,
    EVALUATION,
    QUANTIZATION,
    EstimateRecord,
    EvaluationRecord,
    QuantizationRecord,
)
from googlenet_deploy.evaluation.diagnosis import FEW_CALIBRATION_IMAGES, NOTE, WIDE_POINTS
from googlenet_deploy.evaluation.statistics import PairedDifference, Proportion
from googlenet_deploy.report.results import CheckResult, Doubt, GateResult, Missing, StepResult
from googlenet_deploy.report.text import plural

_WHAT = {"export": "FP32 ONNX", "fp16": "FP16 ONNX"}
# A comparison that could not detect a top-1 loss of this many points is not a check.
SHOWN_LOSS = 5.0
SKIPPED_SHARE = 0.05
# Rules of the diagnosis that `_few_images` and `_calibration` restate in the report's own terms.
_TOLD_ELSEWHERE = ("few images", "calibration images")


def checks(job: Job, rows: Iterable[StepResult]) -> tuple[CheckResult, ...]:
    """All comparisons, in the order in which they were made."""
    found: list[CheckResult] = []
    done = {row.name for row in rows if row.outcome in ("done", "unchanged")}
    for step, what in _WHAT.items():
        entries = job.data(step).get("comparisons", []) if step in done else []
        found += [CheckResult(f"{what} equals {entry['against']}", entry["holds"], entry["text"]) for entry in entries]
    images = job.data("images")
    if images["calibration"]:
        both = {*images["calibration"], *images["choosing"]} & set(images["evaluation"])
        text = f"{len(images['calibration'])} and {len(images['evaluation'])} images, {len(both) or 'none'} in both"
        found.append(CheckResult("Calibration and evaluation images differ", not both, text))
    if "quantize" in done:
        findings = job.load(QuantizationRecord, QUANTIZATION).findings
        text = "; ".join(findings) if findings else "nothing that TensorRT would refuse"
        found.append(CheckResult("INT8 model keeps TensorRT's rules", True, text))
    found += _accuracy(job) if "evaluate" in done else []
    if "build" in done and job.data("build")["check"]:
        found.append(CheckResult("NVIDIA's parser accepts the model", True, job.data("build")["check"]))
    if "bundle" in done:
        text = f"{job.data('bundle')['files']} files; passes in an empty folder"
        found.append(CheckResult("Bundle's self-test", True, text))
    return tuple(found)


def _accuracy(job: Job) -> list[CheckResult]:
    found = []
    record = job.load(EvaluationRecord, EVALUATION)
    figures = record.variants[job.config.precision]
    if figures.top1 is not None:
        wrong = record.wrong_labels
        text = wrong or "no other order of classes explains the errors better"
        found.append(CheckResult("The labels fit the model's classes", not wrong, text))
    change = figures.difference
    if change is not None:
        worse = change.points < 0 and change.is_significant
        text = (
            f"{change.points:+.2f} points: {plural(change.gained, 'image')} gained and {change.lost} lost, "
            f"McNemar p = {change.p_value:.2g}"
        )
        why = "" if worse else _blind(change)
        found.append(CheckResult("No more is lost to FP32 than chance explains", not worse, text, why))
    if job.config.precision == "int8":
        fine = next((each.text for each in record.verdicts if each.cause == "sound"), "")
        text = fine or record.first_problem
        found.append(CheckResult("INT8 is as near to FP32 as INT8 usually is", record.is_sound, text))
    return found


def _blind(change: PairedDifference) -> str:
    """Why the test for a loss could not have failed on so few images; empty if it could."""
    least = change.least_significant_loss
    if least <= SHOWN_LOSS:
        return ""
    return f"{plural(change.total, 'image')} would show only losses of {least:.1f} points or more"


def doubts(job: Job, gates: Iterable[GateResult]) -> tuple[Doubt, ...]:
    """Reasons for doubting the result, with remedies; empty without any."""
    record = job.load(EvaluationRecord, EVALUATION)
    found = [Doubt("INT8 is doubtful", each, "") for each in job.load(QuantizationRecord, QUANTIZATION).doubts]
    found += [*_half(job), *_calibration(job), *_evaluation(job, record, gates)]
    given, skipped = record.images + len(record.skipped), len(record.skipped)
    if skipped > SKIPPED_SHARE * given:
        name = f"{plural(skipped, 'unreadable image')}"
        text = f"{skipped} of {given} evaluation images could not be read"
        found.append(Doubt(name, text, "replace them and run again"))
    if job.config.precision == "int8":
        notes = [each for each in record.verdicts if each.severity == NOTE and each.cause not in _TOLD_ELSEWHERE]
        found += [Doubt(each.cause, *_halves(each.text)) for each in notes]
    return tuple(found)


def _half(job: Job) -> list[Doubt]:
    """A network that FP16 does not suit, although TensorRT may compute in FP16 what is not in INT8."""
    differs = job.data("fp16").get("differs", "")
    if not differs:
        return []
    text = f"layers that are not in INT8 may run in FP16 on the device, and the network in FP16 {differs}"
    return [Doubt("FP16 does not suit the network", text, "measure the accuracy of the engine on the device")]


def _calibration(job: Job) -> list[Doubt]:
    count = len(job.data("images")["calibration"])
    if not 0 < count < FEW_CALIBRATION_IMAGES:
        return []
    text = f"only {plural(count, 'image')} calibrated the INT8 ranges, which may not hold for other images"
    name = f"only {plural(count, 'calibration image')}"
    return [
        Doubt(name, text, "calibrate on about 256 photographs like those of the camera (more of them in `--images`)")
    ]


def _evaluation(job: Job, record: EvaluationRecord, gates: Iterable[GateResult]) -> list[Doubt]:
    """How much can be concluded from the evaluation images."""
    figures = record.variants[job.config.precision]
    found = []
    share, what = (figures.agreement, "agreement with FP32") if figures.top1 is None else (figures.top1, "top-1")
    spread, subject = _spread(share, figures.difference, what)
    vague = [f"{gate.name} {gate.required}" for gate in gates if gate.inconclusive]
    if spread > WIDE_POINTS / 2 or vague:
        text = (
            f"{plural(record.images, 'evaluation image')} show {subject} to \N{PLUS-MINUS SIGN}{spread:.1f} points only"
        )
        text += f" and cannot show {' or '.join(vague)}" if vague else ""
        name = f"only {plural(record.images, 'evaluation image')}"
        found.append(Doubt(name, text, "evaluate on several hundred images that calibration does not use"))
    if figures.top1 is None:
        text = "the images have no labels, so only the agreement with FP32 is known"
        found.append(Doubt("accuracy is unknown", text, "pass `--labels`, or a folder per class"))
    return found


def _spread(share: Proportion | None, change: PairedDifference | None, what: str) -> tuple[float, str]:
    if change is not None:
        return (change.high - change.low) / 2, "the change of top-1 against FP32"
    return (0.0, what) if share is None else ((share.high - share.low) / 2, what)


def _halves(text: str) -> tuple[str, str]:
    """A verdict's text, and its advice: the last sentence if it has several."""
    said, dot, advice = text.rpartition(". ")
    return (said, advice) if dot else (text, "")


def missing(job: Job, rows: Iterable[StepResult], *, measured: bool) -> tuple[Missing, ...]:
    """The parts missing from the report, with the reasons, by the names that its sections use.

    Args:
        job: The deployment.
        rows: The steps that were done, reused or left out.
        measured: Whether device results were given.
    """
    rows = tuple(rows)
    reached = {row.name for row in rows}
    stopped = "a gate failed, so the deployment stopped before it"
    found: list[Missing] = []
    if not job.data("images")["labels"]:
        found += [Missing(part, "the images have no labels") for part in ("accuracy", "errors by class")]
    if job.config.precision == "fp32":
        found.append(Missing("agreement", "FP32 is what the others would be compared with"))
        found.append(Missing("disagreements", "there is only one precision"))
    if job.config.precision != "int8":
        reason = f"{job.config.precision.upper()} is deployed, which needs no calibration"
        found += [Missing(part, reason) for part in ("histograms", "layer SQNR", "sensitivity")]
    elif not job.config.sensitivity and not job.config.budget:
        found.append(Missing("sensitivity", "it was switched off"))
    if "estimate" not in reached:
        found += [Missing(part, stopped) for part in ("layers", "memory", "bounds", "latency")]
    elif why := job.load(EstimateRecord, ESTIMATE).why:
        found.append(Missing("bounds", why))
    found += _measurements(job, rows, reached, stopped, measured=measured)
    return tuple(found)


def _measurements(
    job: Job, rows: tuple[StepResult, ...], reached: set[str], stopped: str, *, measured: bool
) -> list[Missing]:
    on_device = "no device is available here: run `benchmark --json` on it, then `deploy --device-results`"
    parts = () if measured else ("latency on the device", "energy on the device")
    found = [Missing(part, on_device) for part in parts]
    found.append(Missing("layer times", "no engine ran here"))
    left_out = {row.name: row.text for row in rows if row.outcome == "left out"}
    if "benchmark" in left_out and not measured:
        found.append(Missing("latency", f"the benchmark on this machine was left out: {left_out['benchmark']}"))
    if "build" in reached and not job.data("build")["engine"]:
        found.append(Missing("engine", f"it is built on the device: {job.data('build')['why']}"))
    if "bundle" not in reached:
        found.append(Missing("bundle", stopped))
    return found
