"""OpenVINO: the fastest runner on x86 processors, for FP32 and for INT8 models.

By default OpenVINO computes float models in bfloat16 on processors that have it, which changes answers; here they are
computed in float32. INT8 models get unsigned activations first, see `cpu_graph.unsigned`. Each image is a separate
run: single images use all threads, batches are divided among one stream per thread.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import deque
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Deque, Dict, List, Optional, Tuple, Type

from googlenet_deploy.device.cpu_graph.forms import openvino_form
from googlenet_deploy.device.cpu_graph.nan_watch import DANGEROUS, watch_nan
from googlenet_deploy.device.files import PathLike, cache_folder, write_bytes
from googlenet_deploy.device.onnx_model.header import OnnxFile
from googlenet_deploy.device.onnx_model.messages import Value
from googlenet_deploy.device.onnx_model.training_mode import read_inference_model
from googlenet_deploy.device.runner.protocol import (
    TensorSpec,
    as_input,
    batch_range,
    by_image,
    concatenate,
    image_input,
)
from googlenet_deploy.device.system.processor import available_cores, instructions, is_x86, sums_int8_exactly
from googlenet_deploy.device.text import reason_line
from googlenet_deploy.errors import BadModelError, OutputError, requires

with requires("openvino"):
    import numpy as np
    import openvino

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.runner.select import RunnerRequest


MOST_KEPT = 16  # files of a few megabytes each
_DIGEST_SIZE = 32


class CompiledCache:
    """The cache entry of one compiled model; if the cache cannot be read or written, nothing is cached.

    Args:
        model: The complete ONNX model that is compiled, including the values of its external data files.
        properties: The properties that it is compiled with.
        version: OpenVINO's version.
    """

    def __init__(self, model: bytes, properties: Dict[str, Any], version: str) -> None:
        settings = json.dumps([properties, version, sorted(instructions())], sort_keys=True).encode()
        key = hashlib.sha256(hashlib.sha256(model).digest() + settings).hexdigest()
        self.path = cache_folder() / "openvino" / f"{key[:32]}.compiled"

    def load(self) -> Optional[bytes]:
        """Returns the cached model; None if there is no entry or it is damaged."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return None
        blob = content[_DIGEST_SIZE:]
        return blob if hashlib.sha256(blob).digest() == content[:_DIGEST_SIZE] else None

    def save(self, blob: bytes) -> None:
        """Caches a compiled model, and deletes the oldest entries over the limit."""
        with suppress(OutputError, OSError):
            write_bytes(self.path, hashlib.sha256(blob).digest() + blob)
            kept = sorted(self.path.parent.glob("*.compiled"), key=_time)
            for path in kept[: max(0, len(kept) - MOST_KEPT)]:
                path.unlink()


def _time(path: Path) -> float:
    return path.stat().st_mtime


def open_openvino(request: RunnerRequest) -> OpenVinoRunner:
    """Opens a model; see `OpenVinoRunner`."""
    return OpenVinoRunner(request.path, threads=request.threads, batch=request.batch, model=request.model)


class OpenVinoRunner:
    """A model in OpenVINO; see `protocol.Runner`.

    Args:
        path: An ONNX file with one image input.
        threads: CPU threads; None uses one per core.
        batch: Usual batch size: 1 for the lowest latency, more for the highest throughput.
        model: The file, if it has been read already.

    Raises:
        BadModelError: The file is missing or damaged, has several inputs, or uses what OpenVINO does not support.
    """

    device = "CPU"

    def __init__(
        self, path: PathLike, *, threads: Optional[int] = None, batch: int = 1, model: Optional[OnnxFile] = None
    ) -> None:
        self.path = str(path)
        self.notes: List[str] = []
        model = model or read_inference_model(path)
        header = model.header
        self.metadata = header.metadata
        self.input = image_input([_spec(value) for value in header.inputs], self.path)
        self.outputs = tuple(_spec(value) for value in header.outputs)
        self._alone = self.input.shape[0] in (None, 1)
        self.batch_range = (1, None) if self._alone else batch_range(self.input)
        cores = threads or available_cores()
        streams = cores if batch > 1 and self._alone else 1
        self._in_float = header.quantized and is_x86() and not sums_int8_exactly()
        dangerous = any(node.operator in DANGEROUS for node in header.nodes)
        content, self._watched = _watched(self._form(model)) if dangerous else (self._form(model), [])
        self._compiled = self._compile(content, cores, streams)
        self._requests = [self._compiled.create_infer_request() for _ in range(streams)]
        self.backend = f"OpenVINO {openvino.__version__.partition('-')[0]} (CPU)"

    def run(self, batch: NDArray[np.generic]) -> Dict[str, NDArray[np.generic]]:
        """Outputs by name for one batch of the input's shape and dtype.

        Raises:
            BadModelError: OpenVINO failed while running the model.
        """
        parts = [batch[index : index + 1] for index in range(len(batch))] if self._alone else [batch]
        idle: Deque[Any] = deque(self._requests)
        running: Deque[Any] = deque()
        answers: List[Dict[str, NDArray[np.generic]]] = []
        try:
            for part in parts:
                if not idle:
                    request = running.popleft()
                    answers.append(self._answer(request))
                    idle.append(request)
                request = idle.popleft()
                request.start_async([np.ascontiguousarray(as_input(part, self.input))], share_inputs=True)
                running.append(request)
            answers += [self._answer(request) for request in running]
        except RuntimeError as error:
            raise BadModelError(self.path, f"OpenVINO cannot run it: {reason_line(error)}") from error
        return answers[0] if len(answers) == 1 else concatenate([by_image(self, answer, 1) for answer in answers])

    def close(self) -> None:
        """Frees the model; may be called again."""
        self._requests = []
        self._compiled = None

    def __enter__(self) -> OpenVinoRunner:
        """The runner itself."""
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """Frees the model."""
        self.close()

    def _answer(self, request: Any) -> Dict[str, NDArray[np.generic]]:  # noqa: ANN401 - OpenVINO's types are optional
        request.wait()
        for index, name in enumerate(self._watched, start=len(self.outputs)):
            if request.get_output_tensor(index).data > 0:
                raise BadModelError(
                    self.path,
                    f"tensor {name!r} is not a number for some image",
                    "check the weights and the preprocessing",
                )
        return {spec.name: request.get_output_tensor(index).data.copy() for index, spec in enumerate(self.outputs)}

    def _form(self, model: OnnxFile) -> bytes:
        if self._in_float:
            self.notes.append(
                "this processor has no VNNI, without which OpenVINO's INT8 sums saturate and change answers: "
                "computed in floating point; --backend onnxruntime computes in INT8 exactly"
            )
            return model.content
        try:
            form = openvino_form(model.model)
        except ValueError as error:
            self.notes.append(f"the model runs unchanged: it has no form for OpenVINO ({reason_line(error)})")
            form = None
        if form is None:
            return model.content
        self.notes.append(f"computed in an equal form for OpenVINO: {form.changes}")
        return form.model

    def _compile(self, content: bytes, threads: int, streams: int) -> Any:  # noqa: ANN401 - OpenVINO's types are optional
        properties: Dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,  # the decoding threads share the cores
        }
        if self._in_float:
            properties["LP_TRANSFORMS_MODE"] = "OFF"  # quantised layers multiply Q/DQ-rounded values in float32
        core = _shared_core()
        cache = CompiledCache(content, properties, openvino.__version__)
        kept = cache.load()
        if kept is not None:
            with suppress(RuntimeError):  # cached on a different machine after all: compile again
                return core.import_model(kept, "CPU", properties)
        try:
            model = core.read_model(content)
            if self._alone:
                # Dimensions that the file leaves open are set by the prepared images.
                model.reshape([1, *(-1 if size is None else size for size in self.input.shape[1:])])
            compiled = core.compile_model(model, "CPU", properties)
        except RuntimeError as error:
            raise BadModelError(self.path, f"OpenVINO refuses it: {reason_line(error)}") from error
        with suppress(RuntimeError):
            stream = io.BytesIO()
            compiled.export_model(stream)
            cache.save(stream.getvalue())
        return compiled


def _watched(content: bytes) -> Tuple[bytes, List[str]]:
    """OpenVINO's ReLU turns NaN into 0, so that scores computed from NaN look sound; see `nan_watch`."""
    try:
        return watch_nan(content)
    except (ValueError, LookupError):  # it cannot be parsed: OpenVINO names the reason
        return content, []


@lru_cache
def _shared_core() -> Any:  # noqa: ANN401 - OpenVINO's types are optional
    """The one Core of this process, which is never freed.

    OpenVINO's CPU plugin gives the thread that loads it an alternative signal stack, and puts the earlier one back when
    it is freed. Two plugins freed in the order of their loading leave the freed stack of the first one in place, and
    the next Ctrl-C ends the process with a segmentation fault (seen with OpenVINO 2026.4).
    """
    return openvino.Core()


def _spec(value: Value) -> TensorSpec:
    sizes = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(value.name, sizes, value.dtype)
