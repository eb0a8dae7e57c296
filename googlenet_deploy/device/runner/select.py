"""Chooses the runner for a model by its file and by what the user asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional

from googlenet_deploy.errors import UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.files import PathLike
    from googlenet_deploy.device.runner.protocol import Runner

BACKENDS = ("auto", "onnxruntime")


def open_runner(path: PathLike, backend: str = "auto", *, threads: Optional[int] = None) -> Runner:
    """A runner for a model; use it as a context manager.

    Args:
        path: The model: an ``.onnx`` file.
        backend: One of `BACKENDS`; "auto" goes by the file's suffix.
        threads: CPU threads; None takes one per core.

    Raises:
        UsageError: The backend is unknown, or no backend runs such a file.
        BadModelError: The model cannot be loaded.
        MissingExtraError: The backend is not installed.
    """
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}: choose one of {', '.join(BACKENDS)}")
    if backend == "auto" and Path(path).suffix.lower() in (".engine", ".plan", ".trt"):
        raise UsageError(f"{path}: a TensorRT engine runs where it was built; give the ONNX model here")
    from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner  # noqa: PLC0415 - optional

    return OnnxRuntimeRunner(path, threads=threads)
