"""Runs a model batch by batch and returns any of its tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from googlenet_deploy.device.runner.exact_integers import start_exact
from googlenet_deploy.errors import BadModelError, first_line, requires
from googlenet_deploy.graph.edit import copy_model

with requires("export"):
    import onnx
with requires("runtime"):
    import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from googlenet_deploy.device.images.pipeline import Batch

SILENT = 4  # ONNX Runtime's severity "fatal": its errors are raised as exceptions, its warnings do not concern the user


class TensorSession:
    """ONNX Runtime on the CPU, with inner tensors as outputs.

    Args:
        model: The model; it is not changed.
        outputs: The tensors to return; None returns the model's own outputs. The network's inputs are allowed too.
        threads: Threads of the computation; None uses one per core.
        path: The model's file, for error messages.

    Raises:
        BadModelError: ONNX Runtime cannot run the model, or it does not have exactly one input.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        outputs: Sequence[str] | None = None,
        threads: int | None = None,
        path: str = "model",
    ) -> None:
        self.path = path
        own = [value.name for value in model.graph.output]
        self.outputs = list(own if outputs is None else outputs)
        self.session = open_session(_with_outputs(model, self.outputs), threads, path)
        inputs = self.session.get_inputs()
        if len(inputs) != 1:
            raise BadModelError(path, f"has {len(inputs)} inputs, an image classifier has one")
        self.input_name: str = inputs[0].name
        self.input_shape: list[Any] = inputs[0].shape
        self.input_type: str = inputs[0].type

    @property
    def fixed_batch(self) -> int | None:
        """The model's fixed batch size; None if it is dynamic."""
        size = self.input_shape[0] if self.input_shape else None
        return size if isinstance(size, int) else None

    def run(self, batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The requested tensors of one batch, by name; the first axis is the image, if a tensor has one per image.

        A model with a fixed batch size also accepts smaller batches.

        Raises:
            BadModelError: ONNX Runtime rejects the batch.
        """
        made = [name for name in self.outputs if name != self.input_name]
        size, fixed = len(batch), self.fixed_batch
        fed = batch
        if fixed is not None and size < fixed:  # the last batch: padded, and the padding's results are cut off
            fed = np.concatenate([batch, np.repeat(batch[-1:], fixed - size, axis=0)])
        values = run_session(self.session, made, {self.input_name: fed}, self.path) if made else []
        result = {
            name: value[:size] if value.ndim and len(value) == len(fed) else value
            for name, value in zip(made, values, strict=True)
        }
        if self.input_name in self.outputs:
            result[self.input_name] = batch
        return result


def run_batches(
    model: onnx.ModelProto,
    batches: Iterable[Batch],
    outputs: Sequence[str] | None = None,
    threads: int | None = None,
) -> Iterator[dict[str, NDArray[Any]]]:
    """Runs every batch and yields the requested tensors; see `TensorSession`."""
    session = TensorSession(model, outputs, threads)
    for batch in batches:
        yield session.run(batch.array)


def _with_outputs(model: onnx.ModelProto, outputs: Sequence[str]) -> bytes:
    changed = copy_model(model)
    del changed.graph.output[:]
    inputs = {value.name for value in model.graph.input}
    own = {value.name: value for value in model.graph.output}
    for name in outputs:
        if name not in inputs:
            # A name alone is enough: ONNX Runtime infers the type.
            changed.graph.output.append(own.get(name, onnx.ValueInfoProto(name=name)))
    if not changed.graph.output:
        changed.graph.output.extend(own.values())
    data: bytes = changed.SerializeToString()
    return data


def open_session(model: bytes, threads: int | None = None, path: str = "model") -> onnxruntime.InferenceSession:
    """Opens ONNX Runtime on the CPU, without warnings, and without keeping memory from batch to batch.

    Args:
        model: The model, serialised.
        threads: Threads of the computation; None uses one per core.
        path: The model's file, for error messages.

    Raises:
        BadModelError: ONNX Runtime cannot run the model.
    """
    try:
        return start_exact(model, lambda: _options(threads), ["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise BadModelError(path, f"ONNX Runtime cannot run it: {first_line(error)}") from error


def run_session(
    session: onnxruntime.InferenceSession, outputs: Sequence[str], fed: Mapping[str, NDArray[Any]], path: str = "model"
) -> list[NDArray[Any]]:
    """The values of `outputs` for one batch.

    Raises:
        BadModelError: ONNX Runtime rejects the batch.
    """
    try:
        values: list[NDArray[Any]] = session.run(list(outputs), dict(fed))
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise BadModelError(path, f"ONNX Runtime fails on a batch of images: {first_line(error)}") from error
    return values


def _options(threads: int | None) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    if threads is not None:
        options.intra_op_num_threads = threads
    # The arena keeps every buffer that it ever allocated; without it memory stays at what one batch needs.
    options.enable_cpu_mem_arena = False
    # Q/DQ pairs are computed as they are written, in float: fused into integer kernels they would round differently on
    # different processors.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options
