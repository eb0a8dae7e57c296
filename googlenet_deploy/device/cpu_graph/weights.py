"""Folds weights with QuantizeLinear and DequantizeLinear, so that they are not computed in every run.

ONNX Runtime keeps DequantizeLinear of a constant as a node, for the benefit of other hardware.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, NamedTuple, Optional, Tuple

import numpy as np

from googlenet_deploy.device.onnx_model.axes import along_axis
from googlenet_deploy.device.onnx_model.edit import EditableGraph, EditableNode

if TYPE_CHECKING:
    from numpy.typing import NDArray


class IntegerWeight(NamedTuple):
    """INT8 weights: `codes` int8, `scale` float32 of one value or one per channel along `axis`; zero point 0."""

    codes: NDArray[np.int8]
    scale: NDArray[np.float32]
    axis: int

    def floats(self) -> NDArray[np.float32]:
        """``codes * scale``, as DequantizeLinear defines it."""
        return np.asarray(
            self.codes.astype(np.float32) * along_axis(self.scale, self.codes.ndim, self.axis), np.float32
        )


def quantized_weight(graph: EditableGraph, producers: Dict[str, EditableNode], name: str) -> Optional[IntegerWeight]:
    """The weights that a DequantizeLinear reads, stored as INT8 or as floats with a QuantizeLinear.

    Returns:
        None if `name` is something else, or has a zero point other than 0.
    """
    pair = producers.get(name)
    if pair is None or pair.operator != "DequantizeLinear":
        return None
    scale, zero = graph.constant(pair.inputs[1]), _zero_point(graph, pair)
    axis = pair.attribute("axis", 1)
    if scale is None or zero is None or zero.any() or zero.dtype != np.int8 or not isinstance(axis, int):
        return None
    codes = graph.constant(pair.inputs[0])
    quantize = producers.get(pair.inputs[0])
    if codes is None and quantize is not None and quantize.operator == "QuantizeLinear":
        values = graph.constant(quantize.inputs[0])
        if values is None or quantize.inputs[1:] != pair.inputs[1:]:
            return None
        codes = _quantized(values.astype(np.float32, copy=False), scale.astype(np.float32), axis)
    if codes is None or codes.dtype != np.int8:
        return None
    return IntegerWeight(codes.astype(np.int8, copy=False), scale.astype(np.float32), axis)


def fold_weights(graph: EditableGraph) -> int:
    """Replaces the output of every weight's DequantizeLinear that is still read with floats; returns how many."""
    producers = graph.producers()
    folded: Dict[str, IntegerWeight] = {}
    for item in graph.nodes:
        weight = quantized_weight(graph, producers, item.outputs[0]) if item.operator == "DequantizeLinear" else None
        if weight is not None:
            folded[item.outputs[0]] = weight
    for name, weight in folded.items():
        graph.add_constant(name, weight.floats())
    graph.nodes = [item for item in graph.nodes if item.outputs[0] not in folded]
    drop_unread(graph)
    return len(folded)


def drop_unread(graph: EditableGraph) -> None:
    """Removes nodes whose outputs are unused."""
    wanted = set(graph.outputs)
    kept = []
    for item in reversed(graph.nodes):
        if wanted & set(item.outputs):
            kept.append(item)
            wanted |= set(item.all_inputs())
    graph.nodes = kept[::-1]


def _quantized(values: NDArray[np.float32], scale: NDArray[np.float32], axis: int) -> NDArray[np.int8]:
    """QuantizeLinear as ONNX defines it: half to even, saturated."""
    return np.asarray(np.clip(np.rint(values / along_axis(scale, values.ndim, axis)), -128, 127), np.int8)


def _zero_point(graph: EditableGraph, item: EditableNode) -> Optional[NDArray[np.generic]]:
    return graph.constant(item.inputs[2]) if len(item.inputs) > 2 and item.inputs[2] else None


def scalar_scale(graph: EditableGraph, item: EditableNode) -> Optional[Tuple[float, str]]:
    """Scale, and its name, of an activation's Q or DQ with one scale and int8 zero point 0; None for any other."""
    scale, zero = graph.constant(item.inputs[1]), _zero_point(graph, item)
    if scale is None or zero is None or scale.size != 1 or zero.size != 1:
        return None
    if zero.dtype != np.int8 or int(zero.reshape(())) != 0:
        return None
    return float(scale.reshape(())), item.inputs[1]
