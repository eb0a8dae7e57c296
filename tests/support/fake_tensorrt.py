"""TensorRT's runtime in plain Python, by tensor names or, before 8.5, by bindings.

An engine is JSON: its tensors, and how it misbehaves. Its network doubles the first `classes` values of each image. It
reads and writes the memory of a `FakeGpu` at the given addresses, when the stream is waited for.
"""

from __future__ import annotations

import ctypes
import enum
import json
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from fake_cuda import NETWORK_SECONDS, FakeGpu

DEFAULT = {"input": [-1, 3, 4, 4], "profile": [1, 2, 4], "classes": 6, "dtype": "FLOAT"}


def engine_bytes(**changes: Any) -> bytes:
    """A serialised engine."""
    return json.dumps({**DEFAULT, **changes}, sort_keys=True).encode()


class _IOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class _Type(enum.Enum):
    FLOAT = 0
    HALF = 1
    BF16 = 7


_NUMPY = {_Type.FLOAT: np.float32, _Type.HALF: np.float16}


class _Context:
    def __init__(self, gpu: FakeGpu, config: dict[str, Any], log: Any, *, without_profile: bool) -> None:
        self.gpu, self.config, self.log = gpu, config, log
        self.without_profile = without_profile
        self.number = gpu.number("context of an engine")
        self.sizes = tuple(config["input"])
        self.addresses: dict[str, int] = {}

    def __del__(self) -> None:
        self.gpu.live.discard(("context of an engine", self.number))

    def _set_shape(self, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self.config["profile"]
        if self.config["input"][0] == -1:
            if not smallest <= shape[0] <= largest:
                return False
        elif tuple(shape) != tuple(self.config["input"]):
            return False
        self.sizes = tuple(shape)
        return True

    def _shape(self, is_input: bool) -> tuple[int, ...]:
        return self.sizes if is_input else (self.sizes[0], self.config["classes"])

    def _execute(self, stream: int, source: int, target: int) -> bool:
        if self.without_profile:
            self.log("[convBaseRunner.cpp::execute] Error Code 1: Cask (Cask convolution execution)")
            return False
        if self.config.get("refuses") or (self.config.get("uncapturable") and stream in self.gpu.captures):
            return False
        sizes, classes = self.sizes, self.config["classes"]
        dtype = _NUMPY[_Type[self.config["dtype"]]]

        def work() -> float:
            count = int(np.prod(sizes))
            item = np.dtype(dtype).itemsize
            images = np.frombuffer((ctypes.c_uint8 * (count * item)).from_address(source), dtype)
            scores = np.ascontiguousarray(images.reshape(sizes[0], -1)[:, :classes] * dtype(2))
            ctypes.memmove(target, scores.ctypes.data, scores.nbytes)
            return NETWORK_SECONDS

        self.gpu.put(stream, work)
        return True


class _NamedContext(_Context):
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return self._set_shape(shape)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shape(name == "input")

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        return self._execute(stream_handle, self.addresses["input"], self.addresses["logits"])


class _BindingContext(_Context):
    def set_binding_shape(self, binding: int, shape: tuple[int, ...]) -> bool:
        return self._set_shape(shape)

    def get_binding_shape(self, binding: int) -> tuple[int, ...]:
        return self._shape(binding == 0)

    def execute_async_v2(self, bindings: list[int], stream_handle: int) -> bool:
        return self._execute(stream_handle, bindings[0], bindings[1])


class _Engine:
    exclusive_profiles = False
    device_memory_size = 3 * 2**20

    def __init__(self, gpu: FakeGpu, config: dict[str, Any], log: Any) -> None:
        self.gpu, self.config, self.log = gpu, config, log
        self.number = gpu.number("engine")

    def __del__(self) -> None:
        self.gpu.live.discard(("engine", self.number))

    def _profile(self) -> list[tuple[int, ...]]:
        return [(size, *self.config["input"][1:]) for size in self.config["profile"]]

    def _context(self, kind: Any) -> Any:
        live = sum(name == "context of an engine" for name, _ in self.gpu.live)
        if live >= self.config.get("contexts", 99):
            self.log("[executionContext.cpp] Cuda error: out of memory")
            return None
        # Like TensorRT 8.5.2: the first context has the only profile, and any other fails at its first batch.
        taken = live > 0 and self.config["input"][0] == -1 and self.exclusive_profiles
        return kind(self.gpu, self.config, self.log, without_profile=taken)


class _NamedEngine(_Engine):
    num_io_tensors = 2

    def get_tensor_name(self, index: int) -> str:
        return ("input", "logits")[index]

    def get_tensor_mode(self, name: str) -> _IOMode:
        return _IOMode.INPUT if name == "input" else _IOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = self.config["input"]
        return tuple(shape) if name == "input" else (shape[0], self.config["classes"])

    def get_tensor_dtype(self, name: str) -> _Type:
        return _Type[self.config["dtype"]]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return self._profile()

    def create_execution_context(self) -> Any:
        return self._context(_NamedContext)


class _BindingEngine(_Engine):
    num_bindings = 2

    @property
    def has_implicit_batch_dimension(self) -> bool:
        return bool(self.config.get("implicit"))

    def get_binding_name(self, index: int) -> str:
        return ("input", "logits")[index]

    def binding_is_input(self, index: int) -> bool:
        return index == 0

    def get_binding_shape(self, index: int) -> tuple[int, ...]:
        shape = self.config["input"]
        return tuple(shape) if index == 0 else (shape[0], self.config["classes"])

    def get_binding_dtype(self, index: int) -> _Type:
        return _Type[self.config["dtype"]]

    def get_profile_shape(self, profile_index: int, binding: int) -> list[tuple[int, ...]]:
        return self._profile()

    def create_execution_context(self) -> Any:
        return self._context(_BindingContext)


class _Logger:
    def __init__(self) -> None:
        pass

    def log(self, severity: Any, message: str) -> None:
        raise NotImplementedError


def tensorrt_module(gpu: FakeGpu, version: str = "10.3.0") -> ModuleType:
    """The part of ``tensorrt`` that is used for running engines."""
    module: Any = ModuleType("tensorrt")
    named = tuple(map(int, version.split(".")[:2])) >= (8, 5)

    class Runtime:
        engine_host_code_allowed = False

        def __init__(self, logger: _Logger) -> None:
            self.logger = logger
            self.number = gpu.number("runtime")
            if getattr(gpu, "no_runtime", False):
                gpu.live.discard(("runtime", self.number))
                raise RuntimeError("CUDA initialization failure with error: 35")

        def __del__(self) -> None:
            gpu.live.discard(("runtime", self.number))

        def deserialize_cuda_engine(self, data: bytes) -> Any:
            def log(message: str) -> None:
                self.logger.log("Severity.ERROR", message)

            try:
                config = json.loads(data)
            except ValueError:
                log("IRuntime::deserializeCudaEngine: Error Code 1: Serialization (magic tag does not match)")
                return None
            if config.get("host_code") and not self.engine_host_code_allowed:
                log("The engine contains host code, and it has not been allowed")
                return None
            if config.get("too_large"):
                log("IRuntime::deserializeCudaEngine: Error Code 2: OutOfMemory (Requested size was 8 GiB)")
                return None
            engine = (_NamedEngine if named else _BindingEngine)(gpu, config, log)
            engine.exclusive_profiles = int(version.split(".", maxsplit=1)[0]) < 10
            return engine

    def nptype(dtype: _Type) -> Any:
        """As in TensorRT 8.5 with NumPy 1.24 and later."""
        raise AttributeError("module 'numpy' has no attribute 'bool'")

    module.__version__, module.ILogger, module.Runtime, module.nptype = version, _Logger, Runtime, nptype
    module.DataType = _Type
    if named:
        module.TensorIOMode = _IOMode
    module.OnnxParser = SimpleNamespace
    return module  # type: ignore[no-any-return]
