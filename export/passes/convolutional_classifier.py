"""Writes the classifier as a 1x1 convolution, which a Jetson's deep learning accelerator takes; it takes no Gemm.

Flatten and Gemm on one value per channel are a 1x1 convolution and Flatten: the same products, in the same order.
"""

from __future__ import annotations

from googlenet_deploy.errors import requires
from googlenet_deploy.graph.graph import GraphIndex, attributes, known_shapes, replace_nodes, tensor_names, unique_name

with requires("export"):
    import numpy as np
    from onnx import ModelProto, NodeProto, helper, numpy_helper

Shape = list[int | str | None]


class ConvolutionalClassifier:
    """Turns Flatten, Gemm on maps of 1x1 into Conv, Flatten."""

    name = "convolutional-classifier"
    description = "Gemm behind Flatten to a 1x1 convolution ahead of it"
    optional = False

    def run(self, model: ModelProto) -> bool:
        """See the class."""
        graph = model.graph
        index, shapes = GraphIndex(graph), known_shapes(model)
        pairs = [(flatten, gemm) for gemm in graph.node if (flatten := _flatten_of(gemm, index, shapes)) is not None]
        if not pairs:
            return False
        taken = tensor_names(graph)
        rewritten = {}
        for flatten, gemm in pairs:
            weights = index.constant(gemm.input[1])
            assert weights is not None
            name = unique_name(f"{gemm.input[1]}/1x1", taken)
            values = np.ascontiguousarray(weights if _transposed(gemm) else weights.T)[:, :, None, None]
            graph.initializer.append(numpy_helper.from_array(values, name))
            scores = unique_name(f"{gemm.output[0]}/map", taken)
            inputs = [flatten.input[0], name, *gemm.input[2:]]
            rewritten[flatten.name] = helper.make_node("Conv", inputs, [scores], gemm.name, kernel_shape=[1, 1])
            rewritten[gemm.name] = helper.make_node("Flatten", [scores], [gemm.output[0]], flatten.name, axis=1)
        replace_nodes(graph, [rewritten.get(node.name, node) for node in graph.node])
        return True


def _flatten_of(gemm: NodeProto, index: GraphIndex, shapes: dict[str, Shape]) -> NodeProto | None:
    """The Flatten that only this Gemm reads, on maps of 1x1; None where the two are not such a pair."""
    if gemm.op_type != "Gemm" or not _is_plain(gemm) or index.constant(gemm.input[1]) is None:
        return None
    flatten = index.producers.get(gemm.input[0])
    if flatten is None or flatten.op_type != "Flatten" or index.only_consumer(gemm.input[0]) is None:
        return None
    before, after = shapes.get(flatten.input[0], []), shapes.get(gemm.input[0], [])
    return flatten if len(before) == 4 and before[2:] == [1, 1] and before[1:2] == after[1:] else None


def _is_plain(gemm: NodeProto) -> bool:
    """Whether a Gemm only multiplies and adds a bias per class."""
    given = attributes(gemm)
    return given.get("alpha", 1.0) == 1.0 and given.get("beta", 1.0) == 1.0 and not given.get("transA", 0)


def _transposed(gemm: NodeProto) -> bool:
    return bool(attributes(gemm).get("transB", 0))
