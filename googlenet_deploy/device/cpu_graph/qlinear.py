"""Fuses INT8 convolutions into QLinearConv, with unsigned activations.

``DQ -> Conv -> Relu -> Q`` becomes one QLinearConv. After a Relu no code is negative, so codes become uint8 with zero
point 0 and the same scale, which also implements the Relu; a Clip at 127 keeps INT8's range. The codes do not change.
With 7-bit activations the sum of two products stays below 2 * 127 * 128 = 32512, so processors without VNNI, whose
instruction for uint8 times int8 (vpmaddubsw) saturates at 32767, also compute exactly.

QLinearConv rounds the bias to a multiple of input scale times weight scale, as TensorRT does in INT8. A convolution
whose input can be negative, or whose output is read as floats too, stays in float.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Set

import numpy as np

from googlenet_deploy.device.cpu_graph.weights import IntegerWeight, drop_unread, quantized_weight, scalar_scale
from googlenet_deploy.device.onnx_model.edit import EditableGraph, EditableNode, node

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_CODE = 127
_ZERO, _TOP = "unsigned/zero", "unsigned/top"
# Operators whose output is not negative if no input is.
_KEEPS_SIGN = ("MaxPool", "Concat", "LRN", "QuantizeLinear", "DequantizeLinear", "Flatten", "Identity")


class _Match(NamedTuple):
    convolution: EditableNode
    dequantize: EditableNode
    weight: IntegerWeight
    quantize: EditableNode
    bias: NDArray[np.int32]


def fuse_convolutions(graph: EditableGraph) -> int:
    """Makes all codes that are never negative unsigned and fuses the convolutions between them; returns how many."""
    unsigned = _unsigned_pairs(graph)
    matches = {id(match.quantize): match for match in _matches(graph, unsigned)}
    graph.add_constant(_ZERO, np.array(0, np.uint8))
    graph.add_constant(_TOP, np.array(LARGEST_CODE, np.uint8))
    nodes: List[EditableNode] = []
    for item in graph.nodes:
        if item.operator == "QuantizeLinear" and item.outputs[0] in unsigned:
            nodes += _clipped(item, _fused(graph, matches[id(item)]) if id(item) in matches else item)
        else:
            if item.operator == "DequantizeLinear" and item.inputs[0] in unsigned:
                item.inputs[2] = _ZERO
            nodes.append(item)
    graph.nodes = nodes
    drop_unread(graph)
    return len(matches)


def _clipped(quantize: EditableNode, maker: EditableNode) -> List[EditableNode]:
    """The node that produces the codes, and the Clip after it."""
    codes = quantize.outputs[0]
    maker.outputs = [f"{codes}/unclipped"]
    if maker is quantize:
        maker.inputs[2] = _ZERO
    return [maker, node("Clip", [maker.outputs[0], "", _TOP], [codes])]


def _unsigned_pairs(graph: EditableGraph) -> Dict[str, EditableNode]:
    """Tensors of codes that are never negative, from Q through MaxPool and Concat to DQ."""
    producers, positive = graph.producers(), _never_negative(graph)
    codes: Dict[str, EditableNode] = {}
    for item in graph.nodes:
        if item.operator == "QuantizeLinear":
            if item.inputs[0] in positive and scalar_scale(graph, item) is not None:
                codes[item.outputs[0]] = item
        elif item.operator in ("MaxPool", "Concat") and all(name in codes for name in item.inputs):
            codes[item.outputs[0]] = item
    # A Concat with inputs of both kinds cannot change the type of only some of them.
    mixed = [
        name
        for item in graph.nodes
        if item.operator == "Concat" and any(name in codes for name in item.inputs) and item.outputs[0] not in codes
        for name in item.inputs
    ]
    while mixed:
        name = mixed.pop()
        if codes.pop(name, None) is not None and producers[name].operator != "QuantizeLinear":
            mixed += producers[name].inputs
    return codes


def _never_negative(graph: EditableGraph) -> Set[str]:
    positive: Set[str] = set()
    for item in graph.nodes:
        keeps = item.operator in _KEEPS_SIGN
        inputs = item.inputs if item.operator == "Concat" else item.inputs[:1]
        if item.operator == "Relu" or (keeps and all(name in positive for name in inputs)):
            positive |= set(item.outputs)
    return positive


def _matches(graph: EditableGraph, unsigned: Dict[str, EditableNode]) -> List[_Match]:
    producers, consumers = graph.producers(), graph.consumers()
    found = []
    for quantize in unsigned.values():
        relu = producers.get(quantize.inputs[0]) if quantize.operator == "QuantizeLinear" else None
        convolution = producers.get(relu.inputs[0]) if relu is not None and relu.operator == "Relu" else None
        if relu is None or convolution is None or convolution.operator != "Conv":
            continue
        inner = (relu.outputs[0], convolution.outputs[0])
        if any(len(consumers.get(name, [])) != 1 or name in graph.outputs for name in inner):
            continue
        match = _match(graph, producers, unsigned, convolution, quantize)
        if match is not None:
            found.append(match)
    return found


def _match(
    graph: EditableGraph,
    producers: Dict[str, EditableNode],
    unsigned: Dict[str, EditableNode],
    convolution: EditableNode,
    quantize: EditableNode,
) -> Optional[_Match]:
    dequantize = producers.get(convolution.inputs[0])
    if dequantize is None or dequantize.operator != "DequantizeLinear" or dequantize.inputs[0] not in unsigned:
        return None
    source, weight = scalar_scale(graph, dequantize), quantized_weight(graph, producers, convolution.inputs[1])
    if source is None or weight is None or (weight.scale.size > 1 and weight.axis != 0):
        return None
    bias = _integer_bias(graph, convolution, source[0] * weight.scale.astype(np.float64).reshape(-1))
    return None if bias is None else _Match(convolution, dequantize, weight, quantize, bias)


def _integer_bias(
    graph: EditableGraph, convolution: EditableNode, unit: NDArray[np.float64]
) -> Optional[NDArray[np.int32]]:
    channels = graph.constant_shape(convolution.inputs[1])
    if len(convolution.inputs) < 3:
        return np.zeros(channels[:1] or unit.shape, np.int32)
    bias = graph.constant(convolution.inputs[2])
    if bias is None:
        return None
    codes = np.rint(bias.astype(np.float64) / unit)
    return codes.astype(np.int32) if np.abs(codes).max(initial=0) < 2**31 else None


def _fused(graph: EditableGraph, match: _Match) -> EditableNode:
    name = match.convolution.outputs[0]
    count = match.weight.codes.shape[0]
    weights = graph.add_constant(f"{name}/codes", match.weight.codes)
    scale = graph.add_constant(f"{name}/scale", np.broadcast_to(match.weight.scale.reshape(-1), (count,)).copy())
    zero = graph.add_constant(f"{name}/zero", np.zeros(count, np.int8))
    bias = graph.add_constant(f"{name}/bias codes", match.bias)
    inputs = [match.dequantize.inputs[0], match.dequantize.inputs[1], _ZERO, weights, scale, zero]
    made = node("QLinearConv", [*inputs, match.quantize.inputs[1], _ZERO, bias], [name])
    made.name, made.parts = f"{match.convolution.name}/QLinearConv", match.convolution.attributes()
    return made
