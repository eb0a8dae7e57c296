"""Writes the classifier as a 1x1 convolution, which a Jetson's deep learning accelerator runs, unlike Gemm.

Flatten and Gemm on one value per channel are a 1x1 convolution and Flatten: the same products, in the same order.
"""

from __future__ import annotations

from googlenet_deploy.errors import requires
from googlenet_deploy.graph.edit import add_constant, replace_nodes, unique_name
from googlenet_deploy.graph.graph import GraphView, Shape, attribute, integer, known_shapes, tensor_names

with requires("export"):
    import numpy as np
    from onnx import ModelProto, NodeProto, helper


class ConvolutionalClassifier:
    """Turns Flatten, Gemm on maps of 1x1 into Conv, Flatten."""

    name = "convolutional-classifier"
    description = "Gemm after Flatten to a 1x1 convolution before it"
    optional = False

    def run(self, model: ModelProto) -> bool:
        """See the class."""
        graph = model.graph
        view, shapes = GraphView(model), known_shapes(model)
        pairs = [(flatten, gemm) for gemm in graph.node if (flatten := _flatten_of(gemm, view, shapes)) is not None]
        if not pairs:
            return False
        taken = tensor_names(graph)
        rewritten = {}
        for flatten, gemm in pairs:
            weights = view.constant(gemm.input[1])
            name = unique_name(f"{gemm.input[1]}/1x1", taken)
            values = np.ascontiguousarray(weights if _transposed(gemm) else weights.T)[:, :, None, None]
            add_constant(graph, values, name)
            scores = unique_name(f"{gemm.output[0]}/map", taken)
            inputs = [flatten.input[0], name, *gemm.input[2:]]
            rewritten[flatten.name] = helper.make_node("Conv", inputs, [scores], gemm.name, kernel_shape=[1, 1])
            rewritten[gemm.name] = helper.make_node("Flatten", [scores], [gemm.output[0]], flatten.name, axis=1)
        replace_nodes(graph, [rewritten.get(node.name, node) for node in graph.node])
        return True


def _flatten_of(gemm: NodeProto, view: GraphView, shapes: dict[str, Shape]) -> NodeProto | None:
    """The Flatten that only this Gemm reads, on maps of 1x1; None if the two are not such a pair."""
    if gemm.op_type != "Gemm" or not _is_plain(gemm) or not view.is_constant(gemm.input[1]):
        return None
    flatten = view.producers.get(gemm.input[0])
    if flatten is None or flatten.op_type != "Flatten" or view.only_reader(gemm.input[0]) is None:
        return None
    before, after = shapes.get(flatten.input[0], []), shapes.get(gemm.input[0], [])
    return flatten if len(before) == 4 and before[2:] == [1, 1] and before[1:2] == after[1:] else None


def _is_plain(gemm: NodeProto) -> bool:
    """Whether a Gemm only multiplies and adds a bias per class."""
    factors = (attribute(gemm, "alpha", 1.0), attribute(gemm, "beta", 1.0))
    return factors == (1.0, 1.0) and not integer(gemm, "transA", 0)


def _transposed(gemm: NodeProto) -> bool:
    return bool(integer(gemm, "transB", 0))
