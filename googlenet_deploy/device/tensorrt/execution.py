"""Runs an engine in every TensorRT from 8.2 on: by tensor names, or by the older bindings.

TensorRT 8.5 introduced names (``execute_async_v3``), and TensorRT 10 removed bindings (``execute_async_v2``); JetPack
4.6 has 8.2, which has bindings only. NVIDIA, TensorRT 8.5 release notes, and the API migration guide of TensorRT 10.
"""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from googlenet_deploy.device.tensorrt.log import BuildLog
from googlenet_deploy.device.tensorrt.trt_compat import TensorRT
from googlenet_deploy.errors import BadModelError, DeviceError

OPEN = -1  # TensorRT's value for a dimension that may vary


class EngineTensor(NamedTuple):
    """An input or output of an engine.

    Attributes:
        name: Its name.
        is_input: Whether it is an input.
        shape: Its shape; None for dimensions that may vary.
        dtype: NumPy's name of its type.
        profile: Smallest, usual and largest shape of an input with open dimensions; None for any other.
    """

    name: str
    is_input: bool
    shape: Tuple[Optional[int], ...]
    dtype: str
    profile: Optional[Tuple[Tuple[int, ...], ...]]


class Context:
    """One execution context: set the input's shape and all addresses, then enqueue it on a stream."""

    def __init__(self, context: Any, log: BuildLog) -> None:  # noqa: ANN401 - TensorRT has no types
        self.context, self.log = context, log

    def close(self) -> None:
        """Frees TensorRT's context by dropping the reference."""
        self.context = None

    def set_shape(self, name: str, shape: Sequence[int]) -> None:
        """Sets the shape of an input for the next run.

        Raises:
            DeviceError: The engine was not built for it.
        """
        raise NotImplementedError

    def set_address(self, name: str, address: int) -> None:
        """Sets the address of a tensor in device memory."""
        raise NotImplementedError

    def shape(self, name: str) -> Tuple[int, ...]:
        """A tensor's shape, after the input's shape has been set."""
        raise NotImplementedError

    def enqueue(self, stream: int) -> bool:
        """Enqueues the network on a stream; False if TensorRT reports an error."""
        raise NotImplementedError


class _NamedContext(Context):
    """TensorRT 8.5 and later, and TensorRT-RTX."""

    def set_shape(self, name: str, shape: Sequence[int]) -> None:
        if not self.context.set_input_shape(name, tuple(shape)):
            raise _wrong_shape(name, shape)

    def set_address(self, name: str, address: int) -> None:
        self.context.set_tensor_address(name, address)

    def shape(self, name: str) -> Tuple[int, ...]:
        return tuple(int(size) for size in self.context.get_tensor_shape(name))

    def enqueue(self, stream: int) -> bool:
        return bool(self.context.execute_async_v3(stream))


class _BindingContext(Context):
    """TensorRT 8.2 to 8.4: tensors have numbers."""

    def __init__(self, context: Any, log: BuildLog, names: Sequence[str]) -> None:  # noqa: ANN401
        super().__init__(context, log)
        self.index = {name: index for index, name in enumerate(names)}
        self.addresses = [0] * len(names)

    def set_shape(self, name: str, shape: Sequence[int]) -> None:
        if not self.context.set_binding_shape(self.index[name], tuple(shape)):
            raise _wrong_shape(name, shape)

    def set_address(self, name: str, address: int) -> None:
        self.addresses[self.index[name]] = address

    def shape(self, name: str) -> Tuple[int, ...]:
        return tuple(int(size) for size in self.context.get_binding_shape(self.index[name]))

    def enqueue(self, stream: int) -> bool:
        return bool(self.context.execute_async_v2(self.addresses, stream))


class Engine:
    """A deserialised engine.

    Args:
        library: TensorRT.
        data: The engine's bytes.
        path: Its file, for messages.
        version_compatible: Whether it was also built for later versions; such an engine contains its own code.

    Raises:
        BadModelError: TensorRT rejects it, or it is of an unsupported kind.
        DeviceError: TensorRT's runtime cannot start.
    """

    def __init__(self, library: TensorRT, data: bytes, path: str, *, version_compatible: bool = False) -> None:
        self.library, self.path = library, path
        self.log = BuildLog()
        self._logger = library.logger(self.log)
        self._runtime = _runtime(library, self._logger, self.log)
        if version_compatible:
            self._runtime.engine_host_code_allowed = True
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            if self.log.out_of_memory:
                raise DeviceError(f"{path}: {library.label} has not enough memory for it: {self.log.reason}", _MEMORY)
            raise BadModelError(path, f"{library.label} refuses it: {self.log.reason}", "build it again on this device")
        self.named = hasattr(self._engine, "num_io_tensors")
        if not self.named and self._engine.has_implicit_batch_dimension:
            raise BadModelError(path, "has an implicit batch dimension", "build it from the ONNX model with trtexec")
        self.tensors = self._named_tensors() if self.named else self._bindings()

    def context(self) -> Context:
        """Creates an execution context.

        Raises:
            DeviceError: There is not enough device memory.
        """
        context = self._engine.create_execution_context()
        if context is None:
            need = self.library.device_memory(self._engine) / 2**20
            raise DeviceError(
                f"{self.path}: {self.library.label} cannot make an execution context, which needs {need:.1f} MiB of "
                f"device memory: {self.log.reason}",
                _MEMORY,
            )
        if self.named:
            return _NamedContext(context, self.log)
        return _BindingContext(context, self.log, [tensor.name for tensor in self.tensors])

    @property
    def shares_profiles(self) -> bool:
        """Whether several execution contexts may be used: with open dimensions only if they share the profile."""
        is_open = any(tensor.profile is not None for tensor in self.tensors)
        return not is_open or self.library.shares_profiles

    @property
    def context_memory(self) -> int:
        """Bytes of device memory that one execution context needs in addition to the weights."""
        return self.library.device_memory(self._engine)

    def close(self) -> None:
        """Drops the engine, then the runtime: TensorRT frees them when they are no longer referenced."""
        self._engine = None
        self._runtime = None

    def _named_tensors(self) -> List[EngineTensor]:
        engine, mode = self._engine, self.library.module.TensorIOMode
        found = []
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            is_input, shape = engine.get_tensor_mode(name) == mode.INPUT, _shape(engine.get_tensor_shape(name))
            profile = engine.get_tensor_profile_shape(name, 0) if is_input and None in shape else None
            found.append(self._tensor(name, is_input, shape, engine.get_tensor_dtype(name), profile))
        return found

    def _bindings(self) -> List[EngineTensor]:
        engine = self._engine
        found = []
        for index in range(engine.num_bindings):
            is_input, shape = engine.binding_is_input(index), _shape(engine.get_binding_shape(index))
            profile = engine.get_profile_shape(0, index) if is_input and None in shape else None
            name, dtype = engine.get_binding_name(index), engine.get_binding_dtype(index)
            found.append(self._tensor(name, is_input, shape, dtype, profile))
        return found

    def _tensor(
        self,
        name: str,
        is_input: bool,
        shape: Tuple[Optional[int], ...],
        dtype: Any,  # noqa: ANN401 - an enumerator of TensorRT's
        profile: Optional[Sequence[Sequence[int]]],
    ) -> EngineTensor:
        shapes = tuple(tuple(int(size) for size in part) for part in profile) if profile is not None else None
        numpy_name = NUMPY_TYPES.get(dtype.name)
        if numpy_name is None:
            raise BadModelError(
                self.path, f"its tensor {name} is {dtype}, which NumPy does not have", "build it with float32 outputs"
            )
        return EngineTensor(name, is_input, shape, numpy_name, shapes)


# TensorRT's own `nptype` fails before 8.6 with NumPy 1.24 and later (github.com/NVIDIA/TensorRT/issues/2557).
NUMPY_TYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
_NO_GPU = "is there a GPU with a driver? see doctor"
_MEMORY = "close other programs, or use fewer streams, a smaller batch, or an engine with a smaller --workspace"


def _runtime(library: TensorRT, logger: Any, log: BuildLog) -> Any:  # noqa: ANN401 - TensorRT has no types
    try:
        runtime = library.module.Runtime(logger)
    except (RuntimeError, TypeError) as error:  # pybind11 raises TypeError if a factory returns NULL
        raise DeviceError(
            f"{library.label} cannot start: {error}", "is there a GPU with a driver? see doctor"
        ) from error
    if runtime is None:
        raise DeviceError(f"{library.label} cannot start: {log.reason}", "is there a GPU with a driver? see doctor")
    return runtime


def _shape(sizes: Sequence[int]) -> Tuple[Optional[int], ...]:
    return tuple(None if int(size) == OPEN else int(size) for size in sizes)


def _wrong_shape(name: str, shape: Sequence[int]) -> DeviceError:
    return DeviceError(
        f"the engine does not accept {name} of shape {tuple(shape)}",
        "build it for this batch: build --batch MIN,OPT,MAX",
    )
