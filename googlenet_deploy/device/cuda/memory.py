"""What the toolkit needs of CUDA, from cuda-bindings or PyCUDA, whichever is installed.

Addresses, streams, events and graphs are plain integers, so that both libraries look alike and whoever allocates also
frees. Nothing here is freed by the garbage collector alone.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, List, NamedTuple, Optional, Tuple, Type

from numpy.typing import NDArray

from googlenet_deploy.device.registry import load_member
from googlenet_deploy.errors import DeviceError, install_command

# The one registry of ways to CUDA, best first: places of their openers, see `device.registry`.
BACKENDS = {
    "cuda-bindings": "googlenet_deploy.device.cuda.bindings:open_backend",
    "pycuda": "googlenet_deploy.device.cuda.pycuda:open_backend",
}


class HostMemory(NamedTuple):
    """Page-locked memory of the host.

    Attributes:
        array: The memory as uint8 (size,).
        address: Its address for the host.
        device_address: Its address for the GPU where it is mapped (zero-copy); 0 where it is not.
    """

    array: NDArray[Any]
    address: int
    device_address: int


class Cuda:
    """CUDA on the first GPU; `open_cuda` gives one of the two implementations. A context manager.

    It is to be used in the thread that opened it.

    Attributes:
        name: "cuda-bindings" or "pycuda".
        has_graphs: Whether this library can capture CUDA graphs.
    """

    name = ""
    has_graphs = False

    def allocate(self, size: int) -> int:
        """Device memory of `size` bytes; its address.

        Raises:
            DeviceError: There is not enough.
        """
        raise NotImplementedError

    def free(self, address: int) -> None:
        """Gives memory of `allocate` back."""
        raise NotImplementedError

    def allocate_host(self, size: int, *, mapped: bool = False) -> HostMemory:
        """Page-locked host memory; `mapped` gives it an address on the GPU too, so that nothing need be copied.

        Raises:
            DeviceError: There is not enough.
        """
        raise NotImplementedError

    def free_host(self, memory: HostMemory) -> None:
        """Gives memory of `allocate_host` back; its array must not be used any more."""
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

    def destroy_stream(self, stream: int) -> None:
        """Ends a stream."""
        raise NotImplementedError

    def synchronize(self, stream: int) -> None:
        """Waits for a stream."""
        raise NotImplementedError

    def event(self) -> int:
        """A new event that keeps the time."""
        raise NotImplementedError

    def destroy_event(self, event: int) -> None:
        """Ends an event."""
        raise NotImplementedError

    def record(self, event: int, stream: int) -> None:
        """Marks the stream's present position with an event."""
        raise NotImplementedError

    def wait(self, event: int) -> None:
        """Waits until an event that was recorded has passed."""
        raise NotImplementedError

    def elapsed(self, start: int, end: int) -> float:
        """Seconds between two events that have both passed."""
        raise NotImplementedError

    def begin_capture(self, stream: int) -> None:
        """Records what is put on the stream from here on into a graph, instead of executing it."""
        raise NotImplementedError

    def end_capture(self, stream: int) -> int:
        """The executable graph of what was recorded.

        Raises:
            DeviceError: Something was put on the stream that cannot be recorded.
        """
        raise NotImplementedError

    def launch(self, graph: int, stream: int) -> None:
        """Runs a graph on a stream."""
        raise NotImplementedError

    def destroy_graph(self, graph: int) -> None:
        """Gives a graph back."""
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
        """Ends the use of CUDA in this thread."""

    def __enter__(self) -> Cuda:
        """CUDA itself."""
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
        backend: One of `BACKENDS`; None takes the first that is installed.

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
