"""Stores the INT8 weights of a Q/DQ model as integers: QuantizeLinear of a constant is computed once, here.

``y = saturate(round(x / scale) + zero_point)``, halves to even (ONNX, QuantizeLinear). TensorRT computes the same while
it builds. If the scales are about to become FP16, this must not be left to a later reader: the float weights would be
rounded too, and could fall on another integer.
"""

from __future__ import annotations

from googlenet_deploy.device.onnx_model.axes import along_axis
from googlenet_deploy.errors import requires
from googlenet_deploy.graph.edit import add_constant, replace_nodes
from googlenet_deploy.graph.graph import GraphView, integer

with requires("export"):
    import numpy as np
    import numpy.typing as npt
    from onnx import ModelProto, NodeProto

Array = npt.NDArray[np.generic]
_LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}


class FoldWeightQuantization:
    """Replaces QuantizeLinear of float32 constants by their INT8 or UINT8 result, under the same name."""

    name = "int8-weights"
    description = "quantised weights stored as integers"
    optional = False

    def run(self, model: ModelProto) -> bool:
        """See the class."""
        graph = model.graph
        view = GraphView(model)
        kept: list[NodeProto] = []
        for node in graph.node:
            folded = _fold(node, view)
            if folded is None:
                kept.append(node)
            else:
                add_constant(graph, folded, node.output[0])
        if len(kept) == len(graph.node):
            return False
        replace_nodes(graph, kept)
        return True


def _fold(node: NodeProto, view: GraphView) -> Array | None:
    """The integers of one node; None if it is not a QuantizeLinear of a constant to 8 bits."""
    if node.op_type != "QuantizeLinear" or len(node.input) < 3 or node.output[0] in view.outputs:
        return None
    values, scale, zero = (view.find_constant(name) for name in node.input)
    if values is None or scale is None or zero is None or integer(node, "block_size", 0):
        return None
    if zero.dtype.name not in _LIMITS:
        return None
    axis = integer(node, "axis", 1)
    # In float32, as every runtime computes it.
    steps = np.rint(values.astype(np.float32) / along_axis(scale.astype(np.float32), values.ndim, axis))
    codes = steps + along_axis(zero.astype(np.float32), values.ndim, axis)
    result: Array = np.clip(codes, *_LIMITS[zero.dtype.name]).astype(zero.dtype)
    return result
