"""Builds an engine: parse, configure, build, inspect, and describe it in a manifest."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from googlenet_deploy.device.build_log import BuildLog
from googlenet_deploy.device.build_options import BuildOptions
from googlenet_deploy.device.build_plan import BuildPlan
from googlenet_deploy.device.engine_layers import EngineLayer, parse_inspection, precision_shares
from googlenet_deploy.device.engine_manifest import EngineManifest, sha256_bytes
from googlenet_deploy.device.onnx_header import OnnxHeader, Value
from googlenet_deploy.device.strip_qdq import strip_quantization
from googlenet_deploy.device.trt_compat import ParseProblem, TensorRT
from googlenet_deploy.errors import BadModelError, DeviceError

Note = Callable[[str], None]
Step = Callable[[str, int, int], None]


@dataclass
class Machine:
    """The GPU that the engine is built on; all unknown where it is built ahead of time.

    Attributes:
        gpu: Its name.
        compute_capability: Its compute capability.
        free_memory: Free device memory in bytes.
    """

    gpu: str = ""
    compute_capability: Optional[Tuple[int, int]] = None
    free_memory: Optional[int] = None


@dataclass
class BuildRequest:
    """One engine to build.

    Attributes:
        model: The ONNX file.
        header: What `read_onnx` found in it.
        options: What was asked for.
        plan: What `plan_build` decided.
        machine: Where it is built.
        rebuild: The command that builds it again.
        timing_cache: Serialised timing cache to start from; empty for a new one, None for none.
        calibrator: Calibrator for implicit INT8.
        calibration: What the manifest says of the calibration.
        notes: Said so far.
    """

    model: str
    header: OnnxHeader
    options: BuildOptions
    plan: BuildPlan
    machine: Machine
    rebuild: str
    timing_cache: Optional[bytes] = None
    calibrator: Optional[Any] = None
    calibration: Dict[str, Any] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)


@dataclass
class BuildResult:
    """What came of it.

    Attributes:
        engine: The serialised engine.
        manifest: Its manifest.
        layers: The inspector's layers; None where no inspector could run.
        timing_cache: The timing cache after the build; None without one.
        warnings: TensorRT's own.
    """

    engine: bytes
    manifest: EngineManifest
    layers: Optional[List[EngineLayer]]
    timing_cache: Optional[bytes]
    warnings: List[str]


class Session:
    """A parsed network with its builder; `check` stops there, `build` goes on.

    Args:
        library: TensorRT.
        request: What to build.

    Raises:
        BadModelError: TensorRT refuses the model; the message has its own words.
        DeviceError: No builder can be started, or TensorRT has no parser.
    """

    def __init__(self, library: TensorRT, request: BuildRequest) -> None:
        self.library, self.request = library, request
        self.log = BuildLog()
        self.logger = library.logger(self.log)
        try:
            self.builder = library.builder(self.logger)
        except DeviceError as error:
            detail = f" ({self.log.reason})" if self.log.errors else ""
            raise DeviceError(f"{error.message}{detail}", error.remedy) from error
        flags = library.network_flags(strongly_typed=request.plan.strongly_typed)
        self.network = self.builder.create_network(flags)
        self.parser = library.parser(self.network, self.logger)
        self._parse()

    def _parse(self) -> None:
        path = self.request.model
        content = Path(path).read_bytes()
        if self.request.plan.strip_qdq:
            content, removed = strip_quantization(content, path)
            self.request.notes.append(f"{removed} Q/DQ nodes removed")
        if not self.parser.parse(content, path):
            raise parse_error(path, self.request.header, self.library, self.library.parse_problems(self.parser))
        if not self.network.num_outputs:
            raise BadModelError(path, f"{self.library.label} found no output in it")

    def configure(self, step: Optional[Callable[[str, int, int], bool]] = None) -> Tuple[Any, Optional[Any]]:
        """The builder's configuration, and the progress monitor where there is one.

        Raises:
            DeviceError: This TensorRT does not have what is asked for.
        """
        config = self.builder.create_builder_config()
        self._set_shapes(config)
        for flag in self.request.plan.flags:
            self.library.set_flag(config, flag)
        self._set_options(config)
        self._set_hardware(config)
        if self.request.plan.keep_fp32:
            self.library.keep_fp32(self.network, config, self.request.plan.keep_fp32)
        if self.request.calibrator is not None:
            self.library.set_calibrator(config, self.request.calibrator)
        if self.request.timing_cache is not None and not self.library.rtx:
            config.set_timing_cache(config.create_timing_cache(self.request.timing_cache), False)
        monitor = self.library.set_progress(config, step) if step else None
        return config, monitor

    def _set_shapes(self, config: Any) -> None:  # noqa: ANN401 - TensorRT has no types
        if not self.request.header.dynamic_batch:
            return
        value = self.request.header.inputs[0]
        rest = [size if isinstance(size, int) else None for size in value.shape[1:]]
        if None in rest:
            raise BadModelError(
                self.request.model,
                f"its input {value.name} leaves more open than the batch",
                "export it with a fixed size",
            )
        profile = self.builder.create_optimization_profile()
        shapes = [(size, *rest) for size in self.request.options.batch or (1, 1, 1)]
        profile.set_shape(value.name, *shapes)
        config.add_optimization_profile(profile)
        if self.request.calibrator is not None:
            self.library.use_calibration_profile(config, profile)

    def _set_options(self, config: Any) -> None:  # noqa: ANN401 - TensorRT has no types
        options, library = self.request.options, self.library
        library.set_verbosity(config, options.verbosity)
        if options.workspace_bytes is not None:
            library.set_workspace(config, options.workspace_bytes)
        if options.optimization_level is not None:
            library.set_optimization_level(config, options.optimization_level)
        if options.tactic_sources is not None:
            library.set_tactic_sources(config, options.tactic_sources)
        for wanted, flag in (
            (options.version_compatible, "VERSION_COMPATIBLE"),
            (options.strip_plan, "STRIP_PLAN"),
            (options.refit, "REFIT"),
            (options.sparsity, "SPARSE_WEIGHTS"),
        ):
            if wanted:
                library.set_flag(config, flag)

    def _set_hardware(self, config: Any) -> None:  # noqa: ANN401 - TensorRT has no types
        options, library = self.request.options, self.library
        if options.hardware_compatible:
            library.set_hardware_compatibility(config, options.hardware_compatible)
        if options.compute_capabilities:
            library.set_compute_capabilities(config, options.compute_capabilities)
        if options.dla_core is not None:
            self.request.notes += self._use_dla(config, options.dla_core)

    def _use_dla(self, config: Any, core: int) -> List[str]:  # noqa: ANN401 - TensorRT has no types
        cores = int(self.builder.num_DLA_cores)
        if core >= cores:
            raise DeviceError(f"this machine has {cores} DLA cores, so there is no core {core}", "leave --dla-core out")
        self.library.use_dla(config, core)
        if self.request.options.gpu_fallback:
            self.library.set_flag(config, "GPU_FALLBACK")
        covered = [name for name, runs in self.dla_coverage(config) if not runs]
        total = int(self.network.num_layers)
        return [
            f"DLA runs {total - len(covered)} of {total} layers"
            + (f"; not {', '.join(covered[:8])}" if covered else "")
        ]

    def dla_coverage(self, config: Any) -> List[Tuple[str, bool]]:  # noqa: ANN401 - TensorRT has no types
        """Every layer of the network, and whether the DLA takes it."""
        layers = (self.network.get_layer(index) for index in range(self.network.num_layers))
        return [(layer.name, bool(config.can_run_on_DLA(layer))) for layer in layers]

    def check(self) -> None:
        """Configures without building, so that whatever this TensorRT does not have is found."""
        self.configure()

    def build(self, step: Optional[Step] = None) -> BuildResult:
        """Builds.

        Args:
            step: Called with (phase, steps done, steps in all); only from versions with a progress monitor.

        Raises:
            BadModelError: TensorRT refuses the model.
            DeviceError: The build failed.
            KeyboardInterrupt: Ctrl-C was pressed; TensorRT has stopped in good order.
        """
        check_memory(self.request)
        with cancellation() as cancelled:

            def advance(phase: str, done: int, total: int) -> bool:
                if step is not None:
                    step(phase, done, total)
                return not cancelled.is_set()

            started = time.perf_counter()
            config, monitor = self.configure(advance)
            with interruptible(monitor is not None):
                serialized = self.builder.build_serialized_network(self.network, config)
            seconds = time.perf_counter() - started
            if cancelled.is_set():
                raise KeyboardInterrupt
        if serialized is None:
            raise self._build_error()
        return self._result(bytes(serialized), config, seconds)

    def _build_error(self) -> Exception:
        failure = getattr(getattr(self.request.calibrator, "feed", None), "error", None)
        if isinstance(failure, Exception):
            return failure
        if self.log.out_of_memory:
            return DeviceError(
                f"{self.library.label} ran out of memory: {self.log.reason}",
                "close other programs, add swap, or lower --workspace and --optimization-level",
            )
        return BadModelError(
            self.request.model, f"{self.library.label} cannot build it: {self.log.reason}", _remedy(self.log.reason)
        )

    def _result(self, engine: bytes, config: Any, seconds: float) -> BuildResult:  # noqa: ANN401 - TensorRT has no types
        layers, memory, note = self._inspect(engine)
        cache: Optional[bytes] = None
        if self.request.timing_cache is not None and not self.library.rtx:
            cache = bytes(config.get_timing_cache().serialize())
        self._check_calibration()
        manifest = self._manifest(engine, layers, memory, note, cache, seconds)
        return BuildResult(engine, manifest, layers, cache, self.log.warnings)

    def _check_calibration(self) -> None:
        if self.request.plan.calibration == "live" and self.request.calibrator is not None:
            feed, cache = self.request.calibrator.feed, self.request.calibrator.cache
            if feed.error is not None:
                raise feed.error
            self.request.calibration["images"] = feed.images
            self.request.calibration["cache_sha256"] = sha256_bytes(cache) if cache else ""
        elif self.request.plan.calibration == "cache" and not getattr(self.request.calibrator, "was_read", False):
            raise DeviceError(f"{self.library.label} did not read the calibration cache")

    def _inspect(self, engine: bytes) -> Tuple[Optional[List[EngineLayer]], Optional[int], str]:
        if self.library.rtx and self.request.machine.compute_capability is None:
            return (
                None,
                None,
                "built ahead of time: TensorRT-RTX chooses kernels on the GPU itself, and there is none here",
            )
        runtime = self.library.module.Runtime(self.logger)
        loaded = runtime.deserialize_cuda_engine(engine) if runtime is not None else None
        if loaded is None:
            return None, None, f"the engine cannot be loaded here: {self.log.reason}"
        memory = self.library.device_memory(loaded)
        try:
            text = loaded.create_engine_inspector().get_engine_information(self.library.json_format())
            return parse_inspection(text), memory, ""
        except (ValueError, TypeError, KeyError) as error:
            return None, memory, f"the engine inspector's answer cannot be read: {error}"

    def _manifest(
        self,
        engine: bytes,
        layers: Optional[List[EngineLayer]],
        memory: Optional[int],
        note: str,
        cache: Optional[bytes],
        seconds: float,
    ) -> EngineManifest:
        request = self.request
        capabilities = request.options.compute_capabilities or (
            (request.machine.compute_capability,) if request.machine.compute_capability else ()
        )
        return EngineManifest(
            engine_sha256=sha256_bytes(engine),
            engine_bytes=len(engine),
            backend="tensorrt-rtx" if self.library.rtx else "tensorrt",
            tensorrt_version=self.library.version_text,
            compute_capabilities=tuple(f"{major}.{minor}" for major, minor in capabilities),
            gpu=request.machine.gpu,
            dialect=request.plan.dialect,
            precision=request.plan.precision,
            flags=request.plan.flags,
            options=request.options.to_dict(),
            inputs=tuple(_value(value) for value in request.header.inputs),
            outputs=tuple(_value(value) for value in request.header.outputs),
            batch=(request.options.batch or (1, 1, 1)) if request.header.dynamic_batch else None,
            layers=tuple(layer.to_dict() for layer in layers or ()),
            layers_note=note,
            precision_shares=precision_shares(layers or ()),
            device_memory_bytes=memory,
            timing_cache_sha256=sha256_bytes(cache) if cache is not None else "",
            calibration=request.calibration,
            build_seconds=round(seconds, 3),
            notes=(*request.plan.notes, *request.notes),
            source={
                "file": Path(request.model).name,
                "sha256": sha256_bytes(Path(request.model).read_bytes()),
                "opset": request.header.opset,
                "metadata": request.header.metadata.to_properties(),
            },
            rebuild=request.rebuild,
        )


def parse_error(path: str, header: OnnxHeader, library: TensorRT, problems: List[ParseProblem]) -> BadModelError:
    """TensorRT's refusal of a model, with the node that it is about."""
    if not problems:
        return BadModelError(path, f"{library.label} refuses it and gives no reason")
    problem = problems[0]
    node, operator = problem.node, problem.operator
    if not node and 0 <= problem.position < len(header.nodes):
        node, operator = header.nodes[problem.position].name, header.nodes[problem.position].operator
    where = f" at node {node} ({operator})" if node and operator else f" at node {node}" if node else ""
    text = " ".join(problem.text.split())
    more = f" (and {len(problems) - 1} more errors)" if len(problems) > 1 else ""
    return BadModelError(path, f"{library.label} refuses it{where}: {text}{more}", _remedy(text, operator))


def _remedy(text: str, operator: str = "") -> str:
    lowered = text.lower()
    if "no importer registered" in lowered or "unsupported" in lowered or "plugin" in lowered:
        name = operator or "the operator"
        return f"{name} does not exist in this TensorRT: simplify with googlenet-deploy export --onnx, or replace it"
    if operator in ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"):
        return "quantise the model with googlenet-deploy quantize, which places Q/DQ as TensorRT wants it"
    if "deserializ" in lowered or "protobuf" in lowered:
        return "export it again, or check the download"
    return "googlenet-deploy inspect shows the layer; googlenet-deploy export --onnx simplifies the model"


def check_memory(request: BuildRequest) -> None:
    """Says or refuses what will not fit, before minutes are spent.

    The builder holds the weights at least three times: as read, as parsed and on the device.

    Raises:
        DeviceError: Not even the weights fit.
    """
    free = request.machine.free_memory
    if free is None:
        return
    size = Path(request.model).stat().st_size
    if free < 3 * size:
        raise DeviceError(
            f"{free / 2**20:.0f} MiB of device memory are free; a model of {size / 2**20:.0f} MiB needs three times "
            "its size to be built",
            "close other programs, or add swap",
        )
    workspace = request.options.workspace_bytes
    if workspace is not None and workspace > free:
        request.notes.append(
            f"the workspace limit of {workspace / 2**20:.0f} MiB is more than the {free / 2**20:.0f} MiB that are free"
        )


@contextmanager
def cancellation() -> Iterator[threading.Event]:
    """Turns Ctrl-C into an event while the block runs: an exception must not cross TensorRT's C++ frames."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    previous = signal.signal(signal.SIGINT, lambda _number, _frame: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def interruptible(monitored: bool) -> Iterator[None]:
    """Without a progress monitor (TensorRT 8) nothing asks for the event, so Ctrl-C ends the process at once.

    Nothing has been written by then.
    """
    if monitored or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _value(value: Value) -> Dict[str, Any]:
    return {"name": value.name, "dtype": value.dtype, "shape": list(value.shape)}
