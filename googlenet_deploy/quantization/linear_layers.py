"""Weights and biases of the layers that run in INT8, as the graph holds them now.

A plan names constants as they were when it was made; refinements replace them, so everything that changes or measures
a layer reads them from its node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from googlenet_deploy.graph.graph import GraphView, attribute

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)
WEIGHT, BIAS = 1, 2  # positions among a layer's inputs


def outputs_first(node: onnx.NodeProto, weight: NDArray[Scalar]) -> NDArray[Scalar]:
    """Swaps axes so that output channels come first and input channels second; applied again, it swaps them back."""
    if node.op_type in ("MatMul", "ConvTranspose") or (node.op_type == "Gemm" and not attribute(node, "transB", 0)):
        return np.swapaxes(weight, 0, 1)
    return weight


def read_weight(graph: GraphView, name: str) -> NDArray[np.float32]:
    """A layer's weights, float32, in their stored shape."""
    return graph.constant(graph.node(name).input[WEIGHT]).astype(np.float32)


def read_bias(graph: GraphView, name: str) -> NDArray[np.float32]:
    """A layer's bias, float32 (outputs,); zeros if it has none.

    Raises:
        ValueError: It does not have one value per output; see `has_plain_bias`.
    """
    node = graph.node(name)
    count = outputs_first(node, graph.constant(node.input[WEIGHT])).shape[0]
    place = find_bias(graph, node)
    if place is None:
        return np.zeros(count, np.float32)
    holder, position = place
    stored = graph.constant(holder.input[position]).astype(np.float32).reshape(-1)
    bias: NDArray[np.float32] = np.broadcast_to(stored, (count,)).copy()
    return bias


def find_bias(graph: GraphView, node: onnx.NodeProto) -> tuple[onnx.NodeProto, int] | None:
    """The node that holds a layer's bias, and the position of the bias; None if there is no bias.

    A MatMul has no bias input: its bias is the constant of the Add that is the only reader of its output.
    """
    if node.op_type != "MatMul":
        return (node, BIAS) if len(node.input) > BIAS and node.input[BIAS] else None
    readers = graph.readers(node.output[0])
    if len(readers) != 1 or readers[0].op_type != "Add" or node.output[0] in graph.outputs:
        return None
    count = graph.constant(node.input[WEIGHT]).shape[-1]
    for position, name in enumerate(readers[0].input):
        if graph.is_constant(name):
            value = graph.constant(name)
            if value.ndim and value.shape[-1] == value.size == count:
                return readers[0], position
    return None


def may_have_bias(graph: GraphView, node: onnx.NodeProto) -> bool:
    """Whether a layer can be given a bias of one constant per output."""
    place = find_bias(graph, node)
    if place is None:
        return node.op_type != "MatMul"
    holder, position = place
    count = outputs_first(node, graph.constant(node.input[WEIGHT])).shape[0]
    name = holder.input[position]
    return graph.is_constant(name) and graph.constant(name).size in (1, count)
