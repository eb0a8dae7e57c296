"""Chooses the runner for a model by its file and by what the user asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Optional

from googlenet_deploy.errors import UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.files import PathLike
    from googlenet_deploy.device.runner.protocol import Runner

ENGINE_SUFFIXES = (".engine", ".plan", ".trt")
_PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}
_ENGINES = ("tensorrt", "tensorrt-rtx")
BACKENDS = ("auto", *_PROVIDERS, *_ENGINES)


class GpuOptions(NamedTuple):
    """How an engine runs; see `tensorrt_runner.TensorRTRunner`.

    Attributes:
        cuda_backend: "cuda-bindings" or "pycuda"; None takes what is installed.
        streams: Batches that are worked on at once.
        cuda_graph: Whether to run the network as a CUDA graph.
        zero_copy: Whether the GPU reads the host's memory; None does on integrated GPUs only.
        checked: Whether an engine needs its manifest.
    """

    cuda_backend: Optional[str] = None
    streams: int = 2
    cuda_graph: bool = False
    zero_copy: Optional[bool] = None
    checked: bool = True


def open_runner(
    path: PathLike, backend: str = "auto", *, threads: Optional[int] = None, gpu: Optional[GpuOptions] = None
) -> Runner:
    """A runner for a model; use it as a context manager.

    Args:
        path: The model: an ``.onnx`` file, or an engine that `build` made.
        backend: One of `BACKENDS`; "auto" goes by the file's suffix.
        threads: CPU threads; None takes one per core.
        gpu: How an engine runs.

    Raises:
        UsageError: The backend is unknown, or does not run such a file.
        BadModelError: The model cannot be loaded, or does not fit this machine.
        MissingExtraError: The backend is not installed.
        DeviceError: TensorRT, CUDA or a GPU is missing.
    """
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}: choose one of {', '.join(BACKENDS)}")
    is_engine = Path(path).suffix.lower() in ENGINE_SUFFIXES
    if backend in _PROVIDERS and is_engine:
        raise UsageError(f"{path}: is a TensorRT engine, which {backend} does not run", "leave --backend out")
    if backend in _ENGINES and Path(path).suffix.lower() == ".onnx":
        raise UsageError(f"{path}: {backend} runs engines", f"build one first: googlenet-deploy build {path}")
    if backend in _ENGINES or is_engine:
        return _open_engine(path, backend, gpu or GpuOptions())
    from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner  # noqa: PLC0415 - optional

    provider = _PROVIDERS.get(backend)
    return OnnxRuntimeRunner(path, providers=[provider] if provider else None, threads=threads)


def _open_engine(path: PathLike, backend: str, options: GpuOptions) -> Runner:
    from googlenet_deploy.device.runner.tensorrt_runner import TensorRTRunner  # noqa: PLC0415 - only for engines

    return TensorRTRunner(
        path,
        backend=None if backend == "auto" else backend,
        cuda_backend=options.cuda_backend,
        slots=options.streams,
        cuda_graph=options.cuda_graph,
        zero_copy=options.zero_copy,
        checked=options.checked,
    )
