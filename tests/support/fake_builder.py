"""TensorRT's builder in plain Python: it parses ONNX with our own reader and "builds" an engine of JSON.

An attribute that the fake lacks counts as missing in TensorRT: it has those of TensorRT 10.3, or of an older or newer
version if a test removes some. Contract tests check the real bindings against the same code.
"""

from __future__ import annotations

import ctypes
import enum
import json
from types import ModuleType, SimpleNamespace
from typing import Any

from googlenet_deploy.device.onnx_model.header import parse_onnx

UNKNOWN_OPERATOR = "Foo"
PHASES = (("Building Engine", 3), ("Tactic Selection", 2))


class Behaviour:
    """How the fake misbehaves, and which requests it received.

    Attributes:
        no_gpu: The factory returns no builder.
        error: What the build logs as an error before it returns no engine; "" for a build that works.
        warnings: What the build logs as warnings.
        fp16_layers: Convolutions that run in FP16 although INT8 was allowed.
        reads_cache: Whether a calibration cache is read.
        takes_cache: Whether it is accepted, once it was read.
        fast_int8: Value of ``platform_has_fast_int8``.
        dla_cores: Number of deep learning accelerators.
        dla_refuses: Layers that the DLA does not support.
        wants_cache: Whether a timing cache is accepted.
        new_timings: Bytes that a build adds to the timing cache.
        loads: Whether the engine can be deserialised.
        inspection: What the engine inspector prints instead; None prints the real layers.
        cancelled: Whether the progress monitor stopped the build.
        configs: Every configuration that was made.
        batches: The batches passed to calibration: one address per call.
    """

    def __init__(self) -> None:
        self.no_gpu = False
        self.error = ""
        self.warnings: list[str] = []
        self.fp16_layers: set[str] = set()
        self.reads_cache = self.takes_cache = True
        self.fast_int8 = True
        self.dla_cores = 2
        self.dla_refuses: set[str] = set()
        self.wants_cache = True
        self.new_timings = b"t"
        self.loads = True
        self.inspection: str | None = None
        self.cancelled = False
        self.configs: list[_Config] = []
        self.batches: list[int] = []


class Flag(enum.IntEnum):
    FP16 = 0
    INT8 = 1
    GPU_FALLBACK = 3
    REFIT = 4
    TF32 = 7
    SPARSE_WEIGHTS = 8
    PREFER_PRECISION_CONSTRAINTS = 11
    VERSION_COMPATIBLE = 13
    BF16 = 17
    STRIP_PLAN = 19
    REFIT_IDENTICAL = 20


class Kind(enum.Enum):
    CONVOLUTION = 0
    LRN = 1
    SOFTMAX = 2
    OTHER = 3


_KINDS = {"Conv": Kind.CONVOLUTION, "LRN": Kind.LRN, "Softmax": Kind.SOFTMAX}


class _Cache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data


class _Config:
    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.flags: set[Flag] = {Flag.TF32}
        self.pools: dict[str, int] = {}
        self.profiles: list[Any] = []
        self.cache: _Cache | None = None
        self.int8_calibrator: Any = None
        self.progress_monitor: Any = None
        self.builder_optimization_level = 3
        self.hardware_compatibility_level: Any = None
        self.tactics: int | None = None

    def set_flag(self, flag: Flag) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: Flag) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.pools[pool] = size

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile)
        return 0

    def set_calibration_profile(self, profile: Any) -> bool:
        self.calibration_profile = profile
        return True

    def create_timing_cache(self, data: bytes) -> _Cache:
        return _Cache(data)

    def set_timing_cache(self, cache: _Cache, ignore_mismatch: bool) -> bool:
        if not self.behaviour.wants_cache:
            cache = _Cache(b"")
        self.cache = cache
        return self.behaviour.wants_cache

    def get_timing_cache(self) -> _Cache:
        assert self.cache is not None
        return _Cache(self.cache.data + self.behaviour.new_timings)

    def set_tactic_sources(self, mask: int) -> bool:
        self.tactics = mask
        return True

    def can_run_on_DLA(self, layer: Any) -> bool:
        return layer.name not in self.behaviour.dla_refuses


class _Profile:
    def set_shape(self, name: str, smallest: Any, usual: Any, largest: Any) -> None:
        self.shapes = (name, smallest, usual, largest)


class _Error:
    def __init__(self, position: int, name: str, operator: str) -> None:
        self.position, self.name, self.operator = position, name, operator

    def node(self) -> int:
        return self.position

    def node_name(self) -> str:
        return self.name

    def node_operator(self) -> str:
        return self.operator

    def desc(self) -> str:
        return f"No importer registered for op: {self.operator}. Attempting to import as plugin."


class _Parser:
    def __init__(self, network: Any, logger: Any) -> None:
        self.network, self.errors = network, []  # type: Any, list[_Error]

    def parse(self, content: bytes, path: str) -> bool:
        header = parse_onnx(content, path)
        self.network.header = header
        self.errors = [
            _Error(position, node.name, node.operator)
            for position, node in enumerate(header.nodes)
            if node.operator == UNKNOWN_OPERATOR
        ]
        self.network.layers = [
            SimpleNamespace(name=node.name, type=_KINDS.get(node.operator, Kind.OTHER), precision=None)
            for node in header.nodes
        ]
        self.network.num_outputs = 0 if path.endswith("no-output.onnx") else len(header.outputs)
        return not self.errors

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def get_error(self, index: int) -> _Error:
        return self.errors[index]


class _Network:
    def __init__(self) -> None:
        self.layers: list[Any] = []
        self.num_outputs = 1
        self.header: Any = None

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_layer(self, index: int) -> Any:
        return self.layers[index]


class _Builder:
    def __init__(self, behaviour: Behaviour, logger: Any) -> None:
        self.behaviour, self.logger = behaviour, logger
        self.platform_has_fast_int8 = behaviour.fast_int8
        self.num_DLA_cores = behaviour.dla_cores

    def create_network(self, flags: int) -> _Network:
        return _Network()

    def create_builder_config(self) -> _Config:
        self.behaviour.configs.append(_Config(self.behaviour))
        return self.behaviour.configs[-1]

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        for message in self.behaviour.warnings:
            self.logger.log("Severity.WARNING", message)
        self._calibrate(config)
        if not self._advance(config.progress_monitor):
            self.behaviour.cancelled = True
            return None
        if self.behaviour.error:
            self.logger.log("Severity.ERROR", self.behaviour.error)
            return None
        return json.dumps(self._layers(network, config)).encode()

    def _calibrate(self, config: _Config) -> None:
        calibrator = config.int8_calibrator
        if calibrator is None or not self.behaviour.reads_cache:
            return
        if calibrator.read_calibration_cache() is None or not self.behaviour.takes_cache:
            while (addresses := calibrator.get_batch(["input"])) is not None:
                self.behaviour.batches += addresses
            calibrator.write_calibration_cache(b"TRT-100300-EntropyCalibration2\ninput: 3c010a14\n")

    @staticmethod
    def _advance(monitor: Any) -> bool:
        for phase, steps in PHASES if monitor is not None else ():
            monitor.phase_start(phase, None, steps)
            for step in range(steps):
                if not monitor.step_complete(phase, step):
                    return False
            monitor.phase_finish(phase)
        return True

    def _layers(self, network: _Network, config: _Config) -> dict[str, Any]:
        allowed = "Int8" if Flag.INT8 in config.flags else "Half" if Flag.FP16 in config.flags else "Float"
        layers = []
        for node in network.header.nodes:
            if node.operator != "Conv":
                continue
            kind = "Half" if node.name in self.behaviour.fp16_layers else allowed
            port = {"Name": "x", "Dimensions": [1, 4, 8, 8], "Format/Datatype": f"Row major linear {kind}"}
            weights = {"Type": kind, "Count": 100}
            layers.append(
                {
                    "Name": node.name,
                    "LayerType": "CaskConvolution",
                    "ParameterType": "Convolution",
                    "Inputs": [port],
                    "Outputs": [port],
                    "Weights": weights,
                }
            )
        return {"Layers": layers, "Bindings": []}


class _Engine:
    device_memory_size = device_memory_size_v2 = 4096

    def __init__(self, behaviour: Behaviour, data: bytes) -> None:
        self.behaviour, self.data = behaviour, data

    def create_engine_inspector(self) -> Any:
        text = self.data.decode() if self.behaviour.inspection is None else self.behaviour.inspection
        return SimpleNamespace(get_engine_information=lambda _format: text)


def builder_module(behaviour: Behaviour, version: str = "10.3.0") -> Any:
    """The part of ``tensorrt`` that is used for building."""
    module: Any = ModuleType("tensorrt")

    class Logger:
        def __init__(self) -> None:
            pass

    class Calibrator:
        def __init__(self) -> None:
            pass

    class Monitor:
        def __init__(self) -> None:
            pass

    class Runtime:
        engine_host_code_allowed = False

        def __init__(self, logger: Any) -> None:
            pass

        def deserialize_cuda_engine(self, data: bytes) -> _Engine | None:
            return _Engine(behaviour, data) if behaviour.loads else None

    def make_builder(logger: Any) -> _Builder | None:
        if behaviour.no_gpu:
            logger.log("Severity.ERROR", "CUDA initialization failure with error: 35")
            return None
        return _Builder(behaviour, logger)

    module.__version__ = version
    module.ILogger, module.IProgressMonitor, module.Runtime, module.Builder = Logger, Monitor, Runtime, make_builder
    module.IInt8EntropyCalibrator2 = module.IInt8MinMaxCalibrator = Calibrator
    module.OnnxParser, module.BuilderFlag, module.LayerType = _Parser, Flag, Kind
    module.NetworkDefinitionCreationFlag = enum.IntEnum("Creation", {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1})
    module.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    module.ProfilingVerbosity = enum.Enum("Verbosity", ["LAYER_NAMES_ONLY", "NONE", "DETAILED"])
    module.DeviceType = enum.Enum("Device", ["GPU", "DLA"])
    module.DataType = enum.Enum("Data", ["FLOAT", "HALF", "INT8"])
    module.LayerInformationFormat = SimpleNamespace(JSON="json")
    module.HardwareCompatibilityLevel = SimpleNamespace(AMPERE_PLUS="ampere+")
    module.TacticSource = enum.IntEnum("Tactic", {"CUBLAS": 0, "CUDNN": 2, "EDGE_MASK_CONVOLUTIONS": 3})
    return module


class FakeDriver:
    """``libcuda`` with the same calling convention: writes through pointers, returns a status.

    Attributes:
        name: Name of the GPU.
        values: Device attributes by number, and the count of devices under "count".
        free: Free bytes of device memory.
        status: Status by function; 0 if it is not listed.
        calls: Functions that were called, in order.
    """

    def __init__(self, capability: tuple[int, int] = (8, 7), *, integrated: bool = False) -> None:
        self.name = b"Fake GPU"
        self.values = {"count": 1, 75: capability[0], 76: capability[1], 18: int(integrated)}
        self.free = 2**30
        self.status: dict[str, int] = {}
        self.calls: list[str] = []

    def __getattr__(self, function: str) -> Any:
        if not function.startswith("cu"):
            raise AttributeError(function)

        def call(*arguments: Any) -> int:
            self.calls.append(function)
            if self.status.get(function):
                return self.status[function]
            self._answer(function, arguments)
            return 0

        return call

    def _answer(self, function: str, arguments: tuple[Any, ...]) -> None:
        if function == "cuDeviceGetCount":
            arguments[0]._obj.value = self.values["count"]
        elif function == "cuDeviceGetName":
            arguments[0].value = self.name
        elif function == "cuDeviceGetAttribute":
            arguments[0]._obj.value = self.values[arguments[1]]
        elif function == "cuMemGetInfo_v2":
            arguments[0]._obj.value, arguments[1]._obj.value = self.free, 2 * self.free
        elif function == "cuGetErrorName":
            ctypes.cast(arguments[1], ctypes.POINTER(ctypes.c_char_p))[0] = b"CUDA_ERROR_FAKE"
