"""The interface of every runner, whatever executes the model."""

from __future__ import annotations

import time
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    Type,
    runtime_checkable,
)

import numpy as np

from googlenet_deploy.device.text import sizes_text
from googlenet_deploy.errors import BadModelError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.onnx_model.metadata import ModelMetadata


IMAGE_DIMENSIONS = 4


# Images are prepared as float32 or uint8; runners round or widen float32 to these types of input.
_PREPARED_AS = {"float16": "float32", "float64": "float32"}


class TensorSpec(NamedTuple):
    """A model's input or output; a dimension that may vary is None. `dtype` is NumPy's name."""

    name: str
    shape: Tuple[Optional[int], ...]
    dtype: str


class Runner(Protocol):
    """A model that is ready to run; a context manager that frees everything on exit.

    Attributes:
        backend: Human-readable name of what executes the model: "ONNX Runtime 1.32.0 (CPU)".
        device: "CPU", "GPU" or "DLA": the device whose clocks, memory and power are measured.
        path: The model's file.
        input: The one image input.
        outputs: All outputs.
        metadata: The model's own metadata.
        batch_range: Smallest and largest batch that `run` accepts; the largest is None if there is no limit.
        notes: Notes for the user: fallbacks, and how answers may differ. The list may grow while the model runs.
    """

    backend: str
    device: str
    path: str
    input: TensorSpec
    outputs: Tuple[TensorSpec, ...]
    metadata: ModelMetadata
    batch_range: Tuple[int, Optional[int]]
    notes: List[str]

    def run(self, batch: NDArray[np.generic]) -> Dict[str, NDArray[np.generic]]:
        """Outputs by name for one batch of the input's shape and dtype."""
        ...

    def __enter__(self) -> Runner:
        """The runner itself."""
        ...

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """Frees everything."""
        ...


class ScopedTimes(NamedTuple):
    """Seconds that one run spent in each scope.

    Attributes:
        copy_in: Input from host to device memory; None without a copy (CPU, zero-copy memory).
        compute: The network alone: on the GPU by CUDA events, on a CPU by the host's clock.
        copy_out: Outputs from device to host memory; None without a copy.
    """

    copy_in: Optional[float]
    compute: float
    copy_out: Optional[float]


@runtime_checkable
class TimedRun(Protocol):
    """A runner that can time its scopes separately has this method; the function `run_timed` handles all others."""

    def run_timed(self, batch: NDArray[np.generic]) -> Tuple[Dict[str, NDArray[np.generic]], ScopedTimes]:
        """Returns what `Runner.run` returns, and the seconds of each scope."""
        ...


def run_timed(
    runner: Runner, batch: NDArray[np.generic], clock: Callable[[], float] = time.perf_counter
) -> Tuple[Dict[str, NDArray[np.generic]], ScopedTimes]:
    """Runs one batch and measures how long each scope took.

    A runner with its own `run_timed` method (see `TimedRun`) measures itself; for all others the whole of `run` counts
    as compute.

    Args:
        runner: The model.
        batch: As for `Runner.run`.
        clock: Returns seconds; used for runners that cannot time themselves.
    """
    if isinstance(runner, TimedRun):
        return runner.run_timed(batch)
    start = clock()
    outputs = runner.run(batch)
    return outputs, ScopedTimes(None, clock() - start, None)


def fixed_batch(runner: Runner) -> Optional[int]:
    """The model's fixed batch size; None if it may vary."""
    return runner.input.shape[0]


def batch_range(input_spec: TensorSpec) -> Tuple[int, Optional[int]]:
    """Smallest and largest batch that the shape of a model's input allows."""
    size = input_spec.shape[0]
    return (1, None) if size is None else (size, size)


def image_input(inputs: Sequence[TensorSpec], path: str) -> TensorSpec:
    """The one image input of a classifier.

    Raises:
        BadModelError: There is not exactly one input, or it is not an image input.
    """
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise BadModelError(path, f"an image classifier has one input, this model has {len(inputs)}: {names}")
    shape = inputs[0].shape
    if len(shape) != IMAGE_DIMENSIONS or any(size is not None and size < 1 for size in shape):
        raise BadModelError(path, f"its input {inputs[0].name} does not accept images: it has the shape {shape}")
    return inputs[0]


def as_input(batch: NDArray[np.generic], model: TensorSpec) -> NDArray[np.generic]:
    """Prepared images in the type of a model's input: float32 rounded to float16 or widened to float64."""
    return batch.astype(model.dtype) if batch.dtype.name == _PREPARED_AS.get(model.dtype) else batch


def run_any_batch(runner: Runner, batch: NDArray[np.generic]) -> Dict[str, NDArray[np.generic]]:
    """Runs a batch of any size in parts that the model accepts; the last part is zero-padded if necessary.

    Returns:
        The outputs with one row per image, by name.

    Raises:
        UsageError: The images do not fit the model's input.
        BadModelError: No output has one row per image.
    """
    check_shape(runner, batch)
    smallest, largest = runner.batch_range
    if smallest <= len(batch) and (largest is None or len(batch) <= largest):
        return by_image(runner, runner.run(batch), len(batch))
    parts = []
    for start in range(0, len(batch), largest or len(batch)):
        part = batch[start : start + largest] if largest else batch
        missing = max(0, smallest - len(part))
        padding = np.zeros((missing, *batch.shape[1:]), batch.dtype)
        filled = np.concatenate([part, padding]) if missing else part
        outputs = by_image(runner, runner.run(filled), len(filled))
        parts.append({name: value[: len(part)] for name, value in outputs.items()})
    return concatenate(parts)


def concatenate(parts: Sequence[Dict[str, NDArray[np.generic]]]) -> Dict[str, NDArray[np.generic]]:
    """Concatenates the outputs of several batches; a scalar, which has no row per image, stays the first batch's."""
    return {
        name: np.concatenate([part[name] for part in parts]) if first.ndim else first
        for name, first in parts[0].items()
    }


def by_image(runner: Runner, outputs: Dict[str, NDArray[np.generic]], count: int) -> Dict[str, NDArray[np.generic]]:
    """Returns the outputs of one run that have one row per image, by name.

    A model with a batch of one may omit the batch dimension in its outputs: if no output has a row per image,
    one-dimensional outputs are taken as the row of that image, and (classes,) becomes (1, classes). If another output
    has rows, or the batch size varies, a one-dimensional output is a constant.

    Args:
        runner: The runner.
        outputs: Its outputs.
        count: Number of images in the run.

    Raises:
        BadModelError: No output has one row per image.
    """
    found = {name: value for name, value in outputs.items() if value.ndim and len(value) == count}
    if not found and count == fixed_batch(runner) == 1:
        found = {name: value[np.newaxis] for name, value in outputs.items() if value.ndim == 1}
    if not found:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in outputs.items())
        raise BadModelError(runner.path, f"no output has one row for each image of a batch of {count}: {shapes}")
    return found


def check_shape(runner: Runner, batch: NDArray[np.generic]) -> None:
    """Rejects a batch that does not fit the model's input; float32 also fits float16 and float64.

    Raises:
        UsageError: It does not.
    """
    wanted = runner.input.shape
    fits = len(wanted) == batch.ndim and all(
        size is None or size == given for size, given in zip(wanted[1:], batch.shape[1:])
    )
    if not fits or batch.dtype.name not in (runner.input.dtype, _PREPARED_AS.get(runner.input.dtype)):
        raise UsageError(
            f"{runner.path}: accepts images as {runner.input.dtype} ({sizes_text(wanted[1:])}), "
            f"but they were prepared as {batch.dtype} {batch.shape[1:]}",
            "pass the model's own --crop, --layout and --dtype",
        )
