"""ONNX Runtime: runs any ONNX model on a CPU, and on GPUs where its packages have a provider for them."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Type

from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.metadata import ModelMetadata
from googlenet_deploy.device.runner.protocol import TensorSpec, batch_range, image_input
from googlenet_deploy.errors import BadModelError, DeviceError, requires

with requires("runtime"):
    import numpy as np
    import onnxruntime

if TYPE_CHECKING:
    from numpy.typing import NDArray

CPU = "CPUExecutionProvider"
_GPU_PROVIDERS = ("CUDA", "Tensorrt", "NvTensorRTRTX")
# ONNX Runtime raises its errors too; what it logs of them goes to stderr past Python.
FATAL_ONLY = 4
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
}


class OnnxRuntimeRunner:
    """A model in ONNX Runtime; see `protocol.Runner`.

    Args:
        path: An ONNX file with one image input.
        providers: Execution providers by their names, best first, all of which must be there; None takes the CPU.
        threads: Threads inside an operator; None takes one per core.

    Raises:
        BadModelError: The file is missing, damaged, has several inputs, or uses what ONNX Runtime does not support.
        DeviceError: The installed ONNX Runtime does not have a provider.
    """

    def __init__(
        self, path: PathLike, *, providers: Optional[Sequence[str]] = None, threads: Optional[int] = None
    ) -> None:
        self.path = str(path)
        onnxruntime.set_default_logger_severity(FATAL_ONLY)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = FATAL_ONLY
        if threads is not None:
            options.intra_op_num_threads = threads
        _check_providers(providers or ())
        self._session = _open(Path(path), options, list(providers or (CPU,)))
        try:
            self.input = image_input([_spec(value) for value in self._session.get_inputs()], self.path)
            self.outputs = tuple(_spec(value) for value in self._session.get_outputs())
            properties = self._session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError as error:
            raise BadModelError(path, "is damaged: a name in it is not UTF-8 text") from error
        self.batch_range = batch_range(self.input)
        self.notes: List[str] = []
        self.metadata = ModelMetadata.from_properties(properties, self.path)
        used = self._session.get_providers()[0].replace("ExecutionProvider", "")
        self.backend = f"ONNX Runtime {onnxruntime.__version__} ({used})"
        self.device = "GPU" if used in _GPU_PROVIDERS else "CPU"

    def run(self, batch: NDArray[np.generic]) -> Dict[str, NDArray[np.generic]]:
        """Outputs by name for one batch of the input's shape and dtype.

        Raises:
            BadModelError: ONNX Runtime failed while running the model.
        """
        names = [output.name for output in self.outputs]
        try:
            values: List[NDArray[np.generic]] = self._session.run(names, {self.input.name: batch})
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise BadModelError(self.path, f"ONNX Runtime cannot run it: {_first_line(error)}") from error
        return dict(zip(names, values))

    def __enter__(self) -> OnnxRuntimeRunner:
        """The runner itself."""
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """Frees the session."""
        del self._session


def _check_providers(providers: Sequence[str]) -> None:
    """ONNX Runtime itself would only warn and take the CPU."""
    available = onnxruntime.get_available_providers()
    missing = [provider for provider in providers if provider not in available]
    if missing:
        raise DeviceError(f"ONNX Runtime has no {', '.join(missing)} here; it has {', '.join(available)}")


def _open(path: Path, options: Any, providers: List[str]) -> Any:  # noqa: ANN401 - ONNX Runtime has no types
    try:
        with path.open("rb") as stream:
            if not stream.read(1):
                raise BadModelError(path, "is empty")
    except OSError as error:
        raise BadModelError(path, f"cannot be read: {reason(error)}") from error
    try:
        # Its fallback would print to stdout and change the provider.
        return onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise BadModelError(path, f"ONNX Runtime refuses it: {_first_line(error)}") from error


def _spec(value: Any) -> TensorSpec:  # noqa: ANN401 - ONNX Runtime has no types
    # An open dimension is a name, None, or -1 in some exporters' files.
    sizes = tuple(size if isinstance(size, int) and size >= 0 else None for size in value.shape)
    return TensorSpec(value.name, sizes, _DTYPES.get(value.type, value.type))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
