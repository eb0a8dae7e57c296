"""Writes the end of a classifier in the form that every TensorRT version handles best.

torch's exporter decomposes the adaptive average pool to ReduceMean and the flattening to Reshape with a computed
shape. GlobalAveragePool and Flatten compute the same without constants, keep the batch symbolic, and are what TensorRT
recognises as pooling in implicit and explicit INT8.
"""

from __future__ import annotations

from googlenet_deploy.errors import requires
from googlenet_deploy.graph.graph import GraphView, Shape, integer, integers, known_shapes

with requires("export"):
    from onnx import ModelProto, NodeProto, helper


class ClassifierHead:
    """ReduceMean over height and width becomes GlobalAveragePool, and the Reshape after it Flatten."""

    name = "classifier-head"
    description = "pooling and flattening as GlobalAveragePool and Flatten"
    optional = False

    def run(self, model: ModelProto) -> bool:
        """See the class."""
        view = GraphView(model)
        shapes = known_shapes(model)
        changed = False
        for node in model.graph.node:
            if node.op_type == "ReduceMean" and _is_spatial_mean(node, view, shapes):
                _rewrite(node, "GlobalAveragePool", {})
                changed = True
            elif node.op_type == "Reshape" and _is_flatten(node, view, shapes):
                _rewrite(node, "Flatten", {"axis": 1})
                changed = True
        return changed


class WindowedAveragePool:
    """GlobalAveragePool becomes AveragePool with the window that the input size needs.

    The DLA of a Jetson does not run GlobalAveragePool (NVIDIA's "Working with DLA"), and its pooling windows go up to
    8x8; a window as large as the feature map computes the same.
    """

    name = "average-pool"
    description = "GlobalAveragePool to AveragePool with a static window"
    optional = False

    def run(self, model: ModelProto) -> bool:
        """See the class."""
        shapes = known_shapes(model)
        changed = False
        for node in model.graph.node:
            if node.op_type == "GlobalAveragePool":
                window = shapes.get(node.input[0], [])[2:]
                if window and all(isinstance(size, int) for size in window):
                    _rewrite(node, "AveragePool", {"kernel_shape": window, "strides": [1] * len(window)})
                    changed = True
        return changed


def _is_spatial_mean(node: NodeProto, view: GraphView, shapes: dict[str, Shape]) -> bool:
    """Whether a ReduceMean averages over all but batch and channels, and keeps those dimensions."""
    rank = len(shapes.get(node.input[0], []))
    axes = integers(node, "axes", [])
    if len(node.input) > 1:
        constant = view.find_constant(node.input[1])
        axes = [] if constant is None else [int(axis) for axis in constant.reshape(-1)]
    spatial = list(range(2, rank))
    return rank > 2 and integer(node, "keepdims", 1) == 1 and sorted(axis % rank for axis in axes) == spatial


def _is_flatten(node: NodeProto, view: GraphView, shapes: dict[str, Shape]) -> bool:
    """Whether a Reshape takes (N, C, 1, 1) from a pooling to (N, C)."""
    producer = view.producers.get(node.input[0])
    pooled = producer is not None and producer.op_type in ("GlobalAveragePool", "ReduceMean", "AveragePool")
    before, after = shapes.get(node.input[0], []), shapes.get(node.output[0], [])
    # With C columns, and one value per channel, the rows can only be the batch, known or not.
    same_channels = len(after) == 2 and isinstance(after[1], int) and before[1:2] == after[1:]
    return pooled and same_channels and len(before) > 2 and set(before[2:]) == {1}


def _rewrite(node: NodeProto, operator: str, values: dict[str, object]) -> None:
    """Turns a node into another operator on the same first input; name, outputs and metadata stay."""
    node.op_type = operator
    del node.input[1:]
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in sorted(values.items()))
