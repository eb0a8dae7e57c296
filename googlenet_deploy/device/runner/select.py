"""Chooses the runner for a model by its file and the user's request.

"auto" selects TensorRT for an engine. For an ONNX model it selects OpenVINO if that is installed and faster on this
processor: on x86-64 with AVX2 for float models, and with VNNI or AMX for INT8 models (without these, OpenVINO's INT8
sums may saturate). Otherwise, and if OpenVINO rejects the model, it selects ONNX Runtime. Both compute float models in
float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Dict, NamedTuple, Optional

from googlenet_deploy.device.builder.options import CUDA_BACKENDS
from googlenet_deploy.device.options import auto_on_off, check_options, option
from googlenet_deploy.device.registry import load_member
from googlenet_deploy.device.system.processor import instructions, is_x86, sums_int8_exactly
from googlenet_deploy.errors import BadModelError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.files import PathLike
    from googlenet_deploy.device.onnx_model.header import OnnxFile, OnnxHeader
    from googlenet_deploy.device.runner.protocol import Runner

ENGINE_SUFFIXES = (".engine", ".plan", ".trt")


class BackendEntry(NamedTuple):
    """One backend.

    Attributes:
        opener: Path of its function, see `device.registry`; the function turns a `RunnerRequest` into a `Runner`.
        engines: Whether it runs engines; otherwise it runs ONNX models.
        changes_graph: Why it cannot run a graph unchanged; empty if it can.
    """

    opener: str
    engines: bool = False
    changes_graph: str = ""


# The one registry of backends.
REGISTRY: Dict[str, BackendEntry] = {
    "onnxruntime": BackendEntry("googlenet_deploy.device.runner.onnxruntime_runner:open_onnxruntime"),
    "onnxruntime-cuda": BackendEntry("googlenet_deploy.device.runner.onnxruntime_runner:open_onnxruntime"),
    "onnxruntime-tensorrt": BackendEntry("googlenet_deploy.device.runner.onnxruntime_runner:open_onnxruntime"),
    "openvino": BackendEntry(
        "googlenet_deploy.device.runner.openvino_runner:open_openvino", changes_graph="OpenVINO changes every graph"
    ),
    "tensorrt": BackendEntry("googlenet_deploy.device.runner.tensorrt_runner:open_tensorrt", engines=True),
    "tensorrt-rtx": BackendEntry("googlenet_deploy.device.runner.tensorrt_runner:open_tensorrt", engines=True),
}
BACKENDS = ("auto", *REGISTRY)

RUNNING, ENGINES = "running", "engines"  # headings of --help


@dataclass(frozen=True)
class RunnerOptions:
    """Which runner to use, and how; see `open_runner`.

    Raises:
        UsageError: A value is out of range.
    """

    backend: str = option("auto", "what runs the model", group=RUNNING, choices=BACKENDS)
    threads: Optional[int] = option(
        None, "the model's threads", group=RUNNING, metavar="N", least=1, shown_default="one per core"
    )
    as_is: bool = option(False, "run an ONNX graph unchanged, not in the equal form for CPUs", group=RUNNING)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class GpuOptions:
    """How an engine runs; see `tensorrt_runner.TensorRTRunner`.

    Attributes:
        cuda_backend: "cuda-bindings" or "pycuda"; None uses whichever is installed.
        streams: Number of batches in progress at once.
        cuda_graph: Whether to run the network as a CUDA graph.
        zero_copy: Whether the GPU accesses host memory directly; None enables it on integrated GPUs only.
        checked: Whether an engine must have its manifest.

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


class RunnerRequest(NamedTuple):
    """The request that an opener gets; see `open_runner` for the meaning of each attribute.

    Attributes:
        path: The model's file.
        backend: The user's choice: "auto", or a name from the registry.
        threads: CPU threads.
        batch: Usual batch size.
        as_is: Whether to run the graph unchanged.
        gpu: How an engine runs.
        model: The loaded ONNX file; None for an engine.
    """

    path: PathLike
    backend: str
    threads: Optional[int]
    batch: int
    as_is: bool
    gpu: GpuOptions
    model: Optional[OnnxFile] = None


def open_runner(
    path: PathLike,
    backend: str = "auto",
    *,
    threads: Optional[int] = None,
    batch: int = 1,
    as_is: bool = False,
    gpu: Optional[GpuOptions] = None,
) -> Runner:
    """Opens a runner for a model; use it as a context manager.

    Args:
        path: The model: an ``.onnx`` file, or an engine that `build` made.
        backend: One of `BACKENDS`; for "auto" see the module.
        threads: CPU threads; None uses one per core.
        batch: Usual batch size; on a CPU 1 gives the lowest latency, more the highest throughput.
        as_is: Run an ONNX model's graph unchanged, in ONNX Runtime.
        gpu: How an engine runs.

    Raises:
        UsageError: The backend is unknown, or does not run this kind of file.
        BadModelError: The model cannot be loaded, or does not fit this machine.
        MissingExtraError: The backend is not installed.
        DeviceError: TensorRT, CUDA or a GPU is missing.
    """
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}: choose one of {', '.join(BACKENDS)}")
    if _is_engine(path) and backend != "auto" and not REGISTRY[backend].engines:
        raise UsageError(f"{path}: is a TensorRT engine, which {backend} does not run", "leave --backend out")
    if _runs_engines(backend) and Path(path).suffix.lower() == ".onnx":
        raise UsageError(f"{path}: {backend} runs engines", f"build one first: googlenet-deploy build {path}")
    request = RunnerRequest(path, backend, threads, batch, as_is, gpu or GpuOptions())
    if runs_engine(path, backend):
        return _open("tensorrt" if backend == "auto" else backend, request)
    if as_is and backend != "auto" and REGISTRY[backend].changes_graph:
        raise UsageError(f"--as-is is for ONNX Runtime: {REGISTRY[backend].changes_graph}", "leave one of them out")
    from googlenet_deploy.device.onnx_model.training_mode import read_inference_model  # noqa: PLC0415 - needs NumPy

    model = read_inference_model(path)
    request = request._replace(model=model)
    if backend != "auto":
        return _open(backend, request)
    refused = ""
    if not as_is and gains_by_openvino(model.header):
        try:
            return _open("openvino", request)
        except BadModelError as error:  # ONNX Runtime may run it, or else reports what is wrong
            refused = error.problem
    runner = _open("onnxruntime", request)
    if refused:
        runner.notes.append(f"runs in ONNX Runtime, since {refused}")
    return runner


def _open(name: str, request: RunnerRequest) -> Runner:
    runner: Runner = load_member(REGISTRY[name].opener)(request)
    return runner


def runs_engine(path: PathLike, backend: str) -> bool:
    """Whether `open_runner` treats this file as an engine."""
    return _runs_engines(backend) or _is_engine(path)


def _runs_engines(backend: str) -> bool:
    return backend in REGISTRY and REGISTRY[backend].engines


def _is_engine(path: PathLike) -> bool:
    return Path(path).suffix.lower() in ENGINE_SUFFIXES


def gains_by_openvino(header: OnnxHeader) -> bool:
    """Whether "auto" selects OpenVINO for an ONNX model on this machine; see the module."""
    if find_spec("openvino") is None or not is_x86() or "avx2" not in instructions():
        return False
    return sums_int8_exactly() or not header.quantized
