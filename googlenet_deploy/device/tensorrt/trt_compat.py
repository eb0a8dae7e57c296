"""TensorRT's Python API in all its versions, for building: all version-specific names are used here.

`TensorRT` is one interface to versions 8.5 to 11 and TensorRT-RTX; `execution.py` does the same for running an engine,
from 8.2 on; `names.py` lists which version has which name. Enumerators are looked up by name, since their values
changed between 10 and 11.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from googlenet_deploy.device.tensorrt.callbacks import LogSink, make_logger, make_monitor
from googlenet_deploy.device.tensorrt.names import (
    ALWAYS_SHARES_PROFILES,
    ONLY_STRONGLY_TYPED,
    Version,
    parse_version,
    when,
)
from googlenet_deploy.device.text import one_line
from googlenet_deploy.errors import DeviceError

# The builder flags of each option of the toolkit. A stripped plan is refitted with the weights that it was built from,
# which allows all of TensorRT's optimisations; an engine that accepts any weights cannot have them.
FLAGS: Dict[str, Tuple[str, ...]] = {
    "version-compatible": ("VERSION_COMPATIBLE",),
    "strip-plan": ("STRIP_PLAN", "REFIT_IDENTICAL"),
    "refit": ("REFIT",),
    "strip-plan-and-refit": ("STRIP_PLAN", "REFIT"),
    "sparsity": ("SPARSE_WEIGHTS",),
    "gpu-fallback": ("GPU_FALLBACK",),
}


class ParseProblem(NamedTuple):
    """One error of the ONNX parser.

    Attributes:
        position: Position of the node in the graph; negative if the error does not concern a node.
        node: Name of the node, or "" if this version does not report it.
        operator: Its operator, or "".
        text: The parser's message.
    """

    position: int
    node: str
    operator: str
    text: str


_LOGGERS: Dict[Any, Any] = {}


class TensorRT:
    """One imported TensorRT.

    Args:
        module: ``tensorrt`` or ``tensorrt_rtx``, or a binding alone.
        rtx: Whether it is TensorRT-RTX.
    """

    def __init__(self, module: Any, *, rtx: bool) -> None:  # noqa: ANN401 - it has no types
        self.module = module
        self.rtx = rtx
        self.version_text = str(module.__version__)
        self.version: Version = parse_version(self.version_text)

    @property
    def label(self) -> str:
        """Human-readable name: ``TensorRT 10.3.0``."""
        return f"{'TensorRT-RTX' if self.rtx else 'TensorRT'} {self.version_text}"

    @property
    def has_parser(self) -> bool:
        """Whether its ONNX parser is installed."""
        return hasattr(self.module, "OnnxParser")

    @property
    def parser_remedy(self) -> str:
        """How to install the parser."""
        return f"apt install libnvonnxparsers{self.version[0]}"

    @property
    def strongly_typed_only(self) -> bool:
        """Whether it has no precision flags and no calibration."""
        return self.rtx or self.version >= ONLY_STRONGLY_TYPED

    @property
    def shares_profiles(self) -> bool:
        """Whether execution contexts share an optimisation profile without a flag at build time."""
        return self.rtx or self.version >= ALWAYS_SHARES_PROFILES

    def logger(self, sink: LogSink) -> Any:  # noqa: ANN401
        """The logger, which from now on passes (severity, message) to `sink`: "INTERNAL_ERROR" ... "VERBOSE".

        TensorRT uses the first logger of a process and ignores any other, so there is only one.
        """
        if self.module not in _LOGGERS:
            _LOGGERS[self.module] = make_logger(self.module.ILogger)
        logger = _LOGGERS[self.module]
        logger.sink = sink
        return logger

    def builder(self, logger: Any) -> Any:  # noqa: ANN401
        """Creates a builder.

        Raises:
            DeviceError: There is no GPU or driver that TensorRT can use.
        """
        try:
            builder = self.module.Builder(logger)
        except (RuntimeError, TypeError) as error:  # pybind11 raises TypeError if a factory returns NULL
            raise DeviceError(
                f"{self.label} cannot start a builder: {one_line(error)}", "is there a GPU with a driver? see doctor"
            ) from error
        if builder is None:
            raise DeviceError(f"{self.label} cannot start a builder", "is there a GPU with a driver? see doctor")
        return builder

    def network_flags(self, *, strongly_typed: bool) -> int:
        """The bit mask for ``create_network``.

        Raises:
            DeviceError: This version has no strongly typed networks.
        """
        flags = self.module.NetworkDefinitionCreationFlag
        mask = 0
        if self.version < (10, 0) and not self.rtx:
            mask |= 1 << int(flags.EXPLICIT_BATCH)
        if strongly_typed:
            if not hasattr(flags, "STRONGLY_TYPED"):
                raise DeviceError(f"{self.label} has no strongly typed networks")
            mask |= 1 << int(flags.STRONGLY_TYPED)
        return mask

    def parser(self, network: Any, logger: Any) -> Any:  # noqa: ANN401
        """Creates an ONNX parser.

        Raises:
            DeviceError: This TensorRT was installed without its parser.
        """
        if not self.has_parser:
            raise DeviceError(f"{self.label} has no ONNX parser", self.parser_remedy)
        return self.module.OnnxParser(network, logger)

    @staticmethod
    def parse_problems(parser: Any) -> List[ParseProblem]:  # noqa: ANN401
        """The parser's errors; before TensorRT 10 they have a node's position but not its name."""
        problems = []
        for index in range(parser.num_errors):
            error = parser.get_error(index)
            name, operator = getattr(error, "node_name", None), getattr(error, "node_operator", None)
            problems.append(
                ParseProblem(int(error.node()), name() if name else "", operator() if operator else "", error.desc())
            )
        return problems

    def set_flags(self, config: Any, option: str) -> None:  # noqa: ANN401
        """Sets the builder flags of an option.

        Args:
            config: The builder's configuration.
            option: A type ("FP16", "BF16", "INT8"), or a key of `FLAGS`.

        Raises:
            DeviceError: This version does not have one of them.
        """
        for name in FLAGS.get(option, (option,)):
            flag = getattr(self.module.BuilderFlag, name, None)
            if flag is None:
                raise DeviceError(f"{self.label} has no builder flag {name}{when('BuilderFlag', name)}")
            config.set_flag(flag)

    def forbid_tf32(self, config: Any) -> None:  # noqa: ANN401
        """Makes FP32 layers multiply in FP32."""
        config.clear_flag(self.module.BuilderFlag.TF32)

    @staticmethod
    def set_timing_cache(config: Any, data: bytes) -> bool:  # noqa: ANN401
        """Sets the builder's timing cache; False if TensorRT rejected it."""
        return config.set_timing_cache(config.create_timing_cache(data), False) is not False

    def set_optimization_level(self, config: Any, level: int) -> None:  # noqa: ANN401
        """Sets the builder's optimisation level, 0 to 5."""
        self._require(config, "IBuilderConfig", "builder_optimization_level")
        config.builder_optimization_level = level

    def set_hardware_compatibility(self, config: Any, level: str) -> None:  # noqa: ANN401
        """Sets the hardware compatibility, "ampere+" or "same-compute-capability"."""
        self._require(config, "IBuilderConfig", "hardware_compatibility_level")
        name = {"ampere+": "AMPERE_PLUS", "same-compute-capability": "SAME_COMPUTE_CAPABILITY"}[level]
        value = getattr(self.module.HardwareCompatibilityLevel, name, None)
        if value is None:
            raise DeviceError(f"{self.label} has no hardware compatibility level {level}")
        config.hardware_compatibility_level = value

    def set_tactic_sources(self, config: Any, names: Sequence[str]) -> None:  # noqa: ANN401
        """Restricts the libraries that tactics come from; with an empty list only TensorRT's own kernels remain."""
        mask = 0
        for name in names:
            source = getattr(self.module.TacticSource, name.upper(), None)
            if source is None:
                known = [key for key in dir(self.module.TacticSource) if key.isupper()]
                raise DeviceError(f"{self.label} has no tactic source {name}", f"it has {', '.join(known)}")
            mask |= 1 << int(source)
        config.set_tactic_sources(mask)

    def set_compute_capabilities(self, config: Any, capabilities: Sequence[Tuple[int, int]]) -> None:  # noqa: ANN401
        """Builds ahead of time for these GPUs; TensorRT-RTX only.

        Raises:
            DeviceError: This TensorRT builds for its own GPU only, or does not know one of them.
        """
        enum = getattr(self.module, "ComputeCapability", None)
        if enum is None:
            raise DeviceError(
                f"{self.label} builds for the GPU that it runs on only",
                "build on the device, or --backend tensorrt-rtx",
            )
        values = [getattr(enum, f"SM{major}{minor}", None) for major, minor in capabilities]
        unknown = [f"{major}.{minor}" for (major, minor), value in zip(capabilities, values) if value is None]
        if unknown:
            raise DeviceError(
                f"{self.label} cannot build for compute capability {', '.join(unknown)}",
                f"it can for {', '.join(self.compute_capabilities())}; Jetson engines are built on the Jetson",
            )
        config.num_compute_capabilities = len(values)
        for index, value in enumerate(values):
            config.set_compute_capability(value, index)

    def compute_capabilities(self) -> List[str]:
        """The capabilities that this library builds for ahead of time: ``["7.5", ...]``; empty for TensorRT itself."""
        enum = getattr(self.module, "ComputeCapability", None)
        numbers = sorted(int(key[2:]) for key in dir(enum) if re.fullmatch(r"SM\d+", key)) if enum else []
        return [f"{number // 10}.{number % 10}" for number in numbers]

    def set_progress(self, config: Any, step: Callable[[str, int, int], bool]) -> Optional[Any]:  # noqa: ANN401
        """Calls ``step(phase, done, total)`` as phases advance; a False return cancels the build.

        Returns:
            The monitor, to be kept alive until the build ends; None if this version has none.
        """
        base = getattr(self.module, "IProgressMonitor", None)
        if base is None or not hasattr(config, "progress_monitor"):
            return None

        monitor = make_monitor(base, step)
        config.progress_monitor = monitor
        return monitor

    def calibrator_base(self, algorithm: str) -> Any:  # noqa: ANN401
        """The base class of a live INT8 calibrator, for "entropy" or "minmax".

        Raises:
            DeviceError: This version has no implicit quantisation.
        """
        name = {"entropy": "IInt8EntropyCalibrator2", "minmax": "IInt8MinMaxCalibrator"}[algorithm]
        base = getattr(self.module, name, None)
        if base is None:
            raise DeviceError(
                f"{self.label} has no calibration: implicit INT8 ended with TensorRT 10",
                "build a Q/DQ model: googlenet-deploy quantize",
            )
        return base

    def set_calibrator(self, config: Any, calibrator: Any) -> None:  # noqa: ANN401
        """Attaches a calibrator made from `calibrator_base`."""
        self._require(config, "IBuilderConfig", "int8_calibrator")
        config.int8_calibrator = calibrator

    def has_fast_int8(self, builder: Any) -> Optional[bool]:  # noqa: ANN401
        """Whether the GPU computes in INT8; None if this version does not report it."""
        return getattr(builder, "platform_has_fast_int8", None)

    @staticmethod
    def device_memory(engine: Any) -> int:  # noqa: ANN401
        """Bytes of device memory that one execution context needs."""
        size = getattr(engine, "device_memory_size_v2", None)
        return int(engine.device_memory_size if size is None else size)

    def load_engine(self, logger: Any, engine: bytes, *, version_compatible: bool) -> Optional[Any]:  # noqa: ANN401
        """Deserialises an engine that was just built; None if TensorRT rejects it."""
        runtime = self.module.Runtime(logger)
        if runtime is None:
            return None
        if version_compatible:  # such an engine contains its own code
            self._require(runtime, "Runtime", "engine_host_code_allowed")
            runtime.engine_host_code_allowed = True
        return runtime.deserialize_cuda_engine(engine)

    def set_workspace(self, config: Any, size: int) -> None:  # noqa: ANN401
        """Limits the scratch memory of a layer, in bytes."""
        config.set_memory_pool_limit(self.module.MemoryPoolType.WORKSPACE, size)

    def set_verbosity(self, config: Any, level: str) -> None:  # noqa: ANN401
        """Sets how much the engine reports about its layers: "none", "names" or "detailed"."""
        name = {"none": "NONE", "names": "LAYER_NAMES_ONLY", "detailed": "DETAILED"}[level]
        config.profiling_verbosity = getattr(self.module.ProfilingVerbosity, name)

    def use_dla(self, config: Any, core: int) -> None:  # noqa: ANN401
        """Puts all layers on a DLA core by default."""
        config.default_device_type = self.module.DeviceType.DLA
        config.DLA_core = core

    def json_format(self) -> Any:  # noqa: ANN401
        """The engine inspector's JSON format."""
        return self.module.LayerInformationFormat.JSON

    def keep_fp32(self, network: Any, config: Any, operators: Sequence[str], nodes: Sequence[str]) -> List[str]:  # noqa: ANN401
        """Asks for FP32 in some layers; for weakly typed builds.

        Args:
            network: The parsed network.
            config: The builder's configuration.
            operators: ONNX operators that are also TensorRT layer types, such as LRN and Softmax.
            nodes: Names of ONNX nodes, which TensorRT's layers keep.

        Returns:
            Names of the layers that were found.
        """
        kinds = {getattr(self.module.LayerType, operator.upper(), None) for operator in operators} - {None}
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        chosen = [layer for layer in layers if layer.type in kinds or layer.name in nodes]
        for layer in chosen:
            self._require(layer, "ILayer", "precision")
            layer.precision = self.module.DataType.FLOAT
        if chosen:
            self.set_flags(config, "PREFER_PRECISION_CONSTRAINTS")
        return [layer.name for layer in chosen]

    def use_calibration_profile(self, config: Any, profile: Any) -> None:  # noqa: ANN401
        """Sets the shapes that calibration runs with."""
        self._require(config, "IBuilderConfig", "set_calibration_profile")
        config.set_calibration_profile(profile)

    def _require(self, owner: Any, class_name: str, name: str) -> None:  # noqa: ANN401
        if not hasattr(owner, name):
            raise DeviceError(f"{self.label} has no {name}{when(class_name, name)}")
