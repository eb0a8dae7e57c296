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
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

# Largest difference of an image's values, relative to the tensor's largest, with which they count as the same: float
# kernels differ by batch by 1e-5, and a step of INT8 is 1/127.
SAME = 0.02
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


def require_independent_images(session: TensorSession, batch: NDArray[Any], values: Mapping[str, NDArray[Any]]) -> None:
    """Refuses a model that computes for an image something else if other images are in the batch.

    The first image runs again beside one of extreme values. Only tensors of the ranks of (N, C, H, W) and (N, features)
    are compared: the first axis of a transformer's tokens may have the length of the batch by coincidence.

    Args:
        session: The model.
        batch: Prepared images, (N, ...).
        values: What the session has computed from them.

    Raises:
        BadModelError: It does.
    """
    if len(batch) < 2:
        return
    beside = np.array(batch if session.fixed_batch else batch[:2])
    low, high = _extremes(batch)
    beside[1:] = high
    beside[1:, ..., ::4] = low
    again = session.run(beside)
    for name, value in values.items():
        other = again[name]
        if value.dtype.kind != "f" or value.ndim not in (2, 4) or (len(value), len(other)) != (len(batch), len(beside)):
            continue
        with np.errstate(invalid="ignore"):  # infinite values are reported where they are counted
            gap = np.abs(value[0].astype(np.float64) - other[0])
        if np.max(gap, initial=0.0) > SAME * np.max(np.abs(value), initial=0.0):
            raise BadModelError(
                session.path,
                f"what it computes for an image depends on the other images of the batch (in the tensor {name})",
                "export it with a batch of 1, or without the operator that computes across the batch",
            )


def _extremes(batch: NDArray[Any]) -> tuple[float, float]:
    """Values that no image reaches, or the ends of the range of 8-bit pixels."""
    if batch.dtype == np.uint8:
        return 0.0, 255.0
    beyond = 2.0 + 4.0 * float(np.max(np.abs(batch)))
    return -beyond, beyond


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
