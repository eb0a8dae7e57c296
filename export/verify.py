"""Checks that a graph still computes the same as its source: runs both in ONNX Runtime on the same images.

The comparison handles the outputs that export can add after the logits (probabilities, top-k) and both kinds of input
(prepared floats, raw pixels), so a graph with any of them is compared with the reference's logits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from googlenet_deploy.device.predictions import PROBABILITIES, TOP_K_INDICES, TOP_K_VALUES, softmax
from googlenet_deploy.errors import BadModelError, VerificationError, requires
from googlenet_deploy.export.samples import Samples
from googlenet_deploy.graph.graph import runtime_inputs, serialize, shape_of
from googlenet_deploy.graph.session import open_session, run_session

with requires("export"):
    import numpy as np
    import numpy.typing as npt
    import onnxruntime
    from onnx import ModelProto, TensorProto

Outputs = dict[str, npt.NDArray[np.generic]]
Floats = npt.NDArray[np.float64]

ABSOLUTE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Comparison:
    """How far a graph's outputs are from the expected ones.

    Attributes:
        against: What they were compared with.
        largest: Largest absolute difference over all outputs and images; infinite if a value is not finite.
        tolerance: The largest difference allowed; see `tolerance_for`.
        agreeing: Number of images for which both return the same best class.
        count: Images compared.
        ties: Disagreeing images whose two classes differ by no more than the difference explains.
        origin: The images.
    """

    against: str
    largest: float
    tolerance: float
    agreeing: int
    count: int
    ties: int
    origin: str

    @property
    def holds(self) -> bool:
        """Whether the difference is within the tolerance and no image changes its class, ties aside."""
        return self.largest <= self.tolerance and self.agreeing + self.ties == self.count

    @property
    def bound(self) -> float:
        """`largest`, rounded up to 1, 2 or 5 times a power of ten: the figure that is stored."""
        return round_up(self.largest)

    def sentence(self) -> str:
        """One human-readable line."""
        ties = f", {self.ties} tied" if self.ties else ""
        return (
            f"largest difference {self.largest:.1e} (allowed {self.tolerance:.1e}), same class for "
            f"{self.agreeing} of {self.count}{ties}, on {self.origin}"
        )


class Reference:
    """The outputs that a model must reproduce on given images.

    Args:
        samples: The images.
        outputs: The outputs by name; arrays whose first dimension is the batch.
        scores: Name of the output that holds one score per class, from which probabilities and top-k follow; None
            without such an output.
        relative: How far outputs may be off, as a share of the largest; 0 for models that compute in float32.
    """

    def __init__(self, samples: Samples, outputs: Outputs, scores: str | None, relative: float = 0.0) -> None:
        self.samples, self.outputs, self.scores, self.relative = samples, outputs, scores, relative

    def with_tolerance(self, relative: float) -> Reference:
        """The same reference for models that compute in fewer bits."""
        return Reference(self.samples, self.outputs, self.scores, relative)

    def compare(self, model: ModelProto, against: str) -> Comparison:
        """Runs `model` and compares all of its outputs.

        Raises:
            VerificationError: The model does not run, or has an output that is not in the reference.
        """
        return self.compare_outputs(run(model, self.samples), against)

    def compare_outputs(self, outputs: Mapping[str, npt.NDArray[np.generic]], against: str) -> Comparison:
        """Compares outputs that were computed elsewhere; see `compare`."""
        largest, tolerance = 0.0, math.inf
        for name, values in outputs.items():
            wanted = self._expected(name, outputs)
            by_score = name == TOP_K_INDICES and name not in self.outputs
            got = self._scores_at(values, outputs) if by_score else values.astype(np.float64)
            if got.shape != wanted.shape:
                raise VerificationError(f"output {name} has shape {got.shape} instead of {wanted.shape}")
            largest = max(largest, largest_difference(got, wanted))
            tolerance = min(tolerance, tolerance_for(wanted, self.relative))
        agreeing, ties = self._agreement(outputs, largest)
        return Comparison(against, largest, tolerance, agreeing, self.samples.count, ties, self.samples.origin)

    def _expected(self, name: str, outputs: Mapping[str, npt.NDArray[np.generic]]) -> Floats:
        if name in self.outputs:
            return self.outputs[name].astype(np.float64)
        if self.scores is None or name not in (PROBABILITIES, TOP_K_VALUES, TOP_K_INDICES):
            raise VerificationError(f"nothing is known of the output {name}")
        if name == PROBABILITIES:
            return softmax(self._raw_scores())
        ordered = -np.sort(-self._ranked_scores(outputs), axis=1)
        return ordered[:, : outputs[name].shape[1]]

    def _raw_scores(self) -> Floats:
        assert self.scores is not None
        return self.outputs[self.scores].astype(np.float64)

    def _ranked_scores(self, outputs: Mapping[str, npt.NDArray[np.generic]]) -> Floats:
        """The values to take the top k from: the scores, or probabilities if the model returns probabilities."""
        scores = self._raw_scores()
        values = outputs.get(TOP_K_VALUES)
        if values is None or not len(values):
            return scores
        chances = softmax(scores)
        best = values[:, 0].astype(np.float64)
        near = [np.abs(kind.max(axis=1) - best).max() for kind in (scores, chances)]
        return scores if near[0] <= near[1] else chances

    def _scores_at(self, indices: npt.NDArray[np.generic], outputs: Mapping[str, npt.NDArray[np.generic]]) -> Floats:
        """The reference's scores of the classes that the model returns, so that equal scores may swap places."""
        scores = self._ranked_scores(outputs)
        positions = indices.astype(np.int64)
        if positions.size and (positions.min() < 0 or positions.max() >= scores.shape[1]):
            raise VerificationError(f"output {TOP_K_INDICES} names a class that does not exist")
        return np.take_along_axis(scores, positions, axis=1)

    def _agreement(self, outputs: Mapping[str, npt.NDArray[np.generic]], largest: float) -> tuple[int, int]:
        chosen = first_classes(outputs)
        if chosen is None or self.scores is None:
            return self.samples.count, 0
        scores = self._raw_scores()
        rows = np.arange(len(scores))
        best = scores.argmax(axis=1)
        same = chosen == best
        gap = scores[rows, best] - scores[rows, chosen]
        ties = ~same & (gap <= 2 * min(largest, tolerance_for(scores, self.relative)))
        return int(same.sum()), int(ties.sum())


def reference_of(model: ModelProto, samples: Samples) -> Reference:
    """Runs a model and keeps its outputs as the reference.

    Raises:
        VerificationError: The model does not run.
    """
    outputs = run(model, samples)
    return Reference(samples, outputs, scores_output(outputs))


def scores_output(outputs: Mapping[str, npt.NDArray[np.generic]]) -> str | None:
    """The one floating-point output of shape (N, classes); None if there is none or more than one."""
    names = [name for name, values in outputs.items() if values.ndim == 2 and values.dtype.kind == "f"]
    return names[0] if len(names) == 1 and TOP_K_VALUES not in names else None


def run(model: ModelProto, samples: Samples) -> Outputs:
    """Runs a model in ONNX Runtime on the CPU, with its own batch if that is fixed.

    Raises:
        VerificationError: ONNX Runtime does not load or run it, or its input is not a single image tensor.
    """
    session = _session(model)
    inputs = runtime_inputs(model.graph)
    if len(inputs) != 1:
        raise VerificationError(f"the model has {len(inputs)} inputs instead of one")
    shape = shape_of(inputs[0])
    is_uint8 = inputs[0].type.tensor_type.elem_type == TensorProto.UINT8
    ready = not is_uint8 or (samples.prepared.dtype == np.uint8 and samples.prepared.shape[1:] == tuple(shape[1:]))
    images: npt.NDArray[np.generic] = samples.prepared if ready else samples.pixels
    if not ready and len(shape) == 4 and shape[1] in (1, 3):
        images = np.ascontiguousarray(samples.pixels.transpose(0, 3, 1, 2))
    batch = shape[0] if shape else None
    size = batch if isinstance(batch, int) and batch > 0 else len(images)
    parts = [
        _run_batch(session, inputs[0].name, images[start : start + size], size) for start in range(0, len(images), size)
    ]
    names = [output.name for output in session.get_outputs()]
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}


def _session(model: ModelProto) -> onnxruntime.InferenceSession:
    try:
        return open_session(serialize(model))
    except BadModelError as error:
        raise VerificationError(f"the model does not load: {error.problem}") from error


def _run_batch(
    session: onnxruntime.InferenceSession, name: str, images: npt.NDArray[np.generic], size: int
) -> list[npt.NDArray[np.generic]]:
    """Runs one batch; a smaller last batch is padded with its first image, and the padding's results are dropped."""
    count = len(images)
    if count < size:
        images = np.concatenate([images, np.repeat(images[:1], size - count, axis=0)])
    try:
        results = run_session(session, [output.name for output in session.get_outputs()], {name: images})
    except BadModelError as error:
        raise VerificationError(f"the model does not run: {error.problem}") from error
    return [np.atleast_1d(np.asarray(result))[:count] for result in results]


def first_classes(outputs: Mapping[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.int64] | None:
    """The best class of each image by a model's outputs, int64 (N,); None if its outputs do not contain it."""
    if TOP_K_INDICES in outputs:
        return outputs[TOP_K_INDICES][:, 0].astype(np.int64)
    name = scores_output(outputs)
    return None if name is None else outputs[name].argmax(axis=1).astype(np.int64)


def largest_difference(first: Floats, second: Floats) -> float:
    """Largest absolute difference; infinite if either holds a value that is not finite."""
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return math.inf
    return float(np.abs(first - second).max()) if first.size else 0.0


def tolerance_for(wanted: Floats, relative: float = 0.0) -> float:
    """How far outputs may be from `wanted`: 1e-4 for logits of the usual size.

    Single precision yields logits of magnitude 10 to about 1e-5 after sixty layers. For values below 1, probabilities
    among them, the limit is 1e-4 of the largest; above 50 the rounding of float32 itself dominates, at 2e-6 of it.
    """
    magnitude = float(np.abs(wanted).max()) if wanted.size else 0.0
    single = ABSOLUTE_TOLERANCE * min(1.0, magnitude) if magnitude <= 50.0 else 2e-6 * magnitude
    return max(single, relative * magnitude)


def round_up(value: float) -> float:
    """The smallest 1, 2 or 5 times a power of ten that is not below `value`; 0 stays 0."""
    if value <= 0 or not math.isfinite(value):
        return value
    power = 10.0 ** math.floor(math.log10(value))
    steps: Iterable[int] = (1, 2, 5, 10)
    return float(f"{next(step * power for step in steps if step * power >= value * (1 - 1e-12)):.0e}")
