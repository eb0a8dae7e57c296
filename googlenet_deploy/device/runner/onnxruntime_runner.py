"""ONNX Runtime: runs any ONNX model on a CPU, and on GPUs where its packages have a provider for them.

On a CPU the model is first put into the form of `cpu_graph`, which computes the same in less time. The images of a
batch are divided among single-threaded workers: that takes half the processor time of running all threads on one image,
and an answer does not depend on the rest of its batch. A runner for single images uses all threads for each.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Type

from googlenet_deploy.device.cpu_graph.forms import onnxruntime_form
from googlenet_deploy.device.files import PathLike
from googlenet_deploy.device.onnx_model.header import OnnxFile
from googlenet_deploy.device.onnx_model.training_mode import read_inference_model
from googlenet_deploy.device.runner.exact_integers import start_exact
from googlenet_deploy.device.runner.protocol import TensorSpec, as_input, batch_range, concatenate, image_input
from googlenet_deploy.device.system.processor import available_cores
from googlenet_deploy.device.text import reason_line
from googlenet_deploy.errors import BadModelError, DeviceError, requires

with requires("runtime"):
    import numpy as np
    import onnxruntime

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.runner.select import RunnerRequest

CPU = "CPUExecutionProvider"
_PROVIDERS = {
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}
_GPU_PROVIDERS = ("CUDA", "Tensorrt", "NvTensorRTRTX")
# ONNX Runtime raises its errors as well as logging them to stderr, which bypasses Python.
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


def open_onnxruntime(request: RunnerRequest) -> OnnxRuntimeRunner:
    """Opens a model with the provider of the requested backend; see `OnnxRuntimeRunner`."""
    return OnnxRuntimeRunner(
        request.path,
        providers=[_PROVIDERS.get(request.backend, CPU)],
        threads=request.threads,
        batch=request.batch,
        as_is=request.as_is,
        model=request.model,
    )


class OnnxRuntimeRunner:
    """A model in ONNX Runtime; see `protocol.Runner`.

    Args:
        path: An ONNX file with one image input.
        providers: Names of execution providers, best first, all of which must be available; None selects the CPU.
        threads: CPU threads; None uses one per core.
        batch: Usual batch size: 1 for the lowest latency, more for the highest throughput.
        as_is: Run the model's graph unchanged.
        model: The file, if it has been read already.

    Raises:
        BadModelError: The file is missing, damaged, has several inputs, or uses what ONNX Runtime does not support.
        DeviceError: A provider is not available, or does not start.
    """

    def __init__(
        self,
        path: PathLike,
        *,
        providers: Optional[Sequence[str]] = None,
        threads: Optional[int] = None,
        batch: int = 1,
        as_is: bool = False,
        model: Optional[OnnxFile] = None,
    ) -> None:
        self.path = str(path)
        self.notes: List[str] = []
        wanted = list(providers or (CPU,))
        _check_providers(wanted)
        on_cpu = wanted[0] == CPU
        self._pool: Optional[ThreadPoolExecutor] = None
        model = model or read_inference_model(path)
        self.metadata = model.header.metadata
        self._session = self._start(model, wanted, threads, alone=on_cpu and batch > 1, as_is=as_is or not on_cpu)
        self.input = image_input([_spec(value) for value in self._session.get_inputs()], self.path)
        self.outputs = tuple(_spec(value) for value in self._session.get_outputs())
        self.batch_range = batch_range(self.input)
        if on_cpu and batch > 1:
            if self.input.shape[0] in (None, 1):
                self.batch_range = (1, None)
                self._pool = ThreadPoolExecutor(threads or available_cores(), thread_name_prefix="network")
            else:  # the model's fixed batch cannot be divided
                self._session = self._start(model, wanted, threads, alone=False, as_is=as_is)
        used = self._session.get_providers()[0].replace("ExecutionProvider", "")
        self.backend = f"ONNX Runtime {onnxruntime.__version__} ({used})"
        self.device = "GPU" if used in _GPU_PROVIDERS else "CPU"

    def run(self, batch: NDArray[np.generic]) -> Dict[str, NDArray[np.generic]]:
        """Outputs by name for one batch of the input's shape and dtype.

        Raises:
            BadModelError: ONNX Runtime failed while running the model.
        """
        if self._pool is None or len(batch) == 1:
            return self._run(batch)
        return concatenate(list(self._pool.map(self._run, [batch[index : index + 1] for index in range(len(batch))])))

    def close(self) -> None:
        """Frees the session; may be called again."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        self._session = None

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
        self.close()

    def _run(self, batch: NDArray[np.generic]) -> Dict[str, NDArray[np.generic]]:
        names = [output.name for output in self.outputs]
        given = as_input(batch, self.input)
        try:
            values: List[NDArray[np.generic]] = self._session.run(names, {self.input.name: given})
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise BadModelError(self.path, f"ONNX Runtime cannot run it: {reason_line(error)}") from error
        return dict(zip(names, values))

    def _start(self, model: OnnxFile, providers: List[str], threads: Optional[int], *, alone: bool, as_is: bool) -> Any:  # noqa: ANN401
        """Starts a session; with `alone` each run uses one thread."""
        onnxruntime.set_default_logger_severity(FATAL_ONLY)

        def options() -> Any:  # noqa: ANN401 - ONNX Runtime has no types
            made = onnxruntime.SessionOptions()
            made.log_severity_level = FATAL_ONLY
            if alone or threads is not None:
                made.intra_op_num_threads = 1 if alone else threads
            return made

        if not as_is:
            form = self._form(model)
            if form is not None:
                try:
                    return start_exact(form, options, providers)
                except Exception as error:  # noqa: BLE001 - the form is optional, the model itself is tried next
                    self.notes = [f"the model runs unchanged: its form for CPUs is refused ({reason_line(error)})"]
        return _open(model, options, providers)

    def _form(self, model: OnnxFile) -> Optional[bytes]:
        try:
            form = onnxruntime_form(model.model)
        except ValueError as error:
            self.notes = [f"the model runs unchanged: it has no form for CPUs ({reason_line(error)})"]
            return None
        if form is None:
            return None
        self.notes = [f"computed in an equal form for CPUs: {form.changes} (--as-is runs the graph unchanged)"]
        return form.model


def _check_providers(providers: List[str]) -> None:
    """Checks the providers: ONNX Runtime itself would only warn and use the CPU."""
    available = onnxruntime.get_available_providers()
    missing = [provider for provider in providers if provider not in available]
    if missing:
        raise DeviceError(
            f"ONNX Runtime has no {', '.join(missing)} here; it has {', '.join(available)}",
            "pip install onnxruntime-gpu in place of onnxruntime, or leave --backend out",
        )


def _open(model: OnnxFile, options: Callable[[], Any], providers: List[str]) -> Any:  # noqa: ANN401 - ONNX Runtime has no types
    path = model.path
    try:
        # Its fallback would print to stdout and change the provider.
        session = start_exact(model.content, options, providers)
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise BadModelError(path, f"ONNX Runtime refuses it: {reason_line(error)}") from error
    if session.get_providers()[0] != providers[0]:
        raise DeviceError(
            f"{path}: ONNX Runtime's {providers[0]} does not start here, it would run on "
            f"{session.get_providers()[0]} instead",
            "see doctor: are the CUDA and TensorRT libraries that it was built for installed?",
        )
    return session


def _spec(value: Any) -> TensorSpec:  # noqa: ANN401 - ONNX Runtime has no types
    sizes = tuple(size if isinstance(size, int) and size >= 1 else None for size in value.shape)
    return TensorSpec(value.name, sizes, _DTYPES.get(value.type, value.type))
