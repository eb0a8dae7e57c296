"""Converts models in float64, or in float16 from the input on, to float32.

No runtime for images, including TensorRT, computes in float64. A float16 model takes float16 images, which nothing
prepares, and calibration has to compare with more exact values; every float16 number is a float32 number.
"""

from __future__ import annotations

from collections.abc import Iterator

from googlenet_deploy.errors import VerificationError, requires
from googlenet_deploy.graph.edit import set_constant
from googlenet_deploy.graph.graph import runtime_inputs, subgraphs

with requires("export"):
    import numpy as np
    from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, numpy_helper

# Attributes that hold the code of an element type: of Cast, and of the operators that generate values.
_TYPE_ATTRIBUTES = ("to", "dtype")


def to_single_precision(model: ModelProto) -> str:
    """Converts float64 weights, types and casts to float32, in place; also float16 ones if the input is float16.

    Returns:
        What changed, in words; empty if nothing did.

    Raises:
        VerificationError: A finite weight is beyond float32's range; the message names it.
    """
    halves = any(value.type.tensor_type.elem_type == TensorProto.FLOAT16 for value in runtime_inputs(model.graph))
    kinds: dict[int, str] = {TensorProto.DOUBLE: "float64", **({TensorProto.FLOAT16: "float16"} if halves else {})}
    counts = dict.fromkeys(kinds, 0)
    for graph in _graphs(model.graph):
        for tensor in [*graph.initializer, *_attribute_tensors(graph)]:
            if tensor.data_type in kinds:
                counts[tensor.data_type] += 1
                _round(tensor)
        for value in [*graph.input, *graph.output, *graph.value_info]:
            if value.type.tensor_type.elem_type in kinds:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in _TYPE_ATTRIBUTES and attribute.i in kinds:
                    attribute.i = TensorProto.FLOAT
    changed = " and ".join(f"{count} {kinds[kind]} constants" for kind, count in counts.items() if count)
    changed = changed or ("the float16 input" if halves else "")
    return f"{changed} and everything computed from them became float32" if changed else ""


def _round(tensor: TensorProto) -> None:
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    if not np.array_equal(np.isfinite(rounded), np.isfinite(values)):
        raise VerificationError(f"the float64 constant {tensor.name} is beyond float32's range")
    set_constant(tensor, rounded)


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
