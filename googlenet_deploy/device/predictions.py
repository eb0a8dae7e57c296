"""From a network's outputs to classes with probabilities, whatever the form of the outputs.

Models end at the logits, after a softmax, or after TopK (`export --top-k`). The toolkit's own outputs are distinguished
by their names, those of other models by their values, so that no softmax is applied twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, NamedTuple, Optional, Sequence, TypeVar

import numpy as np

from googlenet_deploy.device.labels import count_mismatch
from googlenet_deploy.errors import BadModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOGITS, PROBABILITIES = "logits", "probabilities"
TOP_K_VALUES, TOP_K_INDICES = "top_k_values", "top_k_indices"
Floating = TypeVar("Floating", np.float32, np.float64)
SUM_TOLERANCE = 1e-2  # FP16 probabilities of a thousand classes sum to 1 within this


class Predictions(NamedTuple):
    """The best classes of each image of a batch, best first.

    Attributes:
        indices: (N, k) class indices, int64.
        probabilities: (N, k), float32; None if the model returns only scores after its own TopK.
        scores: (N, k), the model's outputs: logits or probabilities.
    """

    indices: NDArray[np.int64]
    probabilities: Optional[NDArray[np.float32]]
    scores: NDArray[np.float32]


def predict(outputs: Dict[str, NDArray[np.generic]], k: int, path: str) -> Predictions:
    """The `k` best classes of each image; fewer if the model has, or returns, fewer.

    Raises:
        BadModelError: No output looks like that of a classifier, or the values are not numbers.
    """
    if TOP_K_INDICES in outputs and TOP_K_VALUES in outputs:
        return _from_top_k(outputs[TOP_K_INDICES], outputs[TOP_K_VALUES], k, path)
    scores = class_scores(outputs, path)
    indices = top_indices(scores, k)
    probabilities = scores if is_probability(scores) else softmax(scores)
    return Predictions(indices, np.take_along_axis(probabilities, indices, 1), np.take_along_axis(scores, indices, 1))


def class_scores(outputs: Dict[str, NDArray[np.generic]], path: str) -> NDArray[np.float32]:
    """Logits or probabilities of every class: float32 (N, classes).

    Raises:
        BadModelError: No output looks like that of a classifier, or the values are not numbers.
    """
    named = [outputs[name] for name in (LOGITS, PROBABILITIES) if name in outputs]
    for value in named or outputs.values():
        # (N, classes), or (N, classes, 1, 1) of networks whose classifier is a convolution.
        if len([size for size in value.shape[1:] if size != 1]) == 1 and np.issubdtype(value.dtype, np.floating):
            scores = value.reshape(len(value), -1).astype(np.float32)
            _check_finite(scores, path)
            return scores
    shapes = ", ".join(f"{name} {value.shape}" for name, value in outputs.items())
    raise BadModelError(path, f"no output looks like that of a classifier: {shapes}")


def _from_top_k(indices: NDArray[np.generic], values: NDArray[np.generic], k: int, path: str) -> Predictions:
    """The outputs of the model's own TopK."""
    if indices.ndim != 2 or values.shape != indices.shape or not np.issubdtype(indices.dtype, np.integer):
        raise BadModelError(path, f"its top-k outputs do not fit each other: {values.shape} and {indices.shape}")
    best, scores = indices[:, :k].astype(np.int64), values[:, :k].astype(np.float32)
    if (best < 0).any():
        raise BadModelError(path, "its top-k output names a class below 0")
    _check_finite(scores, path)
    return Predictions(best, scores if _within_unit(scores) else None, scores)


def _check_finite(scores: NDArray[np.float32], path: str) -> None:
    if not np.isfinite(scores).all():
        raise BadModelError(path, "its outputs are not finite numbers")


def top_indices(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """(N, k) indices of the largest scores, best first; for equal scores the smaller index first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int64)


def is_probability(scores: NDArray[np.float32]) -> bool:
    """Whether every row is a distribution already: values from 0 to 1 that sum to 1."""
    return _within_unit(scores) and bool(np.all(np.abs(scores.sum(axis=1) - 1) < SUM_TOLERANCE))


def softmax(logits: NDArray[Floating]) -> NDArray[Floating]:
    """Softmax over the last axis in the logits' own precision, shifted by the maximum so that it never overflows."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), logits.dtype)


def _within_unit(values: NDArray[np.float32]) -> bool:
    return bool(np.all((values >= 0) & (values <= 1 + SUM_TOLERANCE)))


def check_names(outputs: Dict[str, NDArray[np.generic]], names: Sequence[str], path: str) -> None:
    """Rejects names that do not fit the model's classes, whose number is unknown after the model's own TopK.

    Raises:
        BadModelError: There are names, but not one per class.
    """
    if not names or TOP_K_INDICES in outputs:
        return
    count = class_scores(outputs, path).shape[1]
    if count != len(names):
        what = f"has {count} classes, but there are {len(names)} class names"
        raise BadModelError(path, what, count_mismatch(count, names))
