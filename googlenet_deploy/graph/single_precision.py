"""Converts models in double precision to float32: no runtime for images, including TensorRT, computes in float64."""

from __future__ import annotations

from collections.abc import Iterator

from googlenet_deploy.errors import VerificationError, requires
from googlenet_deploy.graph.edit import set_constant
from googlenet_deploy.graph.graph import subgraphs

with requires("export"):
    import numpy as np
    from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, numpy_helper

# Attributes that hold the code of an element type: of Cast, and of the operators that generate values.
_TYPE_ATTRIBUTES = ("to", "dtype")


def to_single_precision(model: ModelProto) -> int:
    """Converts float64 weights, types and casts to float32, in place; returns the number of weights that changed.

    Raises:
        VerificationError: A finite weight is beyond float32's range; the message names it.
    """
    count = 0
    for graph in _graphs(model.graph):
        for tensor in [*graph.initializer, *_attribute_tensors(graph)]:
            count += _round(tensor)
        for value in [*graph.input, *graph.output, *graph.value_info]:
            if value.type.tensor_type.elem_type == TensorProto.DOUBLE:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in _TYPE_ATTRIBUTES and attribute.i == TensorProto.DOUBLE:
                    attribute.i = TensorProto.FLOAT
    return count


def _round(tensor: TensorProto) -> bool:
    if tensor.data_type != TensorProto.DOUBLE:
        return False
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    if not np.array_equal(np.isfinite(rounded), np.isfinite(values)):
        raise VerificationError(f"the float64 constant {tensor.name} is beyond float32's range")
    set_constant(tensor, rounded)
    return True


def _attribute_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from _graphs(inner)
