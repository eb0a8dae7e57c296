"""A complete build: plan, attach the INT8 scales, build, write engine, manifest and timing cache. Or a dry run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from googlenet_deploy.device.builder.dla_rules import Placement, dla_placements
from googlenet_deploy.device.builder.options import BuildOptions
from googlenet_deploy.device.builder.plan import BuildPlan, BuildRequest, BuildResult, plan_build
from googlenet_deploy.device.builder.platform import Site, site_of
from googlenet_deploy.device.builder.scales import attach_scales, cache_notes
from googlenet_deploy.device.builder.session import BuildSession, Step
from googlenet_deploy.device.builder.timing_cache import load_timing_cache, save_timing_cache
from googlenet_deploy.device.engine.manifest import write_engine
from googlenet_deploy.device.onnx_model.header import OnnxHeader, read_onnx
from googlenet_deploy.device.system.gpu import Gpu, find_gpu
from googlenet_deploy.device.targets.target import Target
from googlenet_deploy.device.tensorrt.loading import load_tensorrt
from googlenet_deploy.device.tensorrt.trt_compat import TensorRT
from googlenet_deploy.errors import DeviceError, UsageError

RTX, TENSORRT = "tensorrt-rtx", "tensorrt"


class Here(NamedTuple):
    """The TensorRT of this machine, and the GPU that it builds for.

    Attributes:
        library: TensorRT.
        gpu: The GPU that it builds for; None if it builds ahead of time for others.
        site: The same information for the plan.
    """

    library: TensorRT
    gpu: Optional[Gpu]
    site: Site


@dataclass(frozen=True)
class DryRun:
    """What would be built.

    Attributes:
        header: The model.
        plan: What the builder would do.
        site: Where the engine would run.
        target: The requested target; None for this machine.
        placements: What a DLA supports; None if no DLA was requested.
        parser: The library that parsed the model; "" if none was installed.
        layers: Number of layers that it found.
        notes: Further notes, in addition to the plan's.
    """

    header: OnnxHeader
    plan: BuildPlan
    site: Site
    target: Optional[Target]
    placements: Optional[List[Placement]]
    parser: str
    layers: int
    notes: Tuple[str, ...] = ()

    def sites(self) -> List[Site]:
        """The site, and for a module one more site for each of its other TensorRT versions."""
        others = self.target.tensorrt[1:] if self.target is not None else ()
        name = self.target.name if self.target is not None else ""
        more = [
            replace(self.site, version=version, label="TensorRT {}.{} of {}".format(*version, name))
            for version in others
        ]
        return [self.site, *more]

    def to_dict(self) -> Dict[str, Any]:
        """For JSON."""
        return {
            "plan": asdict(self.plan),
            "site": asdict(self.site),
            "dla": None if self.placements is None else [entry._asdict() for entry in self.placements],
            "parsed": {"parser": self.parser, "layers": self.layers},
            "notes": list(self.notes),
        }


def find_here(backend: Optional[str], options: BuildOptions, target: Optional[Target]) -> Here:
    """Finds the TensorRT and GPU of this machine.

    Args:
        backend: "tensorrt" or "tensorrt-rtx"; None follows the target.
        options: The user's options.
        target: The requested target.

    Raises:
        UsageError: Backend and target contradict each other.
        DeviceError: TensorRT or a required GPU is missing, or does not match the target.
    """
    wants_rtx = target is not None and target.rtx
    chosen = backend or (RTX if wants_rtx else TENSORRT)
    if target is not None and target.rtx != (chosen == RTX):
        raise UsageError(f"--target {target.name} and --backend {chosen} contradict each other")
    library = load_tensorrt(chosen)
    # An engine built ahead of time is for other GPUs than this machine's, if it has one.
    gpu = None if options.compute_capabilities else _needed_gpu()
    site = Site(library.label, library.version, library.rtx, gpu.compute_capability if gpu else None)
    if target is not None and not target.rtx:
        _check_target(target, site)
    return Here(library, gpu, site)


def _needed_gpu() -> Gpu:
    try:
        return find_gpu()
    except DeviceError as error:
        remedy = "name the GPUs with --backend tensorrt-rtx --compute-capability, or use --dry-run --target"
        raise DeviceError(f"no GPU to build for: {error.message}", remedy) from error


def _check_target(target: Target, site: Site) -> None:
    versions = ["{}.{}".format(*version) for version in target.tensorrt]
    if "{}.{}".format(*site.version[:2]) not in versions:
        raise DeviceError(
            f"--target {target.name} has TensorRT {' or '.join(versions)}, here is {site.label}",
            "build on the target, or plan with --dry-run",
        )
    wanted = target.module.compute_capability if target.module else site.compute_capability
    if wanted != site.compute_capability:
        raise DeviceError(
            f"--target {target.name} is not this machine, which has {site.capability_text}",
            "build on the target, or plan with --dry-run",
        )


def make_request(model: str, options: BuildOptions, here: Here, rebuild: str = "") -> BuildRequest:
    """Plans a build on this machine.

    Args:
        model: The ONNX file.
        options: The user's options.
        here: This machine.
        rebuild: The command that builds it again, for the manifest.

    Raises:
        BadModelError: The model cannot be read, or does not fit the request.
        UsageError: Options contradict each other.
        DeviceError: This TensorRT or GPU does not support the options.
        InputError: The timing cache cannot be read.
    """
    header = read_onnx(model)
    request = BuildRequest(model, header, options, plan_build(header, model, options, here.site), here.gpu, rebuild)
    if options.timing_cache and here.library.rtx:
        request.notes.append("TensorRT-RTX has no timing cache (it compiles on first use): --timing-cache is ignored")
    elif options.timing_cache:
        cache = load_timing_cache(options.timing_cache, here.library.label, here.gpu.name if here.gpu else "")
        request.timing_cache = cache.data
        request.notes.append(cache.note)
    return request


def build_engine(
    request: BuildRequest,
    library: TensorRT,
    output: str,
    *,
    step: Optional[Step] = None,
    calibrated: Optional[Callable[[int], None]] = None,
) -> BuildResult:
    """Builds an engine and writes it with its manifest and timing cache.

    Args:
        request: The request from `make_request`.
        library: TensorRT.
        output: Path of the engine; the manifest is written beside it.
        step: Called with (phase, steps done, steps in all) as the builder advances.
        calibrated: Called with the number of images as live calibration advances.

    Raises:
        BadModelError: TensorRT rejects the model.
        BadTableError: The file is not a calibration cache.
        InputError: There are no images to calibrate with.
        DeviceError: The build failed.
        OutputError: The engine cannot be written; an existing file is left unchanged.
        KeyboardInterrupt: Ctrl-C was pressed; nothing was written.
    """
    attach_scales(library, request, calibrated or _ignore)
    result = BuildSession(library, request).build(step)
    write_engine(output, result.engine, result.manifest)
    if result.timing_cache is not None:
        gpu = request.gpu.name if request.gpu else ""
        save_timing_cache(str(request.options.timing_cache), result.timing_cache, library.label, gpu)
    return result


def _ignore(_count: int) -> None:
    pass


def dry_run(model: str, options: BuildOptions, backend: Optional[str], target: Optional[Target]) -> DryRun:
    """Plans the build and parses the model, but builds nothing.

    Args:
        model: The ONNX file.
        options: The user's options.
        backend: "tensorrt" or "tensorrt-rtx"; None follows the target.
        target: Where the engine is to run; None for this machine.

    Raises:
        BadModelError: The model cannot be read, does not fit, or is rejected by TensorRT's parser.
        BadTableError: The file is not a calibration cache.
        UsageError: Options contradict each other.
        DeviceError: The target does not support the options, or neither TensorRT nor a target is available.
    """
    if target is None:
        here = find_here(backend, options, None)
        request = make_request(model, options, here)
        session = _parsed(here.library, request)
        placements = session.placements(session.configure()[0]) if options.dla_core is not None else None
        layers, notes = int(session.network.num_layers), tuple(dict.fromkeys(request.notes))
        return DryRun(request.header, request.plan, here.site, None, placements, here.library.label, layers, notes)
    site, header = site_of(target), read_onnx(model)
    plan = plan_build(header, model, options, site)
    placements = None
    if options.dla_core is not None:
        placements = dla_placements(header, site.compute_capability, plan.keep_fp32)
    lacks = cache_notes(header, str(options.calibration_cache)) if plan.calibration == "cache" else []
    parser, layers = _parse_with_rtx(model, header, options, plan)
    return DryRun(header, plan, site, target, placements, parser, layers, tuple(lacks))


def _parsed(library: TensorRT, request: BuildRequest) -> BuildSession:
    attach_scales(library, request, _ignore)
    session = BuildSession(library, request)
    session.check()
    return session


def _parse_with_rtx(model: str, header: OnnxHeader, options: BuildOptions, plan: BuildPlan) -> Tuple[str, int]:
    """Parses with TensorRT-RTX if installed: it is NVIDIA's own parser and needs no GPU, so it serves all targets."""
    try:
        library = load_tensorrt(RTX)
    except DeviceError:
        return "", 0
    only_types = replace(plan, strongly_typed=True, flags=(), keep_fp32=(), calibration="")
    session = _parsed(library, BuildRequest(model, header, BuildOptions(batch=options.batch), only_types))
    return library.label, int(session.network.num_layers)
