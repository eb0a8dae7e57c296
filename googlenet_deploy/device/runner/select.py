"""Chooses the runner for a model by its file and by what the user asks for.

"auto" takes TensorRT for an engine. For an ONNX model it takes OpenVINO where that is installed and the processor
gains by it, which is on x86-64 with AVX2 for float models, and with VNNI or AMX for INT8 ones (without, OpenVINO's INT8
sums may saturate); ONNX Runtime everywhere else, and where OpenVINO refuses a model. Both compute float models in
float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from googlenet_deploy.device.builder.options import CUDA_BACKENDS
from googlenet_deploy.device.options import auto_on_off, check_options, option
from googlenet_deploy.device.system.processor import instructions, is_x86, sums_int8_exactly
from googlenet_deploy.errors import BadModelError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.files import PathLike
    from googlenet_deploy.device.onnx_model.header import OnnxFile, OnnxHeader
    from googlenet_deploy.device.runner.protocol import Runner

ENGINE_SUFFIXES = (".engine", ".plan", ".trt")
_PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}
_ENGINES = ("tensorrt", "tensorrt-rtx")
BACKENDS = ("auto", *_PROVIDERS, "openvino", *_ENGINES)


RUNNING, ENGINES = "running", "engines"  # headings of --help


@dataclass(frozen=True)
class RunnerOptions:
    """What runs a model; see `open_runner`.

    Raises:
        UsageError: A value is out of range.
    """

    backend: str = option("auto", "what runs the model", group=RUNNING, choices=BACKENDS)
    threads: Optional[int] = option(
        None, "the model's threads", group=RUNNING, metavar="N", least=1, shown_default="one per core"
    )
    as_is: bool = option(False, "run an ONNX graph as it stands, not in the equal form for CPUs", group=RUNNING)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class GpuOptions:
    """How an engine runs; see `tensorrt_runner.TensorRTRunner`.

    Attributes:
        cuda_backend: "cuda-bindings" or "pycuda"; None takes what is installed.
        streams: Batches that are worked on at once.
        cuda_graph: Whether to run the network as a CUDA graph.
        zero_copy: Whether the GPU reads the host's memory; None does on integrated GPUs only.
        checked: Whether an engine needs its manifest.

    Raises:
        UsageError: A value is out of range.
    """

    cuda_backend: Optional[str] = option(
        None, "how Python reaches CUDA", group=ENGINES, choices=CUDA_BACKENDS, shown_default="what is installed"
    )
    streams: int = option(2, "batches at once on the GPU", group=ENGINES, metavar="N", least=1)
    cuda_graph: bool = option(False, "run the network as a CUDA graph", group=ENGINES)
    zero_copy: Optional[bool] = option(
        None, "let the GPU read the host's memory", group=ENGINES, metavar="{auto,on,off}", parse=auto_on_off,
        shown_default="auto: where they share it, as on a Jetson",
    )  # fmt: skip
    checked: bool = option(
        True, "run an engine that has no manifest, such as trtexec's", group=ENGINES, flag="--no-manifest"
    )

    def __post_init__(self) -> None:
        check_options(self)


def open_runner(
    path: PathLike,
    backend: str = "auto",
    *,
    threads: Optional[int] = None,
    batch: int = 1,
    as_is: bool = False,
    gpu: Optional[GpuOptions] = None,
) -> Runner:
    """A runner for a model; use it as a context manager.

    Args:
        path: The model: an ``.onnx`` file, or an engine that `build` made.
        backend: One of `BACKENDS`; for "auto" see the module.
        threads: CPU threads; None takes one per core.
        batch: Images that usually come at once; on a CPU 1 makes one image fast, more make the most images/s.
        as_is: Run an ONNX model's graph as it stands, in ONNX Runtime.
        gpu: How an engine runs.

    Raises:
        UsageError: The backend is unknown, or does not run such a file.
        BadModelError: The model cannot be loaded, or does not fit this machine.
        MissingExtraError: The backend is not installed.
        DeviceError: TensorRT, CUDA or a GPU is missing.
    """
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}: choose one of {', '.join(BACKENDS)}")
    is_engine = _is_engine(path)
    if is_engine and backend != "auto" and backend not in _ENGINES:
        raise UsageError(f"{path}: is a TensorRT engine, which {backend} does not run", "leave --backend out")
    if backend in _ENGINES and Path(path).suffix.lower() == ".onnx":
        raise UsageError(f"{path}: {backend} runs engines", f"build one first: googlenet-deploy build {path}")
    if runs_engine(path, backend):
        return _open_engine(path, backend, gpu or GpuOptions())
    if as_is and backend == "openvino":
        raise UsageError("--as-is is for ONNX Runtime: OpenVINO changes every graph", "leave one of them out")
    from googlenet_deploy.device.onnx_model.header import read_model  # noqa: PLC0415 - needs NumPy

    model = read_model(path)
    if backend == "openvino":
        return _open_openvino(model, threads, batch)
    refused = ""
    if backend == "auto" and not as_is and gains_by_openvino(model.header):
        try:
            return _open_openvino(model, threads, batch)
        except BadModelError as error:  # ONNX Runtime may run it, and says what is wrong where it does not
            refused = error.problem
    from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner  # noqa: PLC0415 - optional

    provider = _PROVIDERS.get(backend)
    runner = OnnxRuntimeRunner(
        path, providers=[provider] if provider else None, threads=threads, batch=batch, as_is=as_is, model=model
    )
    if refused:
        runner.notes.append(f"runs in ONNX Runtime, since {refused}")
    return runner


def runs_engine(path: PathLike, backend: str) -> bool:
    """Whether `open_runner` takes this file as an engine."""
    return backend in _ENGINES or _is_engine(path)


def _is_engine(path: PathLike) -> bool:
    return Path(path).suffix.lower() in ENGINE_SUFFIXES


def gains_by_openvino(header: OnnxHeader) -> bool:
    """Whether "auto" runs an ONNX model in OpenVINO here; see the module."""
    if find_spec("openvino") is None or not is_x86() or "avx2" not in instructions():
        return False
    return sums_int8_exactly() or not header.quantized


def _open_openvino(model: OnnxFile, threads: Optional[int], batch: int) -> Runner:
    from googlenet_deploy.device.runner.openvino_runner import OpenVinoRunner  # noqa: PLC0415 - optional

    return OpenVinoRunner(model.path, threads=threads, batch=batch, model=model)


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
