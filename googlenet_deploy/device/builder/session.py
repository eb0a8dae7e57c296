"""Builds an engine: parse, configure, build, inspect, and describe it in a manifest."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from googlenet_deploy.device.builder.dla_rules import Placement
from googlenet_deploy.device.builder.failure import build_error, parse_error
from googlenet_deploy.device.builder.inspection import inspect_engine
from googlenet_deploy.device.builder.manifest import make_manifest
from googlenet_deploy.device.builder.plan import BuildRequest, BuildResult
from googlenet_deploy.device.builder.timing_cache import describe_change
from googlenet_deploy.device.onnx_model.strip_qdq import strip_quantization
from googlenet_deploy.device.onnx_model.training_mode import read_inference_model
from googlenet_deploy.device.signals import cancellation, deferred, interruptible
from googlenet_deploy.device.tensorrt.log import BuildLog
from googlenet_deploy.device.tensorrt.trt_compat import TensorRT
from googlenet_deploy.errors import BadModelError, DeviceError

Step = Callable[[str, int, int], None]


class BuildSession:
    """A parsed network with its builder; `check` only configures it, `build` builds the engine.

    Args:
        library: TensorRT.
        request: What to build.

    Raises:
        BadModelError: TensorRT rejects the model; the message quotes TensorRT.
        DeviceError: No builder can be started, or TensorRT has no parser.
        KeyboardInterrupt: Ctrl-C was pressed.
    """

    def __init__(self, library: TensorRT, request: BuildRequest) -> None:
        self.library, self.request = library, request
        self.dla: Dict[str, Any] = {}
        self.log = BuildLog()
        self.logger = library.logger(self.log)
        with deferred():
            self._start()
            self._parse()

    def _start(self) -> None:
        library = self.library
        try:
            self.builder = library.builder(self.logger)
        except DeviceError as error:
            detail = f" ({self.log.reason})" if self.log.errors else ""
            raise DeviceError(f"{error.message}{detail}", error.remedy) from error
        flags = library.network_flags(strongly_typed=self.request.plan.strongly_typed)
        self.network = self.builder.create_network(flags)
        self.parser = library.parser(self.network, self.logger)

    def _parse(self) -> None:
        request, path = self.request, self.request.model
        content = read_inference_model(path).content
        if request.plan.strip_qdq:
            content, removed = strip_quantization(content, path)
            request.notes.append(f"{removed} Q/DQ nodes removed")
        if not self.parser.parse(content, path):
            problems = self.library.parse_problems(self.parser)
            raise parse_error(path, request.header, self.library.label, problems)
        if not self.network.num_outputs:
            raise BadModelError(path, f"{self.library.label} found no output in it")
        if request.plan.precision == "int8" and self.library.has_fast_int8(self.builder) is False:
            request.notes.append(f"{self.library.label} reports that this GPU has no fast INT8")

    def configure(self, step: Optional[Callable[[str, int, int], bool]] = None) -> Tuple[Any, Optional[Any]]:
        """Makes the builder's configuration, and the progress monitor if this TensorRT has one.

        Raises:
            DeviceError: This TensorRT does not support an option.
        """
        config = self.builder.create_builder_config()
        self._set_shapes(config)
        self._set_types(config)
        self._set_options(config)
        self._set_hardware(config)
        monitor = self.library.set_progress(config, step) if step else None
        return config, monitor

    def _set_shapes(self, config: Any) -> None:  # noqa: ANN401 - TensorRT has no types
        if not self.request.header.dynamic_batch:
            return
        value = self.request.header.inputs[0]
        spec = self.request.header.metadata.preprocessing
        prepared = (None,) * len(value.shape[1:]) if spec is None else spec.input_shape
        rest = [size if isinstance(size, int) else made for size, made in zip(value.shape[1:], prepared)]
        if None in rest or len(rest) != len(value.shape[1:]):
            raise BadModelError(
                self.request.model,
                f"its input {value.name} leaves more open than the batch",
                "export it with a preprocessing, whose crop fixes the size",
            )
        profile = self.builder.create_optimization_profile()
        shapes = [(size, *rest) for size in self.request.options.batch or (1, 1, 1)]
        profile.set_shape(value.name, *shapes)
        config.add_optimization_profile(profile)
        if self.request.calibrator is not None:
            self.library.use_calibration_profile(config, profile)

    def _set_types(self, config: Any) -> None:  # noqa: ANN401 - TensorRT has no types
        plan, nodes = self.request.plan, self.request.header.nodes
        for flag in plan.flags:
            self.library.set_flags(config, flag)
        if not self.request.options.tf32:
            self.library.forbid_tf32(config)
        if plan.keep_fp32:
            names = [node.name for node in nodes if node.name and {node.name, node.operator} & set(plan.keep_fp32)]
            found = self.library.keep_fp32(self.network, config, plan.keep_fp32, names)
            if not found:
                self.request.notes.append(f"no TensorRT layer is named {', '.join(plan.keep_fp32)}")
        if self.request.calibrator is not None:
            self.library.set_calibrator(config, self.request.calibrator)

    def _set_options(self, config: Any) -> None:  # noqa: ANN401 - TensorRT has no types
        options, library = self.request.options, self.library
        library.set_verbosity(config, options.verbosity)
        if options.workspace_bytes is not None:
            library.set_workspace(config, options.workspace_bytes)
        if options.optimization_level is not None:
            library.set_optimization_level(config, options.optimization_level)
        if options.tactic_sources is not None:
            library.set_tactic_sources(config, options.tactic_sources)
        for name in options.flag_names():
            library.set_flags(config, name)
        if self.request.timing_cache is not None and not library.set_timing_cache(config, self.request.timing_cache):
            self.request.notes.append(f"{library.label} rejected the timing cache: every kernel is timed")

    def _set_hardware(self, config: Any) -> None:  # noqa: ANN401 - TensorRT has no types
        options, library = self.request.options, self.library
        if options.hardware_compatible:
            library.set_hardware_compatibility(config, options.hardware_compatible)
        if options.compute_capabilities:
            library.set_compute_capabilities(config, options.compute_capabilities)
        if options.dla_core is not None:
            self._use_dla(config, options.dla_core)

    def _use_dla(self, config: Any, core: int) -> None:  # noqa: ANN401 - TensorRT has no types
        cores = int(self.builder.num_DLA_cores)
        if core >= cores:
            raise DeviceError(f"this machine has {cores} DLA cores, so there is no core {core}", "leave --dla-core out")
        self.library.use_dla(config, core)
        if self.request.options.gpu_fallback:
            self.library.set_flags(config, "gpu-fallback")
        placements = self.placements(config)
        left = [entry.name for entry in placements if entry.reason]
        self.dla = {"core": core, "layers": len(placements), "gpu_layers": left}
        if left and not self.request.options.gpu_fallback:
            raise DeviceError(
                f"the DLA cannot run {len(left)} of {len(placements)} layers: {', '.join(left[:8])}",
                "leave --no-gpu-fallback out, or export with --average-pool",
            )

    def placements(self, config: Any) -> List[Placement]:  # noqa: ANN401 - TensorRT has no types
        """Every layer of the network, and whether the DLA supports it according to TensorRT."""
        layers = (self.network.get_layer(index) for index in range(self.network.num_layers))
        return [
            Placement(
                layer.name,
                str(layer.type).rpartition(".")[2],
                "" if config.can_run_on_DLA(layer) else "TensorRT reports that the DLA cannot run it",
            )
            for layer in layers
        ]

    def check(self) -> None:
        """Configures without building, to find options that this TensorRT does not support."""
        self.configure()

    def build(self, step: Optional[Step] = None) -> BuildResult:
        """Builds the engine.

        Args:
            step: Called with (phase, steps done, steps in all); only in versions with a progress monitor.

        Raises:
            BadModelError: TensorRT rejects the model.
            DeviceError: The build failed.
            KeyboardInterrupt: Ctrl-C was pressed; TensorRT has stopped cleanly.
        """
        check_memory(self.request)
        with cancellation() as cancelled:

            def advance(phase: str, done: int, total: int) -> bool:
                if step is not None:
                    step(phase, done, total)
                return not cancelled.is_set()

            started = time.perf_counter()
            config, monitor = self.configure(advance)
            with interruptible(monitored=monitor is not None):
                serialized = self.builder.build_serialized_network(self.network, config)
            seconds = time.perf_counter() - started
            if cancelled.is_set():
                raise KeyboardInterrupt
        if serialized is None and getattr(self.request.calibrator, "failure", None) is None:
            raise build_error(self.request.model, self.library.label, self.log)
        self._check_calibration()
        return self._result(bytes(serialized), config, seconds)

    def _check_calibration(self) -> None:
        """Raises the error of a TensorRT callback, which could not raise it itself."""
        calibrator = self.request.calibrator
        if calibrator is None:
            return
        failure = calibrator.failure
        facts = calibrator.conclude()
        if failure is not None:
            raise failure
        self.request.calibration.update(facts)
        left = [(facts.get("left_out", 0), "fill no batch"), (len(facts.get("skipped", ())), "cannot be used")]
        self.request.notes += [f"calibration left {count} images out: they {why}" for count, why in left if count]

    def _result(self, engine: bytes, config: Any, seconds: float) -> BuildResult:  # noqa: ANN401 - TensorRT has no types
        with deferred():
            inspection = inspect_engine(self.library, self.logger, engine, self.request)
        self.request.notes += [inspection.remark] if inspection.remark else []
        cache: Optional[bytes] = None
        if self.request.timing_cache is not None:
            cache = bytes(config.get_timing_cache().serialize())
            note = describe_change(str(self.request.options.timing_cache), self.request.timing_cache, cache)
            self.request.notes.append(note)
        manifest = make_manifest(self.library, self.request, engine, inspection, self.dla, cache, seconds)
        return BuildResult(engine, manifest, inspection.layers, cache, self.log.warnings)


def check_memory(request: BuildRequest) -> None:
    """Notes or rejects what will not fit in memory, before minutes are spent on it.

    The builder holds the weights at least three times: as read, as parsed and on the device.

    Raises:
        DeviceError: Not even the weights fit.
    """
    free = request.gpu.free_memory if request.gpu else None
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
