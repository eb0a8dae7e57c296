"""Slots: each processes one batch at a time, with its own buffers and CUDA graphs.

Two slots make double buffering: while one computes, the other's input is copied in and its outputs are read. A slot
runs on a lane: an execution context and its stream. If TensorRT lets contexts share the engine's optimisation
profile, each slot has its own lane. Before TensorRT 10 a second context of an engine with open dimensions has no
profile and fails (PreviewFeature.kPROFILE_SHARING_0806, NvInfer.h), so all slots then take turns on one lane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from googlenet_deploy.device.cuda.memory import Cuda, HostMemory
from googlenet_deploy.device.runner.protocol import ScopedTimes
from googlenet_deploy.device.tensorrt.execution import Context, EngineTensor
from googlenet_deploy.errors import DeviceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EVENTS = 4  # before the copy in, after it, after the network, after the copy out


class _Buffer:
    """A tensor's memory: page-locked on the host, and on the device unless the GPU accesses host memory directly."""

    def __init__(self, cuda: Cuda, size: int, *, zero_copy: bool) -> None:
        self.cuda, self.size = cuda, size
        self.device = 0
        self.host: Optional[HostMemory] = cuda.allocate_host(size, mapped=zero_copy)
        try:
            if not zero_copy:
                self.device = cuda.allocate(size)
        except DeviceError:
            self.free()
            raise
        self.address = self.host.device_address if zero_copy else self.device

    def view(self, shape: Sequence[int], dtype: str) -> NDArray[Any]:
        """The host memory as an array."""
        assert self.host is not None
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.host.array[:count].view(dtype).reshape(shape)

    def free(self) -> None:
        if self.device:
            self.cuda.free(self.device)
            self.device = 0
        if self.host is not None:
            self.cuda.free_host(self.host)
            self.host = None


class Lane:
    """An execution context, the stream it runs on, and the slot whose shape and addresses are currently set."""

    def __init__(self, cuda: Cuda, context: Context) -> None:
        self.cuda, self.context = cuda, context
        self.user: Optional[Slot] = None
        self.stream = 0
        try:
            self.stream = cuda.stream()
        except DeviceError:
            self.close()
            raise

    def close(self) -> None:
        """Frees the stream and the context, after the slots are closed; may be called again."""
        if self.stream:
            self.cuda.destroy_stream(self.stream)
            self.stream = 0
        self.context.close()


class Slot:
    """See the module.

    Args:
        cuda: CUDA.
        lane: The lane that its batches run on.
        tensors: The engine's tensors.
        zero_copy: Whether the GPU accesses host memory directly, as integrated GPUs can.
        graphs: Whether to capture the network as a CUDA graph from the second batch of a shape on.
        notes: List to which notes about fallbacks are added.
    """

    def __init__(
        self,
        cuda: Cuda,
        lane: Lane,
        tensors: Sequence[EngineTensor],
        *,
        zero_copy: bool,
        graphs: bool,
        notes: List[str],
    ) -> None:
        self.cuda, self.zero_copy, self.graphs, self.notes = cuda, zero_copy, graphs, notes
        self.lane, self.context, self._stream = lane, lane.context, lane.stream
        self.input = next(tensor for tensor in tensors if tensor.is_input)
        self.outputs = [tensor for tensor in tensors if not tensor.is_input]
        self.shape: Tuple[int, ...] = ()
        self._shapes: Dict[str, Tuple[int, ...]] = {}
        self._buffers: Dict[str, _Buffer] = {}
        self._graphs: Dict[Tuple[int, ...], int] = {}
        self._events: List[int] = []
        try:
            for _ in range(_EVENTS):
                self._events.append(cuda.event())
        except DeviceError:
            self.close()
            raise

    def start(self, batch: NDArray[Any]) -> None:
        """Enqueues a batch on the stream without waiting: copy in, network, copy out.

        Raises:
            DeviceError: The engine does not accept this shape, memory is exhausted, or TensorRT reports an error.
        """
        if self.shape != batch.shape:
            self._fit(batch.shape)
        known = self.lane.user is self
        if not known:
            self._take_lane()
        np.copyto(self._buffers[self.input.name].view(batch.shape, self.input.dtype), batch)
        self._mark(0)
        if not self.zero_copy:
            buffer = self._buffers[self.input.name]
            self.cuda.copy_in(buffer.address, buffer.view(batch.shape, self.input.dtype), self._stream)
        self._mark(1)
        self._enqueue(capture=known)
        self._mark(2)
        if not self.zero_copy:
            for tensor in self.outputs:
                buffer = self._buffers[tensor.name]
                self.cuda.copy_out(self._output(tensor), buffer.address, self._stream)
        self._mark(3)

    def finish(self) -> Dict[str, NDArray[np.generic]]:
        """Waits for the batch that `start` enqueued and returns copies of its outputs."""
        self.cuda.wait(self._events[-1])
        return {tensor.name: self._output(tensor).copy() for tensor in self.outputs}

    def times(self) -> ScopedTimes:
        """Seconds of each scope of the finished batch."""
        spans = [self.cuda.elapsed(first, second) for first, second in zip(self._events, self._events[1:])]
        return ScopedTimes(None, spans[1], None) if self.zero_copy else ScopedTimes(spans[0], spans[1], spans[2])

    def close(self) -> None:
        """Frees everything; may be called again."""
        if self._stream:
            self.cuda.synchronize(self._stream)
            self._stream = 0
        self._drop_graphs()
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers = {}
        while self._events:
            self.cuda.destroy_event(self._events.pop())

    def _fit(self, shape: Tuple[int, ...]) -> None:
        self.shape, self.lane.user = (), None
        self.context.set_shape(self.input.name, shape)
        self._shapes = {tensor.name: self.context.shape(tensor.name) for tensor in self.outputs}
        self._reserve(self.input, shape)
        for tensor in self.outputs:
            self._reserve(tensor, self._shapes[tensor.name])
        self.shape = shape

    def _take_lane(self) -> None:
        """Sets this slot's shape and addresses in the context after another slot or shape used it."""
        self.context.set_shape(self.input.name, self.shape)
        for tensor in (self.input, *self.outputs):
            self.context.set_address(tensor.name, self._buffers[tensor.name].address)
        self.lane.user = self

    def _reserve(self, tensor: EngineTensor, shape: Sequence[int]) -> None:
        """Allocates memory for a tensor; an existing buffer is kept if it is large enough."""
        size = int(np.prod(shape)) * np.dtype(tensor.dtype).itemsize
        present = self._buffers.get(tensor.name)
        if present is None or present.size < size:
            if present is not None:
                self._drop_graphs()  # they hold the old addresses
                self._buffers.pop(tensor.name).free()
            self._buffers[tensor.name] = _Buffer(self.cuda, size, zero_copy=self.zero_copy)

    def _output(self, tensor: EngineTensor) -> NDArray[Any]:
        return self._buffers[tensor.name].view(self._shapes[tensor.name], tensor.dtype)

    def _mark(self, index: int) -> None:
        self.cuda.record(self._events[index], self._stream)

    def _enqueue(self, *, capture: bool) -> None:
        """Runs the network; TensorRT needs one plain run of a shape before capture, so the second run is captured."""
        if self.graphs and capture and self.shape not in self._graphs:
            self._capture()
        graph = self._graphs.get(self.shape)
        if graph is not None:
            self.cuda.launch(graph, self._stream)
        else:
            self._enqueue_plainly()

    def _enqueue_plainly(self) -> None:
        if not self.context.enqueue(self._stream):
            raise DeviceError(f"TensorRT refused the batch: {self.context.log.reason}", "see doctor")

    def _capture(self) -> None:
        problem: Optional[DeviceError] = None
        self.cuda.begin_capture(self._stream)
        try:
            self._enqueue_plainly()
        except DeviceError as error:
            problem = error
        try:  # the stream stays unusable until the capture has ended
            graph = self.cuda.end_capture(self._stream)
            if problem is None:
                self._graphs[self.shape] = graph
                return
            self.cuda.destroy_graph(graph)
        except DeviceError as error:
            problem = problem or error
        self.graphs = False
        self.notes.append(f"CUDA graphs are off: the network cannot be captured ({problem.message})")

    def _drop_graphs(self) -> None:
        while self._graphs:
            self.cuda.destroy_graph(self._graphs.popitem()[1])
