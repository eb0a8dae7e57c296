"""CUDA through PyCUDA, as JetPack's users often have it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Dict, Tuple

import numpy as np

from googlenet_deploy.device.cuda.memory import Cuda, HostMemory, out_of_memory
from googlenet_deploy.errors import DeviceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MILLISECONDS = 1e-3


def open_backend() -> Cuda:
    """CUDA through PyCUDA.

    Raises:
        ImportError: It is not installed.
        DeviceError: There is no GPU or driver.
    """
    return _PyCuda()


class _PyCuda(Cuda):
    """See `Cuda`. PyCUDA's released versions have no CUDA graphs.

    PyCUDA frees objects that are no longer referenced, so all objects are kept here until they are freed.
    """

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
        self._blocks: Dict[int, Any] = {}
        self._objects: Dict[int, Any] = {}

    def allocate(self, size: int) -> int:
        try:
            block = self.driver.mem_alloc(size)
        except self.driver.MemoryError as error:
            raise out_of_memory(size) from error
        self._blocks[int(block)] = block
        return int(block)

    def free(self, address: int) -> None:
        self._blocks.pop(address).free()

    def allocate_host(self, size: int, *, mapped: bool = False) -> HostMemory:
        flags = self.driver.host_alloc_flags.DEVICEMAP if mapped else 0
        try:
            array = self.driver.pagelocked_empty(size, np.uint8, mem_flags=flags)
        except self.driver.MemoryError as error:
            raise out_of_memory(size, "page-locked memory") from error
        address = int(array.ctypes.data)
        self._blocks[address] = array.base
        return HostMemory(array, address, int(array.base.get_device_pointer()) if mapped else 0)

    def free_host(self, memory: HostMemory) -> None:
        self._blocks.pop(memory.address).free()

    def copy_in(self, address: int, array: NDArray[Any], stream: int = 0) -> None:
        if stream:
            self.driver.memcpy_htod_async(address, array, self._objects[stream])
        else:
            self.driver.memcpy_htod(address, array)

    def copy_out(self, array: NDArray[Any], address: int, stream: int = 0) -> None:
        if stream:
            self.driver.memcpy_dtoh_async(array, address, self._objects[stream])
        else:
            self.driver.memcpy_dtoh(array, address)

    def stream(self) -> int:
        stream = self.driver.Stream()
        self._objects[int(stream.handle)] = stream
        return int(stream.handle)

    def destroy_stream(self, stream: int) -> None:
        del self._objects[stream]  # PyCUDA's destructor destroys it

    def synchronize(self, stream: int) -> None:
        self._wait_for(self._objects[stream])

    def _wait_for(self, work: Any) -> None:  # noqa: ANN401 - a stream or an event
        try:
            work.synchronize()
        except self.driver.Error as error:
            raise DeviceError(f"CUDA: the work on the GPU failed: {error}", "see doctor") from error

    def event(self) -> int:
        event = self.driver.Event()
        key = id(event)
        self._objects[key] = event
        return key

    def destroy_event(self, event: int) -> None:
        del self._objects[event]

    def record(self, event: int, stream: int) -> None:
        self._objects[event].record(self._objects[stream])

    def wait(self, event: int) -> None:
        self._wait_for(self._objects[event])

    def elapsed(self, start: int, end: int) -> float:
        return float(self._objects[start].time_till(self._objects[end])) * MILLISECONDS

    def memory(self) -> Tuple[int, int]:
        free, total = self.driver.mem_get_info()
        return int(free), int(total)

    def device(self) -> Tuple[str, Tuple[int, int]]:
        return str(self.gpu.name()), tuple(self.gpu.compute_capability())

    def integrated(self) -> bool:
        return bool(self.gpu.get_attribute(self.driver.device_attribute.INTEGRATED))

    def close(self) -> None:
        if self.context is not None:
            self.context.pop()
            self.context = None
