"""Runs the steps of a deployment, skips unchanged ones, and writes the report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from googlenet_deploy.deployment.config import DeployConfig
from googlenet_deploy.deployment.gates import check_gates, what_to_try
from googlenet_deploy.deployment.job import Job, Step
from googlenet_deploy.deployment.records import EVALUATION, EvaluationRecord
from googlenet_deploy.deployment.report_data import Reporting
from googlenet_deploy.deployment.state import StepRecord, clear_leftovers, fingerprint_of
from googlenet_deploy.deployment.steps.benchmark import BenchmarkHere
from googlenet_deploy.deployment.steps.build import Build
from googlenet_deploy.deployment.steps.bundle import Bundle
from googlenet_deploy.deployment.steps.calibrate import Calibrate, Quantize
from googlenet_deploy.deployment.steps.estimate import EstimateBounds
from googlenet_deploy.deployment.steps.evaluate import Evaluate
from googlenet_deploy.deployment.steps.export import Export, ExportHalf
from googlenet_deploy.deployment.steps.images import DivideImages
from googlenet_deploy.device.files import exclusive, sha256_file
from googlenet_deploy.device.text import log_note
from googlenet_deploy.errors import GateError, GoogLeNetDeployError, VerificationError
from googlenet_deploy.quantization.accuracy_probe import RUINED_REMEDY, is_ruined
from googlenet_deploy.report.results import GateResult, StepResult
from googlenet_deploy.report.text import plural

STEPS: tuple[Step, ...] = (
    DivideImages(), Export(), ExportHalf(), Calibrate(), Quantize(), Evaluate(), EstimateBounds(), BenchmarkHere(),
    Build(), Bundle(),
)  # fmt: skip
GATED = "evaluate"  # the step after which the gates are checked
BUNDLE = "bundle"
LOCK = ".lock"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Deployment:
    """A completed deployment.

    Attributes:
        rows: The steps with their outcomes.
        gates: The limits, all of which hold.
        notes: Notes for the user.
        folder: The folder with all files.
    """

    rows: tuple[StepResult, ...]
    gates: tuple[GateResult, ...]
    notes: tuple[str, ...]
    folder: Path


def deploy(
    config: DeployConfig, say: Say = log_note, *, quiet: bool = False, steps: tuple[Step, ...] = STEPS
) -> Deployment:
    """Runs all steps, or the remaining ones.

    Args:
        config: The configuration.
        say: Called with a line for every completed step and for notes.
        quiet: Show no progress within a step.
        steps: The steps in their order.

    Raises:
        UsageError: The configuration is invalid, or its target does not exist.
        GateError: A gate does not hold; the report has the details.
        GoogLeNetDeployError: A step failed; earlier steps are kept, and the same call resumes there.
    """
    config, target, changes = config.resolved()
    with _lock(Path(config.output)):
        job = Job(config, target, quiet=quiet)  # it reads the progress, which only the holder of the lock changes
        for line in (*changes, *([job.state.note] if job.state.note else [])):
            say(f"note: {line}")
        left = clear_leftovers(job.folder)
        if left:
            say(f"note: {plural(left, 'unfinished file')} of a run that was killed went away")
        return _run(job, steps, changes, say)


def _run(job: Job, steps: tuple[Step, ...], changes: tuple[str, ...], say: Say) -> Deployment:
    rows: list[StepResult] = []
    notes = list(changes)
    gates: tuple[GateResult, ...] = ()
    for step in steps:
        row, remarks = perform(step, job)
        rows.append(row)
        say(line_of(row))
        remarks += _refuse_ruined(job) if step.name == GATED else ()
        for remark in remarks:
            say(f"           note: {remark}")
        notes += [remark for remark in remarks if remark not in notes]
        if step.name == GATED:
            gates = check_gates(job)
            _stop_at_gate(job, gates, rows, notes, say)
    report = Reporting(job, tuple(rows), gates, tuple(notes))
    say(line_of(write_report(job, report)))
    return Deployment(tuple(rows), gates, tuple(notes), job.folder)


def perform(step: Step, job: Job) -> tuple[StepResult, tuple[str, ...]]:
    """Runs one step, unless it is done or not needed; returns its row for the list, and its notes."""
    why = step.left_out(job)
    if why:
        job.state.forget(step.name, remove=True)
        return StepResult(step.name, "left out", 0.0, why), ()
    fingerprint = fingerprint_of(step.name, step.inputs(job))
    if job.state.is_done(step.name, fingerprint):
        record = job.state.records[step.name]
        return StepResult(step.name, "unchanged", record.seconds, record.text), record.notes
    earlier = job.state.records.get(step.name)
    job.state.forget(step.name)
    start = time.perf_counter()
    try:
        outcome = step.run(job)
    except GoogLeNetDeployError as error:
        if isinstance(error, VerificationError):
            job.state.withdraw(earlier, job.state.records.get(BUNDLE))
        error.remedy = error.remedy or "fix this and rerun the same command; it resumes here"
        error.message = f"step {step.name}: {error.message}"
        raise
    seconds = time.perf_counter() - start
    outputs = {name: sha256_file(job.path(name)) for name in outcome.outputs}
    record = StepRecord(fingerprint, outputs, seconds, outcome.text, tuple(outcome.notes), dict(outcome.data))
    job.state.add(step.name, record)
    return StepResult(step.name, "done", seconds, outcome.text), tuple(outcome.notes)


def line_of(row: StepResult) -> str:
    """One step as a line for a terminal."""
    times = {"done": f"{row.seconds:7.1f} s", "unchanged": "unchanged", "left out": " left out"}
    return f"{times.get(row.outcome, row.outcome):>9}  {row.name:10} {row.text}"


def write_report(job: Job, report: Reporting) -> StepResult:
    """Renders the report, unless nothing has changed since it was written."""
    fingerprint = report.fingerprint()
    record = job.state.records.get("report")
    if record is not None and job.state.is_done("report", fingerprint):
        return StepResult("report", "unchanged", record.seconds, record.text)
    start = time.perf_counter()
    outputs = report.write()
    seconds = time.perf_counter() - start
    hashes = {name: sha256_file(job.path(name)) for name in outputs}
    job.state.add("report", StepRecord(fingerprint, hashes, seconds, ", ".join(outputs)))
    return StepResult("report", "done", seconds, ", ".join(outputs))


def _stop_at_gate(job: Job, gates: tuple[GateResult, ...], rows: list[StepResult], notes: list[str], say: Say) -> None:
    """Stops at the first gate that does not hold, with a report of everything so far."""
    broken = next((gate for gate in gates if not gate.holds), None)
    if broken is None:
        return
    job.state.forget(BUNDLE, remove=True)  # a deployment that fails a gate must not be used
    say(line_of(write_report(job, Reporting(job, tuple(rows), gates, tuple(notes)))))
    message = f"{broken.name} is {broken.found}, required is {broken.required}"
    raise GateError(message, what_to_try(job, broken))


def _refuse_ruined(job: Job) -> tuple[str, ...]:
    """Refuses an INT8 model that the evaluation images show to be ruined; its files and the bundle are removed.

    The step that quantises measures on a few images only. If the model is to be kept, the warning is returned.

    Raises:
        VerificationError: The model is ruined, and is not to be kept.
    """
    figures = job.load(EvaluationRecord, EVALUATION).variants.get("int8")
    if figures is None or figures.agreement is None:
        return ()
    sqnr = math.inf if figures.sqnr is None else figures.sqnr
    if not is_ruined(sqnr, [figures.agreement]):
        return ()
    found = f"{figures.agreement.percent:.1f} % agreement, {sqnr:.1f} dB against FP32"
    what = f"the INT8 model is ruined: {found} on {figures.agreement.total} images"
    if job.config.keep_doubtful:
        return (what,)
    job.state.withdraw(job.state.records.get("quantize"), job.state.records.get(BUNDLE))
    raise VerificationError(f"{what}; it was removed", RUINED_REMEDY)


def _lock(folder: Path) -> AbstractContextManager[None]:
    """Locks the folder against a second deployment."""
    busy, remedy = "another deployment is at work in it", "wait for it, or use another --output"
    return exclusive(folder / LOCK, folder, busy, remedy, keep=True)
