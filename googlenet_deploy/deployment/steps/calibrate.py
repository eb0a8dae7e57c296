"""Calibration of the FP32 model, and the INT8 model that is made with it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from googlenet_deploy.deployment.job import FP32, INT8, OUTLINES, TABLE, Job, Outcome, Step

STATE = "calibration.state"


class Calibrate(Step):
    """``table.json``, and small histograms of the activations for the report."""

    name = "calibrate"

    def left_out(self, job: Job) -> str:
        """Where INT8 is not deployed."""
        return "" if job.config.precision == "int8" else f"{job.config.precision.upper()} is deployed"

    def inputs(self, job: Job) -> dict[str, Any]:
        """The model, the calibration images, the method."""
        return {
            "model": job.state.hash_of(FP32),
            "images": job.state.hash_of("images.json"),
            "method": job.config.method,
        }

    def run(self, job: Job) -> Outcome:
        """Makes one pass over the calibration images; an interrupted one goes on where it stopped."""
        from googlenet_deploy.calibration.batches import ImageSelection  # noqa: PLC0415 - ONNX Runtime
        from googlenet_deploy.calibration.calibrate import (  # noqa: PLC0415
            CalibrationOptions,
            calibrate,
            discard_state,
            open_source,
        )
        from googlenet_deploy.device.files import write_json  # noqa: PLC0415

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
        text = f"{len(result.table.records)} ranges from {result.table.images.count} images{tail}"
        data = {"images": result.table.images.count}
        return Outcome((TABLE, OUTLINES), text, data, (*result.warnings, *notes))


class Quantize(Step):
    """``model.int8.onnx``: Q/DQ pairs where TensorRT wants them, linted by its rules."""

    name = "quantize"

    def left_out(self, job: Job) -> str:
        """Where INT8 is not deployed."""
        return "" if job.config.precision == "int8" else f"{job.config.precision.upper()} is deployed"

    def inputs(self, job: Job) -> dict[str, Any]:
        """The model and its table."""
        return {"model": job.state.hash_of(FP32), "table": job.state.hash_of(TABLE)}

    def run(self, job: Job) -> Outcome:
        """Quantises; the comparison with FP32 is the evaluation's."""
        from googlenet_deploy.calibration.calibrate import open_source  # noqa: PLC0415 - ONNX Runtime
        from googlenet_deploy.calibration.quantize import QuantizationOptions, quantize  # noqa: PLC0415
        from googlenet_deploy.calibration.table import load_table  # noqa: PLC0415
        from googlenet_deploy.export.onnx_file import write_model  # noqa: PLC0415

        table = load_table(job.path(TABLE))
        result = quantize(open_source(job.path(FP32)), table, None, QuantizationOptions(checked=0))
        write_model(job.path(INT8), result.model)
        plan = result.draft.plan
        data = {
            "layers": len(plan.nodes),
            "float_layers": dict(plan.skipped),
            "findings": [finding.text() for finding in result.findings],
        }
        left = f", {len(plan.skipped)} layers in floating point" if plan.skipped else ""
        text = f"{len(plan.nodes)} layers INT8 with {len(plan.groups)} activation scales{left}"
        return Outcome((INT8,), text, data, tuple(finding.text() for finding in result.findings))
