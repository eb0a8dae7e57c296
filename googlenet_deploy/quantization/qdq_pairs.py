"""Finds the Q/DQ pairs of a model, whichever tool wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from googlenet_deploy.errors import requires
from googlenet_deploy.graph.graph import GraphView, attribute

with requires("export"):
    import onnx
    from onnx import TensorProto

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True)
class Pair:
    """A QuantizeLinear with its DequantizeLinear, or a DequantizeLinear on a quantised constant.

    Attributes:
        name: Name of the DequantizeLinear.
        source: The float tensor that is quantised; for a constant that is stored quantised, that constant.
        output: The dequantised tensor.
        scale: The scales, or None if they are computed.
        axis: Axis of the scales if there are several.
        is_weight: `source` is a constant.
        is_int8: The quantised values are int8 or uint8.
        quantize: The QuantizeLinear; None for a constant that is stored quantised.
        dequantize: The DequantizeLinear.
    """

    name: str
    source: str
    output: str
    scale: NDArray[Any] | None
    axis: int
    is_weight: bool
    is_int8: bool
    quantize: onnx.NodeProto | None
    dequantize: onnx.NodeProto

    def equal_scale(self, other: Pair) -> bool:
        """Whether both have the same constant scales."""
        return self.scale is not None and other.scale is not None and np.array_equal(self.scale, other.scale)


def find_pairs(graph: GraphView) -> list[Pair]:
    """All pairs in graph order, without those of INT32 constants (biases)."""
    return [pair for node in graph.nodes if node.op_type == DEQUANTIZE and (pair := _pair(graph, node)) is not None]


def zero_point(graph: GraphView, node: onnx.NodeProto) -> NDArray[Any] | None:
    """The zero points of a Q/DQ node, by ONNX's rule if none is given; None if they are computed."""
    if len(node.input) < 3 or not node.input[2]:
        kind = quantised_type(graph, node) or TensorProto.UINT8
        return np.zeros(1, onnx.helper.tensor_dtype_to_np_dtype(kind))
    return graph.constant(node.input[2]) if graph.is_constant(node.input[2]) else None


def quantised_type(graph: GraphView, node: onnx.NodeProto) -> int | None:
    """ONNX's code of the type that a Q/DQ node quantises to or from, by ONNX's rules; None if it is computed."""
    if len(node.input) > 2 and node.input[2]:
        return int(graph.initializers[node.input[2]].data_type) if graph.is_constant(node.input[2]) else None
    if node.op_type == QUANTIZE:
        return int(attribute(node, "output_dtype", 0)) or int(TensorProto.UINT8)
    stored = node.input[0]
    if graph.is_constant(stored):
        return int(graph.initializers[stored].data_type)
    maker = graph.producers.get(stored)
    return quantised_type(graph, maker) if maker is not None and maker.op_type == QUANTIZE else None


def is_int8(graph: GraphView, node: onnx.NodeProto) -> bool:
    """Whether a Q/DQ node quantises to int8 or uint8; other types are left alone."""
    return quantised_type(graph, node) in (TensorProto.INT8, TensorProto.UINT8)


def _pair(graph: GraphView, node: onnx.NodeProto) -> Pair | None:
    stored = node.input[0]
    maker = graph.producers.get(stored)
    quantize = maker if maker is not None and maker.op_type == QUANTIZE else None
    if quantize is None and (not graph.is_constant(stored) or graph.constant(stored).dtype == np.int32):
        return None
    source = quantize.input[0] if quantize is not None else stored
    scale = graph.constant(node.input[1]) if graph.is_constant(node.input[1]) else None
    axis = int(attribute(node, "axis", 1))
    return Pair(
        graph.name_of(node),
        source,
        node.output[0],
        scale,
        axis,
        graph.is_constant(source),
        is_int8(graph, node),
        quantize,
        node,
    )
