"""Finds where a network can turn finite values into NaN, and lets it report that it did.

Kernels for CPUs and GPUs compute ReLU as a maximum, which turns NaN into 0: the scores after it look sound. ONNX
Runtime propagates NaN; for other runners each dangerous tensor gets an output that is above 0 if it contains NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Set, Tuple

import numpy as np

from googlenet_deploy.device.onnx_model.edit import EditableGraph, EditableNode, node
from googlenet_deploy.device.onnx_model.messages import values_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Operators that make NaN of some finite values, whatever the signs of their inputs.
_ALWAYS = ("Acos", "Acosh", "Asin", "Atanh", "Mod")
# All that can make NaN: a model without any of them need not be looked at.
DANGEROUS = frozenset((*_ALWAYS, "Div", "Log", "Pow", "Sqrt"))
# Operators that pass the sign of all values of their first input on.
_KEEPS_SIGN = (
    "AveragePool", "Cast", "Expand", "Flatten", "Gather", "GlobalAveragePool", "GlobalMaxPool", "Identity", "MaxPool",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Reshape", "Slice", "Split", "Sqrt", "Squeeze", "Tile",
    "Transpose", "Unsqueeze",
)  # fmt: skip
_NEVER_NEGATIVE = (
    "Abs", "Exp", "HardSigmoid", "ReduceL1", "ReduceL2", "ReduceSumSquare", "Relu", "Sigmoid", "Softmax", "Softplus",
)  # fmt: skip
# By operator, how the lowest values of its inputs, where all are known, lead to that of its output.
_JOINED: Dict[str, Callable[[List[int]], int]] = {
    "Add": max, "Concat": min, "Div": min, "Min": min, "Mul": min, "Sum": max,
}  # fmt: skip
_FLOAT = 1  # in TensorProto.DataType
_FIRST_OPSET = 9  # of IsNaN


def watch_nan(content: bytes) -> Tuple[bytes, List[str]]:
    """Adds an output for each tensor that can become NaN although what it is computed from is finite.

    Args:
        content: An ONNX model.

    Returns:
        The model, and the tensors in the order of the added outputs, which are scalars; or the same bytes and none.

    Raises:
        ValueError: The model is damaged.
    """
    graph = EditableGraph(content)
    signs = _Signs(graph)
    watched = [item.outputs[0] for item in graph.nodes if item.outputs and signs.is_dangerous(item)]
    if not watched or graph.opset < _FIRST_OPSET:
        return content, []
    for index, name in enumerate(watched):
        number, found, as_number, flag = (f"nan_watch/{index}/{part}" for part in ("float", "is_nan", "number", "any"))
        graph.nodes += [
            node("Cast", [name], [number], {"to": _FLOAT}),  # it may be an integer, such as a size
            node("IsNaN", [number], [found]),
            node("Cast", [found], [as_number], {"to": _FLOAT}),
            node("ReduceMax", [as_number], [flag], {"keepdims": 0}),
        ]
        graph.add_output(flag)
    return graph.serialize(), watched


class _Signs:
    """What the structure of a graph says about the signs of its tensors.

    Args:
        graph: The graph, whose nodes are in execution order.
    """

    def __init__(self, graph: EditableGraph) -> None:
        self._graph = graph
        self._inside: Dict[str, Optional[NDArray[np.generic]]] = {}  # constants that are nodes
        self._lowest: Dict[str, int] = {}  # 1: above 0, 0: never negative; absent: unknown
        self._sizes: Set[str] = set()  # integers computed from shapes
        for item in graph.nodes:
            if item.operator == "Constant":
                self._inside[item.outputs[0]] = _value(item)
            if item.operator in ("Shape", "Size") or self._is_of_sizes(item):
                self._sizes.update(item.outputs)
            sign = self._of(item)
            if sign is not None:
                self._lowest.update(dict.fromkeys(item.outputs, sign))

    def is_dangerous(self, item: EditableNode) -> bool:
        """Whether a node can make NaN of finite values."""
        if item.outputs[0] in self._sizes:
            return False
        if item.operator in _ALWAYS:
            return True
        if item.operator in ("Log", "Sqrt"):
            return self._sign(item.inputs[0]) is None
        if item.operator == "Div":
            return not (self._sign(item.inputs[1]) == 1 or self._is_nonzero_constant(item.inputs[1]))
        if item.operator == "Pow":
            return self._sign(item.inputs[0]) is None and not self._is_whole_constant(item.inputs[1])
        return False

    def _of(self, item: EditableNode) -> Optional[int]:
        signs = [self._sign(name) for name in item.inputs]
        if item.operator in _NEVER_NEGATIVE or self._is_square(item):
            return 0
        if item.operator in _KEEPS_SIGN:
            return signs[0]
        if item.operator in ("Max", "Clip"):
            lower = signs if item.operator == "Max" else signs[1:2]
            return max((sign for sign in lower if sign is not None), default=signs[0])
        known = [sign for sign in signs if sign is not None]
        join = _JOINED.get(item.operator)
        return join(known) if join is not None and len(known) == len(signs) else None

    def _is_square(self, item: EditableNode) -> bool:
        if item.operator == "Pow":
            return self._is_whole_constant(item.inputs[1], 2)
        return item.operator == "Mul" and item.inputs[0] == item.inputs[1]

    def _constant(self, name: str) -> Optional[NDArray[np.generic]]:
        """A constant of numbers; None if the tensor is none."""
        value = self._graph.constant(name)
        value = self._inside.get(name) if value is None else value
        return value if value is not None and value.dtype.kind in "fiu" and value.size else None

    def _is_of_sizes(self, item: EditableNode) -> bool:
        """Whether a node computes from sizes, and besides from constants at most."""
        others = [name for name in item.inputs if name and name not in self._sizes]
        constant = all(self._graph.is_constant(name) or name in self._inside for name in others)
        return constant and any(name in self._sizes for name in item.inputs)

    def _sign(self, name: str) -> Optional[int]:
        value = self._constant(name)
        if value is None:
            return self._lowest.get(name)
        lowest = np.min(value)
        return 1 if lowest > 0 else 0 if lowest == 0 else None

    def _is_nonzero_constant(self, name: str) -> bool:
        value = self._constant(name)
        return value is not None and bool(np.all(value != 0))

    def _is_whole_constant(self, name: str, step: int = 1) -> bool:
        """Whether all values are multiples of `step` and not negative."""
        value = self._constant(name)
        return value is not None and bool(np.all(np.greater_equal(value, 0) & (np.mod(value, step) == 0)))


def _value(item: EditableNode) -> Optional[NDArray[np.generic]]:
    """The value of a Constant node, if it is a tensor or a number."""
    part = next(iter(item.attributes()), None)
    if part is None:
        return None
    if part.tensors:
        return values_of(part.tensors[0])
    return np.array(part.number if part.name == "value_float" else part.integers)
