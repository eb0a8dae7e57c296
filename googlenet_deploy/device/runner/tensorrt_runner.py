"""TensorRT and TensorRT-RTX: runs an engine that `build` made, after checking it against its manifest.

JetPack 4.6 has TensorRT 8.2, for which trtexec builds the engines, without a manifest. Its Python is 3.6, so this
module needs Python 3.8 or later there, with TensorRT's bindings built for it (NVIDIA/TensorRT, python/README.md).
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Deque, Dict, List, Optional, Tuple, Type

import numpy as np

from googlenet_deploy.device.cuda.memory import Cuda, open_cuda
from googlenet_deploy.device.engine.manifest import EngineManifest, check_fit, load_manifest, manifest_path
from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.runner.protocol import ScopedTimes, TensorSpec, image_input
from googlenet_deploy.device.runner.tensorrt_slot import Lane, Slot
from googlenet_deploy.device.tensorrt.execution import Engine, EngineTensor
from googlenet_deploy.device.tensorrt.loading import load_tensorrt
from googlenet_deploy.device.tensorrt.names import OLDEST_TO_RUN
from googlenet_deploy.device.tensorrt.trt_compat import TensorRT
from googlenet_deploy.errors import BadModelError, DeviceError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.runner.select import RunnerRequest


def open_tensorrt(request: RunnerRequest) -> TensorRTRunner:
    """Opens an engine; the backend "auto" follows the engine's manifest. See `TensorRTRunner`."""
    return TensorRTRunner(
        request.path,
        backend=None if request.backend == "auto" else request.backend,
        cuda_backend=request.gpu.cuda_backend,
        slots=request.gpu.streams,
        cuda_graph=request.gpu.cuda_graph,
        zero_copy=request.gpu.zero_copy,
        checked=request.gpu.checked,
    )


class TensorRTRunner:
    """An engine in TensorRT; see `protocol.Runner`, `protocol.TimedRun` and `overlap.AsyncRunner`.

    Use it only in the thread that created it. Memory is allocated when the first batch of a size arrives.

    Args:
        path: An engine with its manifest beside it.
        backend: "tensorrt" or "tensorrt-rtx"; None follows the manifest.
        cuda_backend: "cuda-bindings" or "pycuda"; None uses whichever is installed.
        slots: Number of batches in progress at once, each with its own memory, and with its own execution
            context if the engine can have several.
        cuda_graph: Whether to run the network as a CUDA graph; falls back with a note if that is impossible.
        zero_copy: Whether the GPU accesses host memory directly; None enables it on integrated GPUs only.
        checked: False runs an engine without a manifest, such as trtexec's; its preprocessing is then unknown.

    Raises:
        BadModelError: The engine is missing, truncated, altered, for another version or GPU, or rejected by TensorRT.
        DeviceError: TensorRT, CUDA or a GPU is missing, or there is not enough device memory.
    """

    def __init__(
        self,
        path: PathLike,
        *,
        backend: Optional[str] = None,
        cuda_backend: Optional[str] = None,
        slots: int = 2,
        cuda_graph: bool = False,
        zero_copy: Optional[bool] = None,
        checked: bool = True,
    ) -> None:
        self.path = str(path)
        self.notes: List[str] = []
        self._engine: Optional[Engine] = None
        self._lanes: List[Lane] = []
        self._slots: List[Slot] = []
        self._idle: Deque[int] = deque()
        self._running: Dict[int, Slot] = {}
        self._cuda: Optional[Cuda] = None
        self.manifest = self._read_manifest(checked)
        chosen = backend or (self.manifest.backend if self.manifest else "tensorrt")
        library = load_tensorrt(chosen, OLDEST_TO_RUN)
        try:
            self._open(library, chosen, cuda_backend)
            self._add_slots(slots, cuda_graph=cuda_graph, zero_copy=zero_copy)
        except BaseException:
            self.close()
            raise

    def run(self, batch: NDArray[np.generic]) -> Dict[str, NDArray[np.generic]]:
        """Outputs by name for one batch of the input's shape and dtype.

        Raises:
            DeviceError: The engine was not built for this batch, memory is exhausted, or the GPU failed.
        """
        return self.collect(self.submit(batch))

    def run_timed(self, batch: NDArray[np.generic]) -> Tuple[Dict[str, NDArray[np.generic]], ScopedTimes]:
        """Like `run`, but also returns the seconds of each scope, measured by CUDA events."""
        ticket = self.submit(batch)
        slot = self._running[ticket]
        return self.collect(ticket), slot.times()

    @property
    def slots(self) -> int:
        """How many batches may be in progress at once."""
        return len(self._slots)

    def submit(self, batch: NDArray[np.generic]) -> int:
        """Starts a batch without waiting; returns a ticket for `collect`.

        Raises:
            UsageError: All slots are already in use.
            DeviceError: As for `run`.
        """
        if not self._idle:
            raise UsageError(f"{len(self._slots)} batches are under way: collect one first")
        index = self._idle.popleft()
        try:
            self._slots[index].start(np.ascontiguousarray(batch))
        except BaseException:
            self._idle.append(index)
            raise
        self._running[index] = self._slots[index]
        return index

    def collect(self, ticket: int) -> Dict[str, NDArray[np.generic]]:
        """Waits for a batch and returns its outputs."""
        slot = self._running.pop(ticket)
        try:
            return slot.finish()
        finally:
            self._idle.append(ticket)

    def close(self) -> None:
        """Frees contexts, buffers, streams, engine and CUDA, in that order; may be called again."""
        self._running.clear()
        self._idle.clear()
        while self._slots:
            self._slots.pop().close()
        while self._lanes:
            self._lanes.pop().close()
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        if self._cuda is not None:
            self._cuda.close()
            self._cuda = None

    def __enter__(self) -> TensorRTRunner:
        """The runner itself."""
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """Frees everything."""
        self.close()

    def _read_manifest(self, checked: bool) -> Optional[EngineManifest]:
        if not checked and not manifest_path(self.path).exists():
            self.notes.append("the engine has no manifest: neither its origin nor its integrity was checked")
            return None
        manifest = load_manifest(self.path)
        if manifest.options.get("strip_plan"):
            raise BadModelError(
                self.path, "was built without its weights (--strip-plan)", "build it without --strip-plan to run it"
            )
        return manifest

    def _open(self, library: TensorRT, backend: str, cuda_backend: Optional[str]) -> None:
        try:
            self._cuda = open_cuda(cuda_backend)
        except DeviceError:
            # If the engine would not run even with a GPU, report that first.
            if self.manifest is not None:
                check_fit(self.path, self.manifest, backend, library.version_text, None)
            raise
        gpu, capability = self._cuda.device()
        if self.manifest is not None:
            check_fit(self.path, self.manifest, backend, library.version_text, capability)
        compatible = bool(self.manifest and self.manifest.options.get("version_compatible"))
        self._engine = Engine(library, _read(self.path), self.path, version_compatible=compatible)
        tensors = self._engine.tensors
        self.input = image_input([_spec(tensor) for tensor in tensors if tensor.is_input], self.path)
        self.outputs = tuple(_spec(tensor) for tensor in tensors if not tensor.is_input)
        self.batch_range = _batch_range(next(tensor for tensor in tensors if tensor.is_input))
        properties = self.manifest.metadata if self.manifest else {}
        self.metadata = ModelMetadata.from_properties(properties, str(manifest_path(self.path)))
        self.backend = f"{library.label} ({gpu}, {self._cuda.name})"
        self.device = "DLA" if self.manifest and self.manifest.options.get("dla_core") is not None else "GPU"

    def _add_slots(self, count: int, *, cuda_graph: bool, zero_copy: Optional[bool]) -> None:
        assert self._cuda is not None
        assert self._engine is not None
        if count < 1:
            raise UsageError("a runner needs at least one slot")
        if cuda_graph and not self._cuda.has_graphs:
            self.notes.append(f"CUDA graphs are off: {self._cuda.name} has none (cuda-bindings has)")
            cuda_graph = False
        if count > 1 and not self._engine.shares_profiles:
            # A graph must not outlive a change of its context (TensorRT Developer Guide, CUDA Graphs).
            count = 1 if cuda_graph else count
            self.notes.append(
                f"{self._engine.library.label} runs one batch of an engine with open dimensions at a time"
                + ("" if cuda_graph else ": those under way share a context")
            )
        shared = self._cuda.integrated() if zero_copy is None else zero_copy
        for index in range(count):
            if index == 0 or self._engine.shares_profiles:
                self._lanes.append(Lane(self._cuda, self._engine.context()))
            slot = Slot(
                self._cuda,
                self._lanes[-1],
                self._engine.tensors,
                zero_copy=shared,
                graphs=cuda_graph,
                notes=self.notes,
            )
            self._slots.append(slot)
            self._idle.append(index)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadModelError(path, f"cannot be read: {reason(error)}") from error


def _spec(tensor: EngineTensor) -> TensorSpec:
    return TensorSpec(tensor.name, tensor.shape, tensor.dtype)


def _batch_range(tensor: EngineTensor) -> Tuple[int, Optional[int]]:
    if tensor.profile is not None:
        return tensor.profile[0][0], tensor.profile[2][0]
    size: Any = tensor.shape[0]
    return size, size
