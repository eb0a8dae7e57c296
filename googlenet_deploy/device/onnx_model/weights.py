"""Weights and other numbers of a model, checked before anything computes with them.

Engines disagree on numbers with which float32 arithmetic overflows: some return NaN, in others Relu or a maximum turns
the NaN into 0 or skips it, and the scores look like any others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Iterator, Sequence

import numpy as np

from googlenet_deploy.device.onnx_model.checks import all_tensors
from googlenet_deploy.device.onnx_model.messages import Graph, Model, NodeMessage, TensorMessage, values_of
from googlenet_deploy.device.text import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The square of such a number is beyond float32's range (3.4e38). Trained weights are far below, even after BatchNorm
# with a variance near 0 was folded into them.
LARGEST_WEIGHT = 1e19
_FLOATS = (1, 10, 11, 16)  # float32, float16, float64, bfloat16
# Operators that multiply or add up, with their inputs that are numbers to compute with. Masks that are infinite on
# purpose are read by others (Add, Where, Clip, Pad).
_READ = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "BatchNormalization": (1, 2, 3, 4),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "PRelu": (1,),
}
# Operators whose result has the numbers of their first input.
_PASSED_ON = ("Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Slice", "Expand")
_VARIANCE = 4
_FACTORS = ("alpha", "beta", "gamma", "epsilon", "bias", "lambd", "scale")


def check_numbers(model: Model) -> None:
    """Rejects numbers with which engines return different scores, or scores that only look sound.

    These are NaN anywhere; weights and biases that are infinite or at least `LARGEST_WEIGHT`; infinite factors in
    attributes, such as LRN's alpha; and a BatchNormalization variance without a square root.

    Raises:
        ValueError: There is one; the message names the constant or the node.
    """
    graphs = [function.body for function in model.functions] + ([] if model.graph is None else [model.graph])
    for graph in graphs:
        largest = {id(tensor): _largest(tensor) for tensor in all_tensors(graph)}
        for tensor in all_tensors(graph):
            if np.isnan(largest[id(tensor)]):
                raise ValueError(f"the constant {printable(tensor.name)} contains values that are not numbers (NaN)")
        problem = next(_problems(graph, {}, largest), "")
        if problem:
            raise ValueError(problem)


def hand_on(node: NodeMessage, sources: Dict[str, TensorMessage], operators: Sequence[str]) -> None:
    """Notes what a node makes of constants: its own if it is a Constant, its first input's if it is one of `operators`.

    A node of a branch may call its output like a tensor outside, which it hides from then on; so names are resolved in
    the graph's order, never by going back from node to node.
    """
    found = sources.get(node.inputs[0]) if node.operator in operators and node.inputs else None
    if node.operator == "Constant":
        found = next((item.tensors[0] for item in node.attributes if item.tensors), None)
    for name in node.outputs:
        sources.pop(name, None)
    if found is not None:
        sources[node.outputs[0]] = found


def _largest(tensor: TensorMessage) -> float:
    """The largest magnitude; NaN if there is a NaN, 0 if the tensor is empty or of integers."""
    values = values_of(tensor) if tensor.data_type in _FLOATS else None
    if values is None or not values.size:
        return 0.0
    return float(max(abs(float(values.max())), abs(float(values.min()))))


def _problems(graph: Graph, outer: Dict[str, TensorMessage], largest: Dict[int, float]) -> Iterator[str]:
    sources = {**outer, **{tensor.name: tensor for tensor in graph.initializers}}
    for node in graph.nodes:
        yield from _node_problems(node, sources, largest)
        for attribute in node.attributes:
            for inner in attribute.graphs:
                yield from _problems(inner, sources, largest)
        hand_on(node, sources, _PASSED_ON)


def _node_problems(node: NodeMessage, sources: Dict[str, TensorMessage], largest: Dict[int, float]) -> Iterator[str]:
    label = printable(node.label)
    for index in _READ.get(node.operator, ()):
        tensor = sources.get(node.inputs[index]) if index < len(node.inputs) else None
        if tensor is not None and largest[id(tensor)] >= LARGEST_WEIGHT:
            name, value = printable(tensor.name), largest[id(tensor)]
            yield f"node {label}: its constant {name} has a value of {value:.1e}; no weight is as large"
    for attribute in node.attributes:
        if attribute.name in _FACTORS and ":" not in node.operator and not np.isfinite(attribute.number):
            yield f"node {label}: its {attribute.name} is not a finite number"
    if node.operator == "BatchNormalization" and len(node.inputs) > _VARIANCE:  # not a function of that name
        yield from _variance_problem(node, sources)


def _variance_problem(node: NodeMessage, sources: Dict[str, TensorMessage]) -> Iterator[str]:
    tensor = sources.get(node.inputs[_VARIANCE])
    variance = None if tensor is None else values_of(tensor)
    stated = node.attribute("epsilon")
    epsilon = 1e-5 if stated is None else stated.number
    if tensor is not None and variance is not None and _is_negative(variance, epsilon):
        yield f"node {printable(node.label)}: its variance {printable(tensor.name)} is negative"


def _is_negative(variance: NDArray[np.generic], epsilon: float) -> bool:
    return bool((variance.astype(np.float64) + epsilon < 0).any())
