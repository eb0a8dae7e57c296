"""Build a TensorRT or TensorRT-RTX engine from an ONNX model, and prove the precision that it runs in.

TensorRT builds for the GPU that it runs on, so Jetson engines are built on the Jetson. TensorRT-RTX builds ahead of
time for the GPUs named by --compute-capability, on any machine. Beside the engine goes X.engine.json: what it was made
from, for which GPU and version, and what every layer computes in.

Examples:
  googlenet-deploy build model.int8.onnx --output model.engine --batch 1,8,32 --require int8=0.95
  googlenet-deploy build model.fp16.onnx --backend tensorrt-rtx --compute-capability 8.6,8.9,12.0 --output model.engine
  googlenet-deploy build model.onnx --precision int8 --calibration-cache model.cache --output model.engine
  googlenet-deploy build model.int8.onnx --target jetpack-5.1 --dry-run --also-trtexec
"""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from googlenet_deploy.errors import DeviceError, GateError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.build_options import BuildOptions
    from googlenet_deploy.device.build_plan import BuildPlan, Site
    from googlenet_deploy.device.builder import BuildRequest, BuildResult, Machine
    from googlenet_deploy.device.onnx_header import OnnxHeader
    from googlenet_deploy.device.target import Target
    from googlenet_deploy.device.trt_compat import TensorRT

SHOWN = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX model")
    parser.add_argument("--output", metavar="FILE", help="where the engine goes (default: MODEL with .engine)")
    parser.add_argument("--backend", choices=("tensorrt", "tensorrt-rtx"), help="default: tensorrt")
    parser.add_argument("--target", metavar="T", help="a module, JetPack or TensorRT: check and plan for it")
    parser.add_argument("--dry-run", action="store_true", help="parse, say what would be built, build nothing")
    parser.add_argument("--also-trtexec", action="store_true", help="print the trtexec command that does the same")
    parser.add_argument("--json", metavar="FILE", help="write the plan (with --dry-run) or the manifest there too")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    _add_precision(parser.add_argument_group("precision"))
    _add_shape(parser.add_argument_group("shape, memory and speed of the build"))
    _add_portability(parser.add_argument_group("where the engine runs"))


def _add_precision(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--precision", choices=("fp32", "fp16", "bf16", "int8"), help="default: the model's own")
    group.add_argument(
        "--typing",
        choices=("auto", "weak", "strong"),
        default="auto",
        help="weak: precision flags (TensorRT 8.5 to 10); strong: the model's types (10.12 and later); default: auto",
    )
    group.add_argument("--calibration-cache", metavar="FILE", help="TensorRT calibration cache, for implicit INT8")
    group.add_argument("--calibration-images", metavar="DIR", help="calibrate live on these images, for implicit INT8")
    group.add_argument("--calibration-count", type=int, default=256, metavar="N", help="images (default: %(default)s)")
    group.add_argument("--calibration-algorithm", choices=("entropy", "minmax"), default="entropy", help="live only")
    group.add_argument("--cuda-backend", choices=("cuda-bindings", "pycuda"), help="device memory for live calibration")
    group.add_argument(
        "--keep-fp32", default="LRN", metavar="OPS", help="operators kept FP32 (default: LRN; '' for none)"
    )
    group.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="TYPE=SHARE",
        help="exit 3 below this share, such as int8=0.95",
    )


def _add_shape(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--batch", metavar="N|MIN,OPT,MAX", help="batch sizes of a dynamic model (default: 1)")
    group.add_argument("--workspace", metavar="SIZE", help="limit of scratch memory, such as 512M")
    group.add_argument("--timing-cache", metavar="FILE", help="keep kernel timings there between builds")
    group.add_argument("--optimization-level", type=int, choices=range(6), metavar="0-5", help="5 searches longest")
    group.add_argument(
        "--tactic-sources", metavar="LIST", help="libraries for kernels, such as cudnn,cublas; '' for none"
    )
    group.add_argument("--sparsity", action="store_true", help="allow 2:4 sparse kernels")
    group.add_argument(
        "--verbosity", choices=("none", "names", "detailed"), default="detailed", help="layer information"
    )


def _add_portability(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--compute-capability", metavar="LIST", help="TensorRT-RTX: GPUs to build for, such as 8.6,8.9")
    group.add_argument(
        "--version-compatible", action="store_true", help="run on later TensorRT of the same major version"
    )
    group.add_argument("--hardware-compatible", choices=("ampere+", "same-compute-capability"))
    group.add_argument("--strip-plan", action="store_true", help="leave the weights out; refit before use")
    group.add_argument("--refit", action="store_true", help="weights can be replaced later")
    group.add_argument("--dla-core", type=int, metavar="N", help="run on this DLA core")
    group.add_argument("--no-gpu-fallback", action="store_true", help="fail where the DLA cannot run a layer")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    from googlenet_deploy.device.engine_layers import parse_gates
    from googlenet_deploy.device.onnx_header import read_onnx
    from googlenet_deploy.device.target import load_target

    options = _options(arguments)
    gates = parse_gates(arguments.require)
    header = read_onnx(arguments.model)
    target = load_target(arguments.target) if arguments.target else None
    if arguments.dry_run:
        return _dry_run(arguments, header, options, target)
    library, machine, site = _here(arguments, options, target)
    plan = _plan(arguments, header, options, site, target)
    request = _request(arguments, header, options, plan, machine, library)
    result = _build(arguments, library, request)
    return _report(arguments, header, result, gates, site, plan)


def _options(arguments: argparse.Namespace) -> BuildOptions:
    from googlenet_deploy.device.build_options import BuildOptions, parse_batch, parse_capabilities, parse_size

    return BuildOptions(
        precision=arguments.precision,
        batch=parse_batch(arguments.batch) if arguments.batch else None,
        typing=arguments.typing,
        workspace_bytes=parse_size(arguments.workspace) if arguments.workspace else None,
        timing_cache=arguments.timing_cache,
        optimization_level=arguments.optimization_level,
        tactic_sources=None if arguments.tactic_sources is None else _words(arguments.tactic_sources),
        version_compatible=arguments.version_compatible,
        hardware_compatible=arguments.hardware_compatible,
        strip_plan=arguments.strip_plan,
        refit=arguments.refit,
        dla_core=arguments.dla_core,
        gpu_fallback=not arguments.no_gpu_fallback,
        sparsity=arguments.sparsity,
        verbosity=arguments.verbosity,
        calibration_cache=arguments.calibration_cache,
        calibration_images=arguments.calibration_images,
        calibration_algorithm=arguments.calibration_algorithm,
        keep_fp32=_words(arguments.keep_fp32),
        compute_capabilities=parse_capabilities(arguments.compute_capability) if arguments.compute_capability else (),
    )


def _words(text: str) -> Tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _here(
    arguments: argparse.Namespace, options: BuildOptions, target: Optional[Target]
) -> Tuple[TensorRT, Machine, Site]:
    """The TensorRT and GPU of this machine."""
    from googlenet_deploy.device.build_plan import Site
    from googlenet_deploy.device.trt_compat import load_tensorrt

    backend = arguments.backend or ("tensorrt-rtx" if target is not None and target.rtx else "tensorrt")
    if backend == "tensorrt-rtx" and target is not None and not target.rtx:
        raise UsageError(f"--target {target.name} and --backend tensorrt-rtx contradict each other")
    library = load_tensorrt(backend)
    machine = _machine(required=backend == "tensorrt" or not options.compute_capabilities)
    # What is built ahead of time is for other GPUs than the one that may be here.
    ahead = bool(options.compute_capabilities)
    site = Site(library.label, library.version, library.rtx, None if ahead else machine.compute_capability)
    return library, machine, site


def _machine(*, required: bool) -> Machine:
    from googlenet_deploy.device.builder import Machine
    from googlenet_deploy.device.cuda_memory import open_cuda

    try:
        cuda = open_cuda()
        name, capability = cuda.device()
        return Machine(name, capability, cuda.memory()[0])
    except DeviceError as error:
        if required:
            remedy = "name the GPUs with --backend tensorrt-rtx --compute-capability, or use --dry-run --target"
            raise DeviceError(f"no GPU to build for: {error.message}", remedy) from error
        return Machine()


def _plan(
    arguments: argparse.Namespace,
    header: OnnxHeader,
    options: BuildOptions,
    site: Site,
    target: Optional[Target],
) -> BuildPlan:
    from googlenet_deploy.device.build_plan import plan_build, site_of

    if target is not None and not site.rtx:
        wanted = site_of(target)
        if wanted.version[:2] != site.version[:2]:
            raise DeviceError(
                f"--target {target.name} has TensorRT {'.'.join(map(str, wanted.version))}, here is {site.label}",
                "build on the target, or plan with --dry-run",
            )
    return plan_build(header, arguments.model, options, site)


def _request(
    arguments: argparse.Namespace,
    header: OnnxHeader,
    options: BuildOptions,
    plan: BuildPlan,
    machine: Machine,
    library: TensorRT,
) -> BuildRequest:
    from googlenet_deploy.device.builder import BuildRequest

    request = BuildRequest(arguments.model, header, options, plan, machine, _rebuild_command(arguments))
    if options.timing_cache and library.rtx:
        request.notes.append("TensorRT-RTX has no timing cache (it compiles on first use): --timing-cache is ignored")
    elif options.timing_cache:
        from googlenet_deploy.device.timing_cache import load_timing_cache

        cache = load_timing_cache(options.timing_cache, library.label, machine.gpu)
        request.timing_cache = cache.data
        request.notes.append(cache.note)
    if plan.calibration == "cache":
        _use_cache(request, library, str(options.calibration_cache))
    elif plan.calibration == "live":
        _use_images(arguments, request, library)
    return request


def _use_cache(request: BuildRequest, library: TensorRT, path: str) -> None:
    from googlenet_deploy.device.calibrator import cache_calibrator, missing_scales, read_calibration_cache
    from googlenet_deploy.device.engine_manifest import sha256_bytes

    content, algorithm, count = read_calibration_cache(path)
    request.calibrator = cache_calibrator(library, content, algorithm)
    request.calibration = {"cache": path, "cache_sha256": sha256_bytes(content), "tensors": count}
    convolved = ("Conv", "Gemm", "MatMul")
    inputs = [node.inputs[0] for node in request.header.nodes if node.operator in convolved and node.inputs]
    missing = missing_scales(content, inputs)
    if missing:
        request.notes.append(
            f"the cache has no scale for the input of {len(missing)} of {len(inputs)} layers, which fall back to "
            f"another type: {', '.join(missing[:3])}" + (", ..." if len(missing) > 3 else "")
        )


def _use_images(arguments: argparse.Namespace, request: BuildRequest, library: TensorRT) -> None:
    from googlenet_deploy.device.calibrator import live_calibrator
    from googlenet_deploy.device.cuda_memory import open_cuda
    from googlenet_deploy.device.pipeline import ImageBatches
    from googlenet_deploy.device.sources import find_images
    from googlenet_deploy.errors import BadModelError, InputError

    spec = request.header.metadata.preprocessing
    if spec is None:
        raise BadModelError(
            request.model,
            "does not say how images are prepared, so it cannot be calibrated here",
            "export it with export",
        )
    folder, wanted = str(request.options.calibration_images), arguments.calibration_count
    found = find_images([folder]).images
    if not found:
        raise InputError(folder, "has no images to calibrate with")
    chosen = [found[index * len(found) // min(wanted, len(found))] for index in range(min(wanted, len(found)))]
    size = request.options.batch[1] if request.options.batch else 1
    images = ImageBatches(chosen, spec, size)
    request.calibration = {"folder": folder, "algorithm": request.options.calibration_algorithm}
    request.calibrator = live_calibrator(
        library,
        request.options.calibration_algorithm,
        lambda: (batch.array for batch in images if len(batch.array) == size),
        size,
        open_cuda(arguments.cuda_backend),
        lambda _count: None,
    )


def _build(arguments: argparse.Namespace, library: TensorRT, request: BuildRequest) -> BuildResult:
    from googlenet_deploy.device.builder import Session
    from googlenet_deploy.device.engine_manifest import write_engine
    from googlenet_deploy.device.files import write_json
    from googlenet_deploy.device.progress import progress
    from googlenet_deploy.device.timing_cache import save_timing_cache

    _say(arguments, f"{library.label}: {request.plan.dialect} {request.plan.precision} build of {request.model}")
    for note in [*request.plan.notes, *request.notes]:
        _say(arguments, f"note: {note}")
    known = len(request.notes)
    session = Session(library, request)
    with progress("build", quiet=arguments.quiet) as advance:
        result = session.build(lambda _phase, _done, _total: advance(1))
    for note in request.notes[known:]:
        _say(arguments, f"note: {note}")
    write_engine(_output(arguments), result.engine, result.manifest)
    if result.timing_cache is not None:
        save_timing_cache(str(request.options.timing_cache), result.timing_cache, library.label, request.machine.gpu)
    if arguments.json:
        from dataclasses import asdict

        write_json(arguments.json, asdict(result.manifest))
    for warning in result.warnings[:SHOWN]:
        _say(arguments, f"{library.label} warns: {warning}")
    return result


def _report(
    arguments: argparse.Namespace,
    header: OnnxHeader,
    result: BuildResult,
    gates: Dict[str, float],
    site: Site,
    plan: BuildPlan,
) -> int:
    from googlenet_deploy.device.engine_layers import failed_gates

    if not arguments.quiet:
        print("\n".join(_summary(_output(arguments), result)))
        if arguments.also_trtexec:
            print(_trtexec(arguments, header, _options(arguments), plan, site))
    if not gates:
        return 0
    if result.layers is None:
        raise GateError(
            f"--require was not checked: {result.manifest.layers_note}",
            "run the build on the GPU, where the engine inspector can tell",
        )
    failed = failed_gates(result.layers, gates)
    if failed:
        raise GateError(f"--require does not hold: {'; '.join(failed)}", _why(result, next(iter(gates))))
    return 0


def _why(result: BuildResult, wanted: str) -> str:
    from googlenet_deploy.device.engine_layers import fallbacks

    found = fallbacks(result.layers or [], wanted)
    lines = [f"{layer.name} computes in {layer.dtype}: {why}" for layer, why in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"... and {len(found) - SHOWN} more, all in the manifest")
    return "\n  ".join(lines)


def _summary(output: str, result: BuildResult) -> List[str]:
    manifest = result.manifest
    lines = [
        (
            f"{output}: {manifest.engine_bytes / 1e6:.2f} MB, {manifest.dialect} {manifest.precision}, "
            f"for compute capability {', '.join(manifest.compute_capabilities)}, in {manifest.build_seconds:.1f} s"
        ),
        f"  {output}.json: the manifest",
    ]
    if manifest.device_memory_bytes is not None:
        lines.append(f"  device memory of one context: {manifest.device_memory_bytes / 1e6:.1f} MB")
    if result.layers is None:
        lines.append(f"  precision per layer: not known; {manifest.layers_note}")
        return lines
    for unit, shares in manifest.precision_shares.items():
        text = ", ".join(f"{name} {share:.1%}" for name, share in sorted(shares.items(), key=lambda item: -item[1]))
        lines.append(f"  {unit.replace('_', '-')}: {text or 'not known'}")
    return lines


def _dry_run(arguments: argparse.Namespace, header: OnnxHeader, options: BuildOptions, target: Optional[Target]) -> int:
    from googlenet_deploy.device.build_plan import plan_build, site_of
    from googlenet_deploy.device.files import write_json

    if target is None:
        library, machine, site = _here(arguments, options, target)
    else:
        site = site_of(target)
    plan = plan_build(header, arguments.model, options, site)
    lines = _plan_lines(arguments.model, header, options, plan, site, target)
    parsed: Dict[str, Any] = {}
    if target is None:
        request = _request(arguments, header, options, plan, machine, library)
        parsed = _parse_check(library, request)
    else:
        parsed = _rtx_check(arguments, header, options)
    lines += [f"  parsed by {parsed['parser']}: {parsed['result']}"] if parsed else []
    if arguments.also_trtexec:
        lines.append(_trtexec(arguments, header, options, plan, site))
    print("\n".join([*lines, "nothing was built (--dry-run)"]))
    if arguments.json:
        from dataclasses import asdict

        write_json(arguments.json, {"plan": asdict(plan), "site": asdict(site), "parsed": parsed})
    return 0


def _plan_lines(
    model: str, header: OnnxHeader, options: BuildOptions, plan: BuildPlan, site: Site, target: Optional[Target]
) -> List[str]:
    operators: Dict[str, int] = {}
    for node in header.nodes:
        operators[node.operator] = operators.get(node.operator, 0) + 1
    counts = ", ".join(f"{count} {name}" for name, count in sorted(operators.items(), key=lambda item: -item[1]))
    lines = [f"{model}: opset {header.opset}, {len(header.nodes)} nodes ({counts})", f"for {site.label}:"]
    if site.compute_capability:
        lines.append(f"  compute capability {site.compute_capability[0]}.{site.compute_capability[1]}")
    if target is not None and len(target.tensorrt) > 1:
        others = ", ".join(".".join(map(str, version)) for version in target.tensorrt[1:])
        lines.append(f"  planned for the module's oldest TensorRT; its JetPacks also have {others}")
    flags = f", flags {' and '.join(plan.flags)}" if plan.flags else ""
    lines.append(f"  {plan.dialect} build, precision {plan.precision}{flags}")
    if header.dynamic_batch:
        sizes = options.batch or (1, 1, 1)
        tuned = f" to {sizes[2]}, tuned for {sizes[1]}" if sizes[0] < sizes[2] else ""
        lines.append(f"  batch {sizes[0]}{tuned}")
    else:
        lines.append(f"  batch {header.inputs[0].shape[0]}, fixed by the model")
    if plan.calibration:
        lines.append(
            f"  INT8 scales from {'the calibration cache' if plan.calibration == 'cache' else 'live calibration'}"
        )
    if site.dla_cores:
        lines.append(f"  the module has {site.dla_cores} DLA cores; --dla-core uses one")
    return [*lines, *(f"  note: {note}" for note in plan.notes)]


def _parse_check(library: TensorRT, request: BuildRequest) -> Dict[str, str]:
    from googlenet_deploy.device.builder import Session

    session = Session(library, request)
    session.check()
    return {"parser": library.label, "result": f"accepted, {session.network.num_layers} layers"}


def _rtx_check(arguments: argparse.Namespace, header: OnnxHeader, options: BuildOptions) -> Dict[str, str]:
    """TensorRT-RTX's parser is NVIDIA's own, so where it is installed it checks the graph for another target too."""
    from dataclasses import replace

    from googlenet_deploy.device.build_options import BuildOptions
    from googlenet_deploy.device.build_plan import BuildPlan
    from googlenet_deploy.device.builder import BuildRequest, Machine
    from googlenet_deploy.device.trt_compat import load_tensorrt
    from googlenet_deploy.errors import BadModelError

    try:
        library = load_tensorrt("tensorrt-rtx")
    except DeviceError:
        return {
            "parser": "none",
            "result": "not checked: TensorRT-RTX, whose parser runs without a GPU, is not installed",
        }
    plain = replace(BuildOptions(), batch=options.batch)
    request = BuildRequest(arguments.model, header, plain, BuildPlan(True, "fp32"), Machine(), "")
    try:
        return _parse_check(library, request)
    except BadModelError as error:
        raise BadModelError(arguments.model, error.problem, error.remedy) from error


def _trtexec(
    arguments: argparse.Namespace, header: OnnxHeader, options: BuildOptions, plan: BuildPlan, site: Site
) -> str:
    from googlenet_deploy.device.trtexec import trtexec_command

    return trtexec_command(header, arguments.model, _output(arguments), options, plan, site)


def _output(arguments: argparse.Namespace) -> str:
    from pathlib import Path

    return arguments.output or str(Path(arguments.model).with_suffix(".engine"))


def _rebuild_command(arguments: argparse.Namespace) -> str:
    """The command line without what does not change the engine."""
    words = ["googlenet-deploy", "build", arguments.model]
    skipped = {"model", "json", "quiet", "dry_run", "also_trtexec", "require"}
    defaults = argparse.ArgumentParser()
    add_arguments(defaults)
    for name, value in sorted(vars(arguments).items()):
        if name in skipped or value == defaults.get_default(name):
            continue
        words.append(f"--{name.replace('_', '-')}")
        words += [] if value is True else [str(value)]
    return " ".join(shlex.quote(word) for word in words)


def _say(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.quiet:
        print(text, file=sys.stderr)
