"""Finds the class scores of a classifier, by which two models are compared.

A model may have several outputs: label and probabilities, features and logits, several heads. As in `infer`, outputs
named ``logits`` or ``probabilities`` are the scores; without them, every float output with one value per class is one.
If an output only reads out scores (Softmax, TopK or ArgMax), the tensor before it is compared instead, since a softmax
hides what happens to small probabilities and a TopK's best value is always its first. An output from which another
output is computed is a feature, not a score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from googlenet_deploy.device.predictions import LOGITS, PROBABILITIES
from googlenet_deploy.errors import BadModelError
from googlenet_deploy.graph.graph import SHAPE_OPERATORS, GraphView, all_inputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from onnx import NodeProto

# Operators whose result depends only on the scores that they read, in the same order of classes or none.
READOUTS = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "TopK", "ArgMax"})
CARRIERS = SHAPE_OPERATORS - {"Transpose"} | {"Cast"}
REMEDY = "pass --check-images 0 to quantise it without a comparison"


@dataclass(frozen=True)
class ScoreOutput:
    """An output with class scores.

    Attributes:
        output: Its name.
        tensor: The tensor that is compared: the output itself, or the one that its softmax, TopK or ArgMax reads.
        readout: The operator between the two; empty if they are the same tensor.
    """

    output: str
    tensor: str
    readout: str = ""

    def describe(self, measured: str) -> str:
        """What a signal-to-noise ratio is measured on: ``logit``, or ``logit (before Softmax)``."""
        return f"{measured} (before {self.readout})" if self.readout else measured


def candidates(graph: GraphView) -> list[ScoreOutput]:
    """Every output of a model with the tensor that it would be compared by, in order."""
    return [_behind_readout(graph, name) for name in graph.outputs]


def find_score_outputs(
    graph: GraphView, found: Iterable[ScoreOutput], values: Mapping[str, NDArray[Any]], *, strict: bool = True
) -> Sequence[ScoreOutput]:
    """The class scores among the candidates, at least one, starting with the one that `infer` shows.

    Args:
        graph: The model.
        found: Its candidates.
        values: Their tensors for a batch of images.
        strict: Refuse a model without class scores; otherwise any numbers it has for each image are returned.

    Raises:
        BadModelError: No output holds class scores.
    """
    listed = list(found)
    named = [each for each in listed if each.output in (LOGITS, PROBABILITIES)]
    scores = [each for each in named or listed if _has_scores(values[each.tensor])]
    distinct = list({each.tensor: each for each in reversed(scores)}.values())[::-1]
    kept = [each for each in distinct if not _is_feature(graph, each, distinct)]
    if not kept and not strict:
        return [ScoreOutput(each.output, each.output) for each in listed if _is_comparable(values.get(each.output))]
    if not kept:
        shapes = ", ".join(f"{each.tensor} {values[each.tensor].shape}" for each in listed)
        raise BadModelError(graph.path, f"none of its outputs has one score per class: {shapes}", REMEDY)
    return kept


def as_scores(values: NDArray[Any]) -> NDArray[np.float32]:
    """A batch's scores as float32 (N, classes)."""
    return np.asarray(values, np.float32).reshape(len(values), -1)


def _behind_readout(graph: GraphView, output: str) -> ScoreOutput:
    """Follows an output to what its last readout reads, through operators that change shape, type or unit alone."""
    best, name = ScoreOutput(output, output), output
    while (node := graph.producers.get(name)) is not None and (
        node.op_type in READOUTS | CARRIERS or _is_change_of_unit(graph, node)
    ):
        name = node.input[node.op_type == "Mul" and graph.is_constant(node.input[0])]
        if node.op_type in READOUTS and name not in graph.initializers:
            best = ScoreOutput(output, name, node.op_type)
    return best


def _is_change_of_unit(graph: GraphView, node: NodeProto) -> bool:
    """Whether a node multiplies or divides by one positive number, as from shares to percent."""
    factors = [value for name in node.input if (value := graph.find_constant(name)) is not None]
    first_computed = not graph.is_constant(node.input[0])
    return (
        (node.op_type == "Mul" or (node.op_type == "Div" and first_computed))
        and len(factors) == 1
        and factors[0].size == 1
        and bool(factors[0] > 0)
    )


def _has_scores(values: NDArray[Any]) -> bool:
    """(N, classes), or (N, classes, 1, 1) of networks whose classifier is a convolution; two classes or more."""
    wide = [size for size in values.shape[1:] if size != 1]
    return len(wide) == 1 and np.issubdtype(values.dtype, np.floating)


def _is_comparable(values: NDArray[Any] | None) -> bool:
    return values is not None and values.ndim > 0 and np.issubdtype(values.dtype, np.floating)


def _is_feature(graph: GraphView, each: ScoreOutput, others: Iterable[ScoreOutput]) -> bool:
    return any(other.tensor != each.tensor and _depends(graph, other.tensor, each.tensor) for other in others)


def _depends(graph: GraphView, name: str, source: str) -> bool:
    """Whether a tensor is computed from another."""
    seen, open_names = set[str](), [name]
    while open_names:
        current = open_names.pop()
        if current == source:
            return True
        node = graph.producers.get(current)
        if node is not None and current not in seen:
            seen.add(current)
            open_names += all_inputs(node)
    return False
