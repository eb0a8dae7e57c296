"""Moves QuantizeLinear before Concat and MaxPool, directly after the convolutions.

Both only select values, and quantisation preserves their order, so ``Q(Concat(a, b)) = Concat(Q(a), Q(b))`` and
``Q(MaxPool(a)) = MaxPool(Q(a))`` hold exactly; MaxPool accepts INT8 from opset 12 on. A convolution followed by a Q
becomes one INT8 operator; otherwise ONNX Runtime computes it in float.
"""

from __future__ import annotations

from typing import Dict, List, Optional

from googlenet_deploy.device.cpu_graph.weights import scalar_scale
from googlenet_deploy.device.onnx_model.edit import EditableGraph, EditableNode, node

MOVES_AHEAD_OF = ("Concat", "MaxPool")


def move_quantize(graph: EditableGraph) -> int:
    """Moves every Q as far towards the inputs as possible; returns how many nodes now work on INT8."""
    count = 0
    while _move_once(graph):
        count += 1
    return count


def _move_once(graph: EditableGraph) -> bool:
    consumers, producers = graph.consumers(), graph.producers()
    for position, item in enumerate(graph.nodes):
        if item.operator not in MOVES_AHEAD_OF or len(item.outputs) != 1:
            continue
        quantize = _only_quantize(graph, consumers, item.outputs[0])
        if quantize is not None:
            _move(graph, position, quantize, producers)
            return True
    return False


def _only_quantize(graph: EditableGraph, consumers: Dict[str, List[EditableNode]], name: str) -> Optional[EditableNode]:
    readers = consumers.get(name, [])
    if len(readers) != 1 or name in graph.outputs or readers[0].operator != "QuantizeLinear":
        return None
    return readers[0] if scalar_scale(graph, readers[0]) is not None else None


def _move(graph: EditableGraph, position: int, quantize: EditableNode, producers: Dict[str, EditableNode]) -> None:
    item = graph.nodes[position]
    made: List[EditableNode] = []
    codes: List[str] = []
    for name in item.inputs:
        present = _codes_of(graph, producers, name, quantize)
        if present is None:
            present = f"{name}/quantized for {quantize.outputs[0]}"
            made.append(node("QuantizeLinear", [name, *quantize.inputs[1:]], [present]))
        codes.append(present)
    item.inputs, item.outputs = codes, list(quantize.outputs)
    graph.nodes = [
        part
        for index, other in enumerate(graph.nodes)
        for part in ([*made, item] if index == position else [other])
        if part is not quantize
    ]


def _codes_of(
    graph: EditableGraph, producers: Dict[str, EditableNode], name: str, quantize: EditableNode
) -> Optional[str]:
    """The codes of a tensor dequantised with the same scale, which need no requantisation: ``Q(DQ(codes)) = codes``."""
    pair = producers.get(name)
    if pair is None or pair.operator != "DequantizeLinear":
        return None
    ours, theirs = scalar_scale(graph, quantize), scalar_scale(graph, pair)
    return pair.inputs[0] if ours is not None and theirs is not None and ours[0] == theirs[0] else None
