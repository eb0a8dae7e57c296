"""Replaces LRN with operators that ONNX Runtime computes with vector instructions.

ONNX Runtime's LRN kernel calls ``pow`` for every element, which takes a third of GoogLeNet's time. The ONNX definition
of LRN is ``y = x / (bias + alpha / size * sum over the window of x^2) ^ beta``. The sum over neighbouring channels is a
1x1 convolution with a band matrix, and for beta = 3/4 the power is ``sqrt(t) * sqrt(sqrt(t))``. Results differ in the
last bits of float32 only.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

import numpy as np

from googlenet_deploy.device.onnx_model.edit import EditableGraph, EditableNode, node

BETA = 0.75
MOST_CHANNELS = 4096  # the size of the band matrix is their square
# Operators that preserve the number of channels.
_KEEPS_CHANNELS = ("Relu", "MaxPool", "AveragePool", "LRN", "QuantizeLinear", "DequantizeLinear", "Clip", "Identity")


def decompose_lrn(graph: EditableGraph) -> int:
    """Replaces every LRN whose beta is 3/4 and whose number of channels is known; returns how many."""
    nodes: List[EditableNode] = []
    producers = graph.producers()
    count = 0
    for item in graph.nodes:
        channels = _channels(graph, producers, item.inputs[0]) if item.operator == "LRN" else None
        if channels is None or channels > MOST_CHANNELS or abs(_number(item, "beta", BETA) - BETA) > 1e-9:
            nodes.append(item)
        else:
            nodes.extend(_decomposed(graph, item, channels))
            count += 1
    graph.nodes = nodes
    return count


def _decomposed(graph: EditableGraph, item: EditableNode, channels: int) -> List[EditableNode]:
    source, target = item.inputs[0], item.outputs[0]
    size = int(_number(item, "size", 1))
    weight = np.zeros((channels, channels), np.float32)
    for channel in range(channels):
        # ONNX: from channel - floor((size - 1) / 2) to channel + ceil((size - 1) / 2).
        first, last = channel - (size - 1) // 2, channel + size // 2
        weight[channel, max(0, first) : last + 1] = np.float32(_number(item, "alpha", 1e-4) / size)
    band = graph.add_constant(f"{target}/band", weight.reshape(channels, channels, 1, 1))
    bias = graph.add_constant(f"{target}/bias", np.full(channels, _number(item, "bias", 1.0), np.float32))
    square, total, root, fourth, power = (f"{target}/{part}" for part in ("square", "total", "root", "fourth", "power"))
    return [
        node("Mul", [source, source], [square]),
        node("Conv", [square, band, bias], [total], {"kernel_shape": (1, 1)}),
        node("Sqrt", [total], [root]),
        node("Sqrt", [root], [fourth]),
        node("Mul", [root, fourth], [power]),
        node("Div", [source, power], [target]),
    ]


def _channels(graph: EditableGraph, producers: Dict[str, EditableNode], name: str) -> Optional[int]:
    while name in producers:
        item = producers[name]
        if item.operator == "Conv":
            shape = _weight_shape(graph, producers, item.inputs[1])
            return shape[0] if shape else None
        if item.operator not in _KEEPS_CHANNELS:
            return None
        name = item.inputs[0]
    return None


def _weight_shape(graph: EditableGraph, producers: Dict[str, EditableNode], name: str) -> Tuple[int, ...]:
    while name in producers and producers[name].operator in ("QuantizeLinear", "DequantizeLinear"):
        name = producers[name].inputs[0]
    return graph.constant_shape(name)


def _number(item: EditableNode, name: str, default: float) -> float:
    value = item.attribute(name, default)
    return default if isinstance(value, tuple) else float(value)
