"""Builds the engine if possible here, and otherwise checks the build that only the device can do."""

from __future__ import annotations

from typing import Any

from googlenet_deploy.deployment.job import FP32, MODELS, Job, Outcome, Step
from googlenet_deploy.device.builder.options import BuildOptions, parse_capabilities
from googlenet_deploy.device.builder.run import DryRun, build_engine, dry_run, find_here, make_request
from googlenet_deploy.device.onnx_model.header import read_onnx
from googlenet_deploy.device.progress import progress
from googlenet_deploy.device.tensorrt.loading import load_tensorrt
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import DeviceError
from googlenet_deploy.report.text import plural

ENGINE = "model.engine"


class Build(Step):
    """``model.engine`` if this machine can build it: TensorRT-RTX ahead of time, TensorRT on the target's own GPU.

    Otherwise the build is planned for each TensorRT of the target, and NVIDIA's parser checks the model if TensorRT-RTX
    is installed, which needs no GPU.
    """

    name = "build"

    def inputs(self, job: Job) -> dict[str, Any]:
        """The model, the target, and which TensorRT this machine has."""
        return {
            "model": job.state.hash_of(model_of(job)),
            "target": job.config.target,
            "options": [list(job.config.batch), list(job.config.compute_capabilities), job.config.precision],
            "libraries": [_version("tensorrt"), _version("tensorrt-rtx")],
        }

    def run(self, job: Job) -> Outcome:
        """Builds the engine, or plans the build."""
        model = str(job.path(model_of(job)))
        options = build_options(job, model)
        try:
            here = find_here(None, options, job.target)
        except DeviceError as error:
            if job.target.rtx:
                raise
            return self._planned(job, model, options, error.message)
        request = make_request(model, options, here, f"googlenet-deploy build {model}")
        with progress("build", quiet=job.quiet) as advance:
            result = build_engine(request, here.library, str(job.path(ENGINE)), step=lambda *_: advance(1))
        manifest = result.manifest
        text = f"{manifest.engine_bytes / 1e6:.1f} MB engine by {here.library.label}"
        data = {
            "engine": ENGINE,
            "check": f"{here.library.label} built it for compute capability {', '.join(manifest.compute_capabilities)}",
            "shares": dict(manifest.precision_shares),
            "layers_note": manifest.layers_note,
        }
        return Outcome((ENGINE, f"{ENGINE}.json"), text, data, manifest.notes)

    def _planned(self, job: Job, model: str, options: BuildOptions, why: str) -> Outcome:
        found = dry_run(model, options, None, job.target)
        sites = [site.label for site in found.sites()]
        checked = f"; {found.parser} reads the model ({counted(found.layers, 'layer')})" if found.parser else ""
        text = f"planned for {plural(len(sites), 'TensorRT version')}, built on the device by build.sh{checked}"
        data = {"engine": "", "check": _parsed(found), "sites": sites, "why": why, "dialect": found.plan.dialect}
        return Outcome((), text, data, found.plan.notes)


def model_of(job: Job) -> str:
    """The file that the engine is built from: the FP32 one for FP16 on a TensorRT without strongly typed builds."""
    precision = job.config.precision
    if precision == "fp16" and not _has_strong(job):
        return FP32
    return MODELS[precision]


def _has_strong(job: Job) -> bool:
    """Whether every TensorRT of the target supports strongly typed builds, which take FP16 from the model."""
    return job.target.rtx or min(job.target.tensorrt) >= (10, 12)


def build_options(job: Job, model: str) -> BuildOptions:
    """The builder's options."""
    dynamic = read_onnx(model).dynamic_batch
    from_fp32 = job.config.precision == "fp16" and not _has_strong(job)
    capabilities = parse_capabilities(",".join(job.config.compute_capabilities)) if job.target.rtx else ()
    return BuildOptions(
        precision="fp16" if from_fp32 else None,
        batch=job.config.batches if dynamic else None,
        compute_capabilities=capabilities,
    )


def _parsed(found: DryRun) -> str:
    return f"{found.parser} reads all {found.layers} layers of it, without a GPU" if found.parser else ""


def _version(backend: str) -> str:
    try:
        return load_tensorrt(backend).version_text
    except DeviceError:
        return ""
