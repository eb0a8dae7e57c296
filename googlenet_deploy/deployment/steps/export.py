"""Converts weights to a verified ONNX model, and that to FP16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from googlenet_deploy.deployment.job import FP16, FP32, Job, Outcome, Step
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import BadModelError, VerificationError
from googlenet_deploy.export.options import ExportOptions, HalfOptions
from googlenet_deploy.export.targets import choose_opset

if TYPE_CHECKING:
    from googlenet_deploy.export.pipeline import ExportResult

VERIFICATION_IMAGES = 16


class Export(Step):
    """``model.onnx``: FP32, compared with PyTorch on real images."""

    name = "export"

    def inputs(self, job: Job) -> dict[str, Any]:
        """The weights, and the opset, which depends on the target; not the images, which only verify the model."""
        return {"weights": job.weights_hash, "opset": choose_opset(job.target, None)}

    def run(self, job: Job) -> Outcome:
        """Exports, simplifies, verifies."""
        from googlenet_deploy.export.pipeline import export_checkpoint  # noqa: PLC0415
        from googlenet_deploy.export.samples import folder_samples  # noqa: PLC0415
        from googlenet_deploy.graph.files import write_model  # noqa: PLC0415 - PyTorch only where work is done

        checkpoint = job.checkpoint
        samples = folder_samples(job.config.images, checkpoint.preprocessing, VERIFICATION_IMAGES)
        result = export_checkpoint(checkpoint, ExportOptions(target=job.target), samples)
        write_model(job.path(FP32), result.model)
        opset, nodes = result.metadata.extra["opset"], len(result.model.graph.node)
        data = {
            "comparisons": comparisons(result),
            "architecture": checkpoint.architecture.name,
            "title": checkpoint.title,
            "classes": checkpoint.num_classes,
            "crop": list(checkpoint.preprocessing.crop),
            "weights_sha256": checkpoint.source_sha256,
            "opset": opset,
        }
        text = f"FP32 ONNX, opset {opset}, {nodes} nodes; {result.comparisons[-1].sentence()}"
        return Outcome((FP32,), text, data, result.notes)


class ExportHalf(Step):
    """``model.fp16.onnx``: for strongly typed builds, and to measure the cost of FP16 alone.

    Where INT8 is deployed, a network that FP16 does not suit loses this file only; the report warns of it.
    """

    name = "fp16"

    def left_out(self, job: Job) -> str:
        """If FP32 is deployed."""
        return "FP32 is deployed" if job.config.precision == "fp32" else ""

    def inputs(self, job: Job) -> dict[str, Any]:
        """The FP32 model, the images that verify, the target."""
        return {
            "model": job.state.hash_of(FP32),
            "target": job.config.target,
            "images": job.images_digest,
            "required": job.config.precision == "fp16",
        }

    def run(self, job: Job) -> Outcome:
        """Converts and verifies.

        Raises:
            BadModelError: FP16 is deployed, and the model computes something else in it.
        """
        from googlenet_deploy.export.half_precision.types import FP16 as KIND  # noqa: PLC0415
        from googlenet_deploy.export.pipeline import export_onnx  # noqa: PLC0415
        from googlenet_deploy.export.samples import folder_samples  # noqa: PLC0415
        from googlenet_deploy.graph.files import (  # noqa: PLC0415
            input_specification,
            load_classifier,
            load_model,
            write_model,
        )

        path = job.path(FP32)
        model = load_classifier(path)
        spec = input_specification(path, model)
        samples = folder_samples(job.config.images, spec, VERIFICATION_IMAGES)
        options = ExportOptions(target=job.target, half=HalfOptions(KIND))
        try:
            result = export_onnx(path, model, options, samples, load_model(path))
        except BadModelError as error:
            if job.config.precision == "fp16" or not isinstance(error.__cause__, VerificationError):
                raise
            differs = error.problem.partition("pass fp16: ")[2] or error.problem
            text = f"no FP16 ONNX, since it {differs}"
            return Outcome((), text, {"comparisons": [], "kept": {}, "differs": differs}, (text,))
        write_model(job.path(FP16), result.model)
        kept = result.half.fp32 if result.half is not None else {}
        text = f"FP16 ONNX, {counted(len(kept), 'layer')} kept FP32; {result.comparisons[0].sentence()}"
        return Outcome((FP16,), text, {"comparisons": comparisons(result), "kept": dict(kept)}, result.notes)


def comparisons(result: ExportResult) -> list[dict[str, Any]]:
    """The comparisons made for a model, for the report."""
    return [{"against": item.against, "holds": item.holds, "text": item.sentence()} for item in result.comparisons]
