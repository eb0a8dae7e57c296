"""CUDA through NVIDIA's cuda-bindings (or cuda-python 11 and 12, its former name)."""

from __future__ import annotations

import ctypes
from importlib import import_module
from typing import TYPE_CHECKING, Any, Dict, Tuple

import numpy as np

from googlenet_deploy.device.cuda.memory import Cuda, HostMemory, out_of_memory
from googlenet_deploy.errors import DeviceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MILLISECONDS = 1e-3


def open_backend() -> Cuda:
    """CUDA through cuda-bindings.

    Raises:
        ImportError: It is not installed.
        DeviceError: There is no GPU or driver.
    """
    return _CudaBindings()


class _CudaBindings(Cuda):
    """See `Cuda`. Streams, events and graphs are stored as the library's objects, keyed by address."""

    name = "cuda-bindings"
    has_graphs = True

    def __init__(self) -> None:
        try:
            self.runtime = import_module("cuda.bindings.runtime")
        except ImportError:
            self.runtime = import_module("cuda.cudart")  # cuda-python 11 and 12
        self._objects: Dict[int, Any] = {}
        count = self._call("cudaGetDeviceCount")
        if not count:
            raise DeviceError("CUDA finds no GPU", "is the driver loaded?")

    def allocate(self, size: int) -> int:
        return int(self._call("cudaMalloc", size, size=size))

    def free(self, address: int) -> None:
        self._call("cudaFree", address)

    def allocate_host(self, size: int, *, mapped: bool = False) -> HostMemory:
        flags = self.runtime.cudaHostAllocMapped if mapped else self.runtime.cudaHostAllocDefault
        address = int(self._call("cudaHostAlloc", size, int(flags), size=size))
        array = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        device = int(self._call("cudaHostGetDevicePointer", address, 0)) if mapped else 0
        return HostMemory(array, address, device)

    def free_host(self, memory: HostMemory) -> None:
        self._call("cudaFreeHost", memory.address)

    def copy_in(self, address: int, array: NDArray[Any], stream: int = 0) -> None:
        self._copy(address, array.ctypes.data, array.nbytes, "cudaMemcpyHostToDevice", stream)

    def copy_out(self, array: NDArray[Any], address: int, stream: int = 0) -> None:
        self._copy(array.ctypes.data, address, array.nbytes, "cudaMemcpyDeviceToHost", stream)

    def stream(self) -> int:
        return self._keep(self._call("cudaStreamCreate"))

    def destroy_stream(self, stream: int) -> None:
        self._call("cudaStreamDestroy", self._objects.pop(stream))

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", self._objects.get(stream, stream))

    def event(self) -> int:
        return self._keep(self._call("cudaEventCreate"))

    def destroy_event(self, event: int) -> None:
        self._call("cudaEventDestroy", self._objects.pop(event))

    def record(self, event: int, stream: int) -> None:
        self._call("cudaEventRecord", self._objects[event], self._objects[stream])

    def wait(self, event: int) -> None:
        self._call("cudaEventSynchronize", self._objects[event])

    def elapsed(self, start: int, end: int) -> float:
        return float(self._call("cudaEventElapsedTime", self._objects[start], self._objects[end])) * MILLISECONDS

    def begin_capture(self, stream: int) -> None:
        mode = self.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._objects[stream], mode)

    def end_capture(self, stream: int) -> int:
        graph = self._call("cudaStreamEndCapture", self._objects[stream])
        try:
            try:
                executable = self._call("cudaGraphInstantiate", graph, 0)
            except TypeError:  # CUDA 11: error node, log buffer and its size instead of flags
                executable = self._call("cudaGraphInstantiate", graph, b"", 0)[0]
        finally:
            self._call("cudaGraphDestroy", graph)
        return self._keep(executable)

    def launch(self, graph: int, stream: int) -> None:
        self._call("cudaGraphLaunch", self._objects[graph], self._objects[stream])

    def destroy_graph(self, graph: int) -> None:
        self._call("cudaGraphExecDestroy", self._objects.pop(graph))

    def memory(self) -> Tuple[int, int]:
        free, total = self._call("cudaMemGetInfo")
        return int(free), int(total)

    def device(self) -> Tuple[str, Tuple[int, int]]:
        properties = self._call("cudaGetDeviceProperties", 0)
        name = properties.name
        text = name.split(b"\0")[0].decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        return text, (int(properties.major), int(properties.minor))

    def integrated(self) -> bool:
        attribute = self.runtime.cudaDeviceAttr.cudaDevAttrIntegrated
        return bool(self._call("cudaDeviceGetAttribute", attribute, 0))

    def _keep(self, thing: Any) -> int:  # noqa: ANN401 - a stream, event or graph
        address = int(thing)
        self._objects[address] = thing
        return address

    def _copy(self, target: int, source: int, size: int, kind: str, stream: int) -> None:
        direction = getattr(self.runtime.cudaMemcpyKind, kind)
        if stream:
            self._call("cudaMemcpyAsync", target, source, size, direction, self._objects.get(stream, stream))
        else:
            self._call("cudaMemcpy", target, source, size, direction)

    def _call(self, function: str, *arguments: Any, size: int = 0) -> Any:  # noqa: ANN401 - whatever CUDA returns
        status, *results = getattr(self.runtime, function)(*arguments)
        if int(status) == 0:
            return results[0] if len(results) == 1 else tuple(results)
        name = getattr(status, "name", str(status))
        if name == "cudaErrorMemoryAllocation":
            raise out_of_memory(size, "page-locked memory" if "Host" in function else "device memory")
        remedy = (
            "is there a GPU with a driver?"
            if not self._objects
            else "see doctor; the GPU's own log has details (dmesg)"
        )
        raise DeviceError(f"CUDA: {function} failed: {name}", remedy)
