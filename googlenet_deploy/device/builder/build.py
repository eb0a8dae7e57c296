"""From an ONNX file to an engine in one call."""

from __future__ import annotations

from pathlib import Path
from typing import List, Mapping, NamedTuple, Optional, Union

from googlenet_deploy.device.builder.options import BuildOptions
from googlenet_deploy.device.builder.plan import BuildPlan, BuildRequest, BuildResult
from googlenet_deploy.device.builder.report import check_gates
from googlenet_deploy.device.builder.run import Here, build_engine, find_here, make_request
from googlenet_deploy.device.files import PathLike, write_bytes
from googlenet_deploy.device.onnx_model.strip_qdq import strip_quantization
from googlenet_deploy.device.onnx_model.training_mode import read_inference_model
from googlenet_deploy.device.progress import progress
from googlenet_deploy.device.targets.target import Target, load_target
from googlenet_deploy.device.text import Report, log_note

SHOWN = 12  # of TensorRT's warnings


class BuiltEngine(NamedTuple):
    """An engine that was built and written.

    Attributes:
        path: Its file; the manifest is beside it.
        request: The request, with the plan.
        here: The TensorRT and GPU that it was built with.
        result: The result of the build, with the manifest.
    """

    path: str
    request: BuildRequest
    here: Here
    result: BuildResult


def build(
    model: PathLike,
    output: Optional[PathLike] = None,
    *,
    options: Optional[BuildOptions] = None,
    backend: Optional[str] = None,
    target: Union[Target, str, None] = None,
    require: Optional[Mapping[str, float]] = None,
    rebuild: str = "",
    quiet: bool = True,
    report: Report = log_note,
) -> BuiltEngine:
    """Builds an engine for this machine's GPU, or with TensorRT-RTX for the GPUs that the options name.

    Args:
        model: An ONNX file.
        output: Path of the engine, with its manifest beside it; None uses the model's name with ``.engine``.
        options: Precision, batch sizes, calibration, timing cache, ...
        backend: "tensorrt" or "tensorrt-rtx"; None follows the target.
        target: Module, JetPack or TensorRT that this machine must have; None for any.
        require: Smallest share of the layers by type, such as ``{"int8": 0.95}``.
        rebuild: The command that builds it again, for the manifest.
        quiet: Show no progress.
        report: Called with each line of notes and TensorRT warnings.

    Raises:
        BadModelError: The model cannot be read, does not fit the options, or is rejected by TensorRT.
        BadTableError: The calibration cache is damaged.
        UsageError: Options contradict each other.
        DeviceError: TensorRT or the GPU is missing or does not match, or the build failed.
        InputError: The timing cache or the calibration images cannot be read.
        OutputError: The engine cannot be written; an existing file is left unchanged.
        GateError: The engine is written, but a share of `require` is not reached.
    """
    chosen = options or BuildOptions()
    found = load_target(target) if isinstance(target, str) else target
    path = str(output if output is not None else Path(model).with_suffix(".engine"))
    here = find_here(backend, chosen, found)
    request = make_request(str(model), chosen, here, rebuild)
    report(f"{here.library.label}: {request.plan.dialect} {request.plan.precision} build of {model}")
    known = [*request.plan.notes, *request.notes]
    for note in known:
        report(note)
    with progress("build", quiet=quiet) as advance:
        result = build_engine(request, here.library, path, step=lambda *_: advance(1), calibrated=advance)
    for note in result.manifest.notes[len(known) :]:
        report(note)
    _report_warnings(report, here.library.label, result.warnings)
    check_gates(result, require or {})
    return BuiltEngine(path, request, here, result)


def write_parsed_onnx(model: PathLike, plan: BuildPlan, output: PathLike) -> None:
    """Writes the model as passed to TensorRT, for trtexec on a device whose Python is too old for this toolkit.

    Args:
        model: The ONNX file.
        plan: The plan; decides whether Q/DQ nodes are removed.
        output: Path of the new file.

    Raises:
        BadModelError: The model cannot be read.
        OutputError: It cannot be written.
    """
    content = read_inference_model(model).content
    if plan.strip_qdq:
        content, _ = strip_quantization(content, str(model))
    write_bytes(output, content)


def _report_warnings(report: Report, label: str, warnings: List[str]) -> None:
    for warning in warnings[:SHOWN]:
        report(f"{label} warns: {warning}")
    if len(warnings) > SHOWN:
        report(f"{label} warns {len(warnings) - SHOWN} times more")
