"""Calibration of the FP32 model, and the resulting INT8 model."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from googlenet_deploy.deployment.job import FP32, INT8, OUTLINES, TABLE, Job, Outcome, Step
from googlenet_deploy.deployment.records import QUANTIZATION, BudgetOutcome, QuantizationRecord
from googlenet_deploy.device.files import write_json
from googlenet_deploy.device.json_decode import decode, encode
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import UsageError
from googlenet_deploy.quantization.refine.registry import parse_refinements, refinement_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from googlenet_deploy.quantization.mixed_precision.choose import PrecisionChoice
    from googlenet_deploy.quantization.quantize import HoldOutImages, QuantizationOptions

STATE = "calibration.state"
# Hold-out images for a budget, and for ranking layers.
HOLD_OUT, RANKING = 256, 32
NOT_COMPARED = "the result was not compared"  # which the step "evaluate" does
# Without a budget at most every fourth calibration image is withheld from the refinements.
SPARE = 4


class Calibrate(Step):
    """``table.json``, and small histograms of the activations for the report."""

    name = "calibrate"

    def left_out(self, job: Job) -> str:
        """If INT8 is not deployed."""
        return "" if job.config.precision == "int8" else f"{job.config.precision.upper()} is deployed"

    def inputs(self, job: Job) -> dict[str, Any]:
        """The model, the calibration images, the method."""
        return {
            "model": job.state.hash_of(FP32),
            "images": job.state.hash_of("images.json"),
            "method": job.config.method,
        }

    def run(self, job: Job) -> Outcome:
        """Makes one pass over the calibration images; an interrupted pass is resumed."""
        from googlenet_deploy.calibration.calibrate import (  # noqa: PLC0415
            calibrate,
            discard_state,
            open_source,
        )
        from googlenet_deploy.calibration.images import ImageSelection  # noqa: PLC0415
        from googlenet_deploy.calibration.options import CalibrationOptions  # noqa: PLC0415

        options = CalibrationOptions(
            method=job.config.method, threads=job.threads, state=str(job.path(STATE)), quiet=job.quiet
        )
        selection = ImageSelection(tuple(job.sources(job.data("images")["calibration"])), ())
        result = calibrate(open_source(job.path(FP32)), selection, options)
        result.table.save(job.path(TABLE))
        write_json(job.path(OUTLINES), {name: asdict(shape) for name, shape in result.outlines.items()})
        discard_state(options)
        notes = [f"calibration skipped {item.name}: {item.reason}" for item in result.skipped]
        worst = min(
            (record for record in result.table.records if "auto" in record.errors),
            key=lambda record: record.errors["auto"],
            default=None,
        )
        tail = f"; worst tensor {worst.members[0]}, {worst.errors['auto']:.1f} dB" if worst is not None else ""
        text = f"{counted(len(result.table.records), 'range')} from {counted(result.table.images.count, 'image')}{tail}"
        data = {"images": result.table.images.count, "skipped": [item.name for item in result.skipped]}
        return Outcome((TABLE, OUTLINES), text, data, (*result.warnings, *notes))


class Quantize(Step):
    """``model.int8.onnx``: Q/DQ pairs placed for TensorRT and linted by its rules; ``quantization.json``."""

    name = "quantize"

    def left_out(self, job: Job) -> str:
        """If INT8 is not deployed."""
        return "" if job.config.precision == "int8" else f"{job.config.precision.upper()} is deployed"

    def inputs(self, job: Job) -> dict[str, Any]:
        """The model and its table, the budget, and the hold-out images."""
        refinements = parse_refinements(job.config.refine)
        return {
            "model": job.state.hash_of(FP32),
            "table": job.state.hash_of(TABLE),
            "refine": refinements,
            "budget": dict(job.config.budget),
            "sensitivity": job.config.sensitivity,
            "keep_doubtful": job.config.keep_doubtful,
            "images": job.state.hash_of("images.json"),
        }

    def run(self, job: Job) -> Outcome:
        """Quantises with the fewest layers in floating point that meet the budget; evaluation compares with FP32."""
        from googlenet_deploy.calibration.calibrate import open_source  # noqa: PLC0415
        from googlenet_deploy.calibration.images import ImageSelection  # noqa: PLC0415
        from googlenet_deploy.calibration.table import load_table  # noqa: PLC0415
        from googlenet_deploy.graph.files import write_model  # noqa: PLC0415 - PyTorch only where work is done
        from googlenet_deploy.quantization.quantize import quantize  # noqa: PLC0415

        table, options = load_table(job.path(TABLE)), self._options(job)
        refining, held_out = divide(self._calibrated_on(job), job.data("images")["choosing"])
        hold_out = self._hold_out_images(job, held_out)
        selection = ImageSelection(tuple(job.sources(refining)), ())
        _, after = refinement_steps(parse_refinements(job.config.refine), threads=job.threads, quiet=job.quiet)
        source = open_source(job.path(FP32))
        result = quantize(source, table, selection, options, after=after, hold_out=hold_out)
        write_model(job.path(INT8), result.model)
        plan, precision = result.quantized.plan, result.precision
        findings = tuple(finding.text() for finding in result.findings)
        known = {*source.notes, *(precision.warnings if precision is not None else ())}
        doubts = tuple(each for each in result.warnings if each not in known and not each.startswith(NOT_COMPARED))
        write_json(job.path(QUANTIZATION), encode(replace(_record(findings, precision), doubts=doubts)))
        left = f", {counted(len(plan.skipped), 'layer')} in floating point" if plan.skipped else ""
        refined = "".join(f"; {name}: {note}" for name, note in result.quantized.notes.items())
        text = f"{counted(len(plan.nodes), 'layer')} INT8 with {len(plan.groups)} activation scales{left}{refined}"
        warnings = precision.warnings if precision is not None else ()
        return Outcome((INT8, QUANTIZATION), text, notes=(*findings, *warnings, *doubts))

    def _options(self, job: Job) -> QuantizationOptions:
        from googlenet_deploy.calibration.options import CalibrationOptions  # noqa: PLC0415
        from googlenet_deploy.quantization.mixed_precision.search import Budget  # noqa: PLC0415
        from googlenet_deploy.quantization.qdq_insert import QdqOptions, weights_for  # noqa: PLC0415
        from googlenet_deploy.quantization.quantize import QuantizationOptions  # noqa: PLC0415

        config = job.config
        return QuantizationOptions(
            qdq=QdqOptions(weights_for(job.target)),
            calibration=CalibrationOptions(quiet=job.quiet),
            checked=HOLD_OUT if config.budget else RANKING,
            budgets=tuple(Budget(name, limit) for name, limit in config.budget.items()),
            ranked=config.sensitivity,
            keep_doubtful=config.keep_doubtful,
        )

    def _calibrated_on(self, job: Job) -> list[str]:
        """The calibration images that could be read."""
        skipped = {str(path) for path in job.data("calibrate").get("skipped", ())}
        names = job.data("images")["calibration"]
        return [name for name, source in zip(names, job.sources(names), strict=True) if source.name not in skipped]

    def _hold_out_images(self, job: Job, names: Sequence[str]) -> HoldOutImages:
        """The hold-out images, with their labels for a budget of top-1."""
        from googlenet_deploy.calibration.images import ImageSelection  # noqa: PLC0415
        from googlenet_deploy.quantization.quantize import HoldOutImages  # noqa: PLC0415

        images = job.data("images")
        sources = job.sources(names)
        labels = {
            source.name: int(images["labels"][name])
            for source, name in zip(sources, names, strict=True)
            if name in images["labels"]
        }
        by_top1 = "top1" in job.config.budget
        if by_top1 and not labels:
            raise UsageError("a budget of top1 needs labels", "pass --labels, or a budget of agreement or sqnr")
        return HoldOutImages(ImageSelection((), tuple(sources)), labels if by_top1 else None)


def divide(calibration: Sequence[str], choosing: Sequence[str]) -> tuple[list[str], list[str]]:
    """The images that refinements use, and the hold-out images.

    Args:
        calibration: Calibration images.
        choosing: Images set apart for a budget; without any, the last calibration images are held out, at most a
            quarter of them. If there are too few to spare one, they serve as both.
    """
    if choosing:
        return list(calibration), list(choosing)
    spare = min(RANKING, len(calibration) // SPARE)
    kept = len(calibration) - spare
    return list(calibration[:kept]), list(calibration[kept:] or calibration)


def _record(findings: tuple[str, ...], precision: PrecisionChoice | None) -> QuantizationRecord:
    """The record for later steps and the report; layers whose quantisation changes nothing are left out."""
    if precision is None:
        return QuantizationRecord(findings)
    return QuantizationRecord(
        findings=findings,
        sensitivity=tuple(layer for layer in precision.layers if math.isfinite(layer.sqnr)),
        kept=tuple(precision.kept),
        budget=decode(BudgetOutcome, encode(precision.summary())) if precision.budgets else None,
    )
