"""The part of CUDA that the toolkit uses, from cuda-bindings or PyCUDA, whichever is installed.

Addresses, streams, events and graphs are plain integers, so both libraries have the same interface, and whoever
allocates also frees. Nothing here relies on the garbage collector.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional, Tuple, Type

from googlenet_deploy.device.registry import load_member
from googlenet_deploy.errors import DeviceError, install_command

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The only registry of CUDA backends, best first: paths of their openers, see `device.registry`.
BACKENDS = {
    "cuda-bindings": "googlenet_deploy.device.cuda.bindings:open_backend",
    "pycuda": "googlenet_deploy.device.cuda.pycuda:open_backend",
}


class HostMemory(NamedTuple):
    """Page-locked memory of the host.

    Attributes:
        array: The memory as uint8 (size,).
        address: Its address for the host.
        device_address: Its address for the GPU if it is mapped (zero-copy); otherwise 0.
    """

    array: NDArray[Any]
    address: int
    device_address: int


class Cuda:
    """CUDA on the first GPU; `open_cuda` returns one of the two implementations. A context manager.

    Use it only in the thread that opened it.

    Attributes:
        name: "cuda-bindings" or "pycuda".
        has_graphs: Whether this library can capture CUDA graphs.
    """

    name = ""
    has_graphs = False

    def allocate(self, size: int) -> int:
        """Allocates `size` bytes of device memory; returns the address.

        Raises:
            DeviceError: There is not enough memory.
        """
        raise NotImplementedError

    def free(self, address: int) -> None:
        """Frees memory from `allocate`."""
        raise NotImplementedError

    def allocate_host(self, size: int, *, mapped: bool = False) -> HostMemory:
        """Allocates page-locked host memory; with `mapped` the GPU can access it too, so that nothing is copied.

        Raises:
            DeviceError: There is not enough memory.
        """
        raise NotImplementedError

    def free_host(self, memory: HostMemory) -> None:
        """Frees memory from `allocate_host`; its array must not be used afterwards."""
        raise NotImplementedError

    def copy_in(self, address: int, array: NDArray[Any], stream: int = 0) -> None:
        """Copies a C-contiguous array to the device; asynchronous on a stream other than 0."""
        raise NotImplementedError

    def copy_out(self, array: NDArray[Any], address: int, stream: int = 0) -> None:
        """Copies from the device into a C-contiguous array; asynchronous on a stream other than 0."""
        raise NotImplementedError

    def stream(self) -> int:
        """Creates a stream."""
        raise NotImplementedError

    def destroy_stream(self, stream: int) -> None:
        """Destroys a stream."""
        raise NotImplementedError

    def synchronize(self, stream: int) -> None:
        """Waits for a stream."""
        raise NotImplementedError

    def event(self) -> int:
        """Creates an event that records the time."""
        raise NotImplementedError

    def destroy_event(self, event: int) -> None:
        """Destroys an event."""
        raise NotImplementedError

    def record(self, event: int, stream: int) -> None:
        """Records an event at the stream's current position."""
        raise NotImplementedError

    def wait(self, event: int) -> None:
        """Waits until a recorded event is complete."""
        raise NotImplementedError

    def elapsed(self, start: int, end: int) -> float:
        """Seconds between two completed events."""
        raise NotImplementedError

    def begin_capture(self, stream: int) -> None:
        """Starts capturing the stream's work into a graph, instead of executing it."""
        raise NotImplementedError

    def end_capture(self, stream: int) -> int:
        """Ends the capture; returns the executable graph.

        Raises:
            DeviceError: Some work on the stream cannot be captured.
        """
        raise NotImplementedError

    def launch(self, graph: int, stream: int) -> None:
        """Runs a graph on a stream."""
        raise NotImplementedError

    def destroy_graph(self, graph: int) -> None:
        """Destroys a graph."""
        raise NotImplementedError

    def memory(self) -> Tuple[int, int]:
        """(free, total) bytes of device memory."""
        raise NotImplementedError

    def device(self) -> Tuple[str, Tuple[int, int]]:
        """(name, compute capability) of the GPU."""
        raise NotImplementedError

    def integrated(self) -> bool:
        """Whether GPU and CPU share their memory, as on a Jetson."""
        raise NotImplementedError

    def close(self) -> None:
        """Closes CUDA in this thread."""

    def __enter__(self) -> Cuda:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """Closes it."""
        self.close()


def open_cuda(backend: Optional[str] = None) -> Cuda:
    """Opens CUDA on the first GPU.

    Args:
        backend: One of `BACKENDS`; None uses the first that is installed.

    Raises:
        DeviceError: No backend is installed, or there is no GPU or driver.
    """
    problems: List[str] = []
    for name in [backend] if backend else BACKENDS:
        try:
            cuda: Cuda = load_member(BACKENDS[name])()
        except ImportError as error:
            problems.append(f"{name}: {error}")
        else:
            return cuda
    raise DeviceError(
        f"no Python access to CUDA ({'; '.join(problems)})",
        f"{install_command('cuda')} (cuda-bindings), or pycuda",
    )


def out_of_memory(size: int, kind: str = "device memory") -> DeviceError:
    """The error for an allocation that failed."""
    return DeviceError(
        f"CUDA: {size / 2**20:.1f} MiB of {kind} cannot be allocated: out of memory",
        "close other programs, or use a smaller batch or fewer streams",
    )
