"""Device memory and streams, from cuda-bindings or PyCUDA, whichever is installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any, List, Optional, Tuple

from numpy.typing import NDArray

from googlenet_deploy.errors import DeviceError

BACKENDS = ("cuda-bindings", "pycuda")


class Cuda:
    """What the toolkit needs of CUDA; `open_cuda` gives one of the two implementations.

    Attributes:
        name: "cuda-bindings" or "pycuda".
    """

    name = ""

    def allocate(self, size: int) -> int:
        """Device memory of `size` bytes; its address.

        Raises:
            DeviceError: There is not enough.
        """
        raise NotImplementedError

    def free(self, address: int) -> None:
        """Gives memory of `allocate` back."""
        raise NotImplementedError

    def copy_in(self, address: int, array: NDArray[Any], stream: int = 0) -> None:
        """Copies a C-contiguous array to the device; asynchronous on a stream other than 0."""
        raise NotImplementedError

    def copy_out(self, array: NDArray[Any], address: int, stream: int = 0) -> None:
        """Copies from the device into a C-contiguous array; asynchronous on a stream other than 0."""
        raise NotImplementedError

    def stream(self) -> int:
        """A new stream."""
        raise NotImplementedError

    def synchronize(self, stream: int) -> None:
        """Waits for a stream."""
        raise NotImplementedError

    def memory(self) -> Tuple[int, int]:
        """(free, total) bytes of device memory."""
        raise NotImplementedError

    def device(self) -> Tuple[str, Tuple[int, int]]:
        """(name, compute capability) of the current GPU."""
        raise NotImplementedError


def open_cuda(backend: Optional[str] = None) -> Cuda:
    """Opens CUDA on the first GPU.

    Args:
        backend: One of `BACKENDS`; None takes the first that is installed.

    Raises:
        DeviceError: No backend is installed, or there is no GPU or driver.
    """
    problems: List[str] = []
    makers = {"cuda-bindings": _CudaBindings, "pycuda": _PyCuda}
    for name in [backend] if backend else BACKENDS:
        try:
            return makers[name]()
        except ImportError as error:
            problems.append(f"{name}: {error}")
    raise DeviceError(
        f"no Python access to CUDA ({'; '.join(problems)})",
        "pip install 'googlenet-deploy[cuda]' (cuda-bindings), or pycuda",
    )


class _CudaBindings(Cuda):
    name = "cuda-bindings"

    def __init__(self) -> None:
        try:
            self.runtime = import_module("cuda.bindings.runtime")
        except ImportError:
            self.runtime = import_module("cuda.cudart")  # cuda-python 11 and 12
        count = self._call("cudaGetDeviceCount")
        if not count:
            raise DeviceError("CUDA finds no GPU", "is the driver loaded?")

    def allocate(self, size: int) -> int:
        return int(self._call("cudaMalloc", size))

    def free(self, address: int) -> None:
        self._call("cudaFree", address)

    def copy_in(self, address: int, array: NDArray[Any], stream: int = 0) -> None:
        self._copy(address, array.ctypes.data, array.nbytes, "cudaMemcpyHostToDevice", stream)

    def copy_out(self, array: NDArray[Any], address: int, stream: int = 0) -> None:
        self._copy(array.ctypes.data, address, array.nbytes, "cudaMemcpyDeviceToHost", stream)

    def stream(self) -> int:
        return int(self._call("cudaStreamCreate"))

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def memory(self) -> Tuple[int, int]:
        free, total = self._call("cudaMemGetInfo")
        return int(free), int(total)

    def device(self) -> Tuple[str, Tuple[int, int]]:
        properties = self._call("cudaGetDeviceProperties", 0)
        name = properties.name
        text = name.split(b"\0")[0].decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        return text, (int(properties.major), int(properties.minor))

    def _copy(self, target: int, source: int, size: int, kind: str, stream: int) -> None:
        direction = getattr(self.runtime.cudaMemcpyKind, kind)
        if stream:
            self._call("cudaMemcpyAsync", target, source, size, direction, stream)
        else:
            self._call("cudaMemcpy", target, source, size, direction)

    def _call(self, function: str, *arguments: Any) -> Any:  # noqa: ANN401 - whatever CUDA returns
        status, *results = getattr(self.runtime, function)(*arguments)
        if int(status) != 0:
            raise DeviceError(
                f"CUDA: {function} failed: {getattr(status, 'name', status)}", "is there a GPU with a driver?"
            )
        return results[0] if len(results) == 1 else tuple(results)


class _PyCuda(Cuda):
    name = "pycuda"

    def __init__(self) -> None:
        self.driver = import_module("pycuda.driver")
        try:
            self.driver.init()
            self.gpu = self.driver.Device(0)
            self.context = self.gpu.retain_primary_context()
            self.context.push()
        except self.driver.Error as error:
            raise DeviceError(f"CUDA cannot be started: {error}", "is there a GPU with a driver?") from error
        self.memory_blocks: dict = {}  # type: ignore[type-arg] # Python 3.8
        self.streams: dict = {}  # type: ignore[type-arg] # Python 3.8

    def allocate(self, size: int) -> int:
        try:
            block = self.driver.mem_alloc(size)
        except self.driver.Error as error:
            raise DeviceError(f"CUDA: {size} bytes cannot be allocated: {error}") from error
        self.memory_blocks[int(block)] = block
        return int(block)

    def free(self, address: int) -> None:
        self.memory_blocks.pop(address).free()

    def copy_in(self, address: int, array: NDArray[Any], stream: int = 0) -> None:
        if stream:
            self.driver.memcpy_htod_async(address, array, self.streams[stream])
        else:
            self.driver.memcpy_htod(address, array)

    def copy_out(self, array: NDArray[Any], address: int, stream: int = 0) -> None:
        if stream:
            self.driver.memcpy_dtoh_async(array, address, self.streams[stream])
        else:
            self.driver.memcpy_dtoh(array, address)

    def stream(self) -> int:
        stream = self.driver.Stream()
        self.streams[int(stream.handle)] = stream
        return int(stream.handle)

    def synchronize(self, stream: int) -> None:
        self.streams[stream].synchronize()

    def memory(self) -> Tuple[int, int]:
        free, total = self.driver.mem_get_info()
        return int(free), int(total)

    def device(self) -> Tuple[str, Tuple[int, int]]:
        return str(self.gpu.name()), tuple(self.gpu.compute_capability())
