"""A GPU in host memory, behind the interfaces of cuda-bindings and of PyCUDA.

It behaves like a real one where it matters: work on a stream is only executed when somebody waits for it, memory is
limited, a stream under capture executes nothing, and every allocation is counted until it is freed. Each copy takes
1 ms of simulated time and each network 5 ms; no clock is read.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

Work = Callable[[], float]
COPY_SECONDS, NETWORK_SECONDS = 0.001, 0.005


class FakeGpu:
    """The state behind both interfaces.

    Attributes:
        live: All allocations, as kind and address or number.
        used: Bytes of device and page-locked memory that are allocated.
        limit: Number of bytes available.
        launches: Number of CUDA graphs that ran.
        broken: An error that the next wait for a stream reports, as after a fault of the GPU.
    """

    def __init__(self, limit: int = 2**30, *, integrated: bool = False, count: int = 1) -> None:
        self.limit, self.integrated, self.count = limit, integrated, count
        self.used, self.launches, self.now = 0, 0, 0.0
        self.memory: dict[int, Any] = {}
        self.live: set[tuple[str, int]] = set()
        self.queues: dict[int, list[Work]] = {}
        self.captures: dict[int, list[Work]] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.times: dict[int, float] = {}
        self.recorded: dict[int, int] = {}  # the streams of events that have not passed yet
        self.copies: list[str] = []
        self.broken = ""
        self._number = 1000

    def number(self, kind: str) -> int:
        self._number += 1
        self.live.add((kind, self._number))
        return self._number

    def allocate(self, kind: str, size: int) -> int | None:
        if self.used + size > self.limit:
            return None
        block = (ctypes.c_uint8 * size)()
        address = ctypes.addressof(block)
        self.memory[address] = block
        self.used += size
        self.live.add((kind, address))
        return address

    def free(self, kind: str, address: int) -> None:
        self.live.remove((kind, address))
        self.used -= len(self.memory.pop(address))

    def new_stream(self) -> int:
        stream = self.number("stream")
        self.queues[stream] = []
        return stream

    def put(self, stream: int, work: Work) -> None:
        """Puts a library's work on a stream."""
        assert ("stream", stream) in self.live
        self.captures.get(stream, self.queues[stream]).append(work)

    def copy(self, target: int, source: int, size: int, kind: str, stream: int | None) -> None:
        def work() -> float:
            ctypes.memmove(target, source, size)
            self.copies.append(kind)
            return COPY_SECONDS

        if stream is None:
            self.now += work()
        else:
            self.put(stream, work)

    def record(self, event: int, stream: int) -> None:
        def work() -> float:
            self.times[event] = self.now
            self.recorded.pop(event, None)
            return 0.0

        self.recorded[event] = stream
        self.put(stream, work)

    def wait(self, stream: int) -> None:
        while self.queues[stream]:
            self.now += self.queues[stream].pop(0)()

    def wait_for_event(self, event: int) -> None:
        """Executes a stream's work up to the event; later work stays pending."""
        while event in self.recorded:
            self.now += self.queues[self.recorded[event]].pop(0)()

    def run_graph(self, graph: int, stream: int) -> None:
        self.launches += 1
        for work in self.graphs[graph]:
            self.put(stream, work)


class Status(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureInvalidated = 901


class Handle(int):
    """A stream, event or graph: an object that `int` accepts."""


class MemcpyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


def runtime_module(gpu: FakeGpu, *, cuda: int = 13) -> ModuleType:
    """``cuda.bindings.runtime``: every function returns a status and its results."""
    module: Any = ModuleType("cuda.bindings.runtime")
    ok = Status.cudaSuccess

    def cudaGetDeviceCount() -> tuple[Any, ...]:
        return (ok, gpu.count) if gpu.count >= 0 else (Status.cudaErrorInsufficientDriver, None)

    def cudaMalloc(size: int) -> tuple[Any, ...]:
        address = gpu.allocate("device", size)
        return (ok, address) if address else (Status.cudaErrorMemoryAllocation, None)

    def cudaFree(address: int) -> tuple[Any, ...]:
        gpu.free("device", address)
        return (ok,)

    def cudaHostAlloc(size: int, flags: int) -> tuple[Any, ...]:
        address = gpu.allocate("host", size)
        return (ok, address) if address else (Status.cudaErrorMemoryAllocation, None)

    def cudaFreeHost(address: int) -> tuple[Any, ...]:
        gpu.free("host", address)
        return (ok,)

    def cudaHostGetDevicePointer(address: int, flags: int) -> tuple[Any, ...]:
        return ok, address

    def cudaMemcpy(target: int, source: int, size: int, kind: MemcpyKind) -> tuple[Any, ...]:
        gpu.copy(target, source, size, kind.name, None)
        return (ok,)

    def cudaMemcpyAsync(target: int, source: int, size: int, kind: MemcpyKind, stream: Handle) -> tuple[Any, ...]:
        gpu.copy(target, source, size, kind.name, int(stream))
        return (ok,)

    def cudaStreamCreate() -> tuple[Any, ...]:
        return ok, Handle(gpu.new_stream())

    def cudaStreamDestroy(stream: Handle) -> tuple[Any, ...]:
        gpu.live.remove(("stream", int(stream)))
        return (ok,)

    def cudaStreamSynchronize(stream: Handle) -> tuple[Any, ...]:
        if gpu.broken:
            return (Status[gpu.broken],)
        gpu.wait(int(stream))
        return (ok,)

    def cudaEventCreate() -> tuple[Any, ...]:
        return ok, Handle(gpu.number("event"))

    def cudaEventDestroy(event: Handle) -> tuple[Any, ...]:
        gpu.live.remove(("event", int(event)))
        return (ok,)

    def cudaEventRecord(event: Handle, stream: Handle) -> tuple[Any, ...]:
        gpu.record(int(event), int(stream))
        return (ok,)

    def cudaEventSynchronize(event: Handle) -> tuple[Any, ...]:
        if gpu.broken:
            return (Status[gpu.broken],)
        gpu.wait_for_event(int(event))
        return (ok,)

    def cudaEventElapsedTime(start: Handle, end: Handle) -> tuple[Any, ...]:
        return ok, (gpu.times[int(end)] - gpu.times[int(start)]) * 1e3

    def cudaStreamBeginCapture(stream: Handle, mode: Any) -> tuple[Any, ...]:
        gpu.captures[int(stream)] = []
        return (ok,)

    def cudaStreamEndCapture(stream: Handle) -> tuple[Any, ...]:
        work = gpu.captures.pop(int(stream))
        if gpu.broken == "capture":
            gpu.broken = ""
            return Status.cudaErrorStreamCaptureInvalidated, None
        graph = Handle(gpu.number("graph"))
        gpu.graphs[int(graph)] = work
        return ok, graph

    def instantiate(graph: Handle) -> Handle:
        executable = Handle(gpu.number("executable"))
        gpu.graphs[int(executable)] = gpu.graphs[int(graph)]
        return executable

    def cudaGraphInstantiate_12(graph: Handle, flags: int) -> tuple[Any, ...]:
        return ok, instantiate(graph)

    def cudaGraphInstantiate_11(graph: Handle, log: bytes, size: int) -> tuple[Any, ...]:
        return ok, instantiate(graph), Handle(0)

    def cudaGraphDestroy(graph: Handle) -> tuple[Any, ...]:
        gpu.live.remove(("graph", int(graph)))
        return (ok,)

    def cudaGraphExecDestroy(graph: Handle) -> tuple[Any, ...]:
        gpu.live.remove(("executable", int(graph)))
        return (ok,)

    def cudaGraphLaunch(graph: Handle, stream: Handle) -> tuple[Any, ...]:
        gpu.run_graph(int(graph), int(stream))
        return (ok,)

    def cudaMemGetInfo() -> tuple[Any, ...]:
        return ok, gpu.limit - gpu.used, gpu.limit

    def cudaGetDeviceProperties(device: int) -> tuple[Any, ...]:
        return ok, SimpleNamespace(name=b"Fake GPU\0\0", major=8, minor=7)

    def cudaDeviceGetAttribute(attribute: str, device: int) -> tuple[Any, ...]:
        assert attribute == "integrated"
        return ok, int(gpu.integrated)

    for name, value in list(locals().items()):
        if name.startswith("cuda") and callable(value):
            setattr(module, name.partition("_")[0], value)
    module.cudaGraphInstantiate = cudaGraphInstantiate_12 if cuda >= 12 else cudaGraphInstantiate_11
    module.cudaMemcpyKind = MemcpyKind
    module.cudaHostAllocDefault, module.cudaHostAllocMapped = 0, 2
    module.cudaDeviceAttr = SimpleNamespace(cudaDevAttrIntegrated="integrated")
    module.cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    return module  # type: ignore[no-any-return]


def pycuda_module(gpu: FakeGpu) -> ModuleType:
    """``pycuda.driver``: objects that free themselves when nothing refers to them."""
    module: Any = ModuleType("pycuda.driver")

    class Error(Exception):
        pass

    class MemoryError_(Error):
        pass

    class Block:
        def __init__(self, kind: str, size: int) -> None:
            address = gpu.allocate(kind, size)
            if address is None:
                raise MemoryError_("cuMemAlloc failed: out of memory")
            self.kind, self.address = kind, address

        def __int__(self) -> int:
            return self.address

        def free(self) -> None:
            gpu.free(self.kind, self.address)

        def get_device_pointer(self) -> int:
            return self.address

    class Locked(np.ndarray):  # type: ignore[type-arg]
        """An array whose `base` is PyCUDA's allocation."""

        base: Any = None  # type: ignore[assignment]

    def pagelocked_empty(shape: int, dtype: Any, *, mem_flags: int = 0) -> Any:
        block = Block("host", shape)
        array = np.ctypeslib.as_array(gpu.memory[block.address]).view(Locked)
        array.base = block
        return array

    class Stream:
        def __init__(self) -> None:
            self.handle = gpu.new_stream()

        def synchronize(self) -> None:
            if gpu.broken:
                raise Error(gpu.broken)
            gpu.wait(self.handle)

        def __del__(self) -> None:
            gpu.live.discard(("stream", self.handle))

    class Event:
        def __init__(self) -> None:
            self.number = gpu.number("event")

        def record(self, stream: Stream) -> None:
            gpu.record(self.number, stream.handle)

        def synchronize(self) -> None:
            if gpu.broken:
                raise Error(gpu.broken)
            gpu.wait_for_event(self.number)

        def time_till(self, other: Event) -> float:
            return (gpu.times[other.number] - gpu.times[self.number]) * 1e3

        def __del__(self) -> None:
            gpu.live.discard(("event", self.number))

    class Context:
        def push(self) -> None:
            gpu.live.add(("context", 0))

        def pop(self) -> None:
            gpu.live.remove(("context", 0))

    class Device:
        def __init__(self, index: int) -> None:
            if gpu.count < 1:
                raise Error("cuDeviceGet failed: invalid device ordinal")

        def retain_primary_context(self) -> Context:
            return Context()

        def name(self) -> str:
            return "Fake GPU"

        def compute_capability(self) -> tuple[int, int]:
            return 8, 7

        def get_attribute(self, attribute: str) -> int:
            assert attribute == "integrated"
            return int(gpu.integrated)

    def copy(target: Any, source: Any, size: int, kind: str, stream: Stream | None = None) -> None:
        gpu.copy(target, source, size, kind, stream.handle if stream is not None else None)

    module.Error, module.MemoryError = Error, MemoryError_
    module.init = lambda: None
    module.Device, module.Stream, module.Event = Device, Stream, Event
    module.mem_alloc = lambda size: Block("device", size)
    module.pagelocked_empty = pagelocked_empty
    module.host_alloc_flags = SimpleNamespace(DEVICEMAP=2)
    module.device_attribute = SimpleNamespace(INTEGRATED="integrated")
    module.mem_get_info = lambda: (gpu.limit - gpu.used, gpu.limit)
    module.memcpy_htod = lambda address, array: copy(address, array.ctypes.data, array.nbytes, "in")
    module.memcpy_dtoh = lambda array, address: copy(array.ctypes.data, address, array.nbytes, "out")
    module.memcpy_htod_async = lambda address, array, stream: copy(
        address, array.ctypes.data, array.nbytes, "in", stream
    )
    module.memcpy_dtoh_async = lambda array, address, stream: copy(
        array.ctypes.data, address, array.nbytes, "out", stream
    )
    return module  # type: ignore[no-any-return]


def install(monkeypatch: Any, gpu: FakeGpu, backend: str = "cuda-bindings", *, cuda: int = 13) -> None:
    """Makes one backend importable and hides the other."""
    absent: tuple[str, ...] = ("cuda", "cuda.bindings", "cuda.bindings.runtime", "cuda.cudart", "pycuda.driver")
    modules = dict.fromkeys((*absent, "pycuda"))
    if backend == "cuda-bindings" and cuda >= 12:
        names: Any = {
            "cuda.bindings.runtime": runtime_module(gpu, cuda=cuda),
            "cuda.bindings": ModuleType("cuda.bindings"),
        }
        modules.update({"cuda": ModuleType("cuda"), **names})
    elif backend == "cuda-bindings":
        modules.update({"cuda": ModuleType("cuda"), "cuda.cudart": runtime_module(gpu, cuda=cuda)})
    elif backend == "pycuda":
        modules.update({"pycuda": ModuleType("pycuda"), "pycuda.driver": pycuda_module(gpu)})
    for name, module in modules.items():
        monkeypatch.setitem(__import__("sys").modules, name, module)
