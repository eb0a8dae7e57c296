"""Removes QuantizeLinear and DequantizeLinear from an ONNX model, for GPUs without INT8.

On such GPUs TensorRT rejects quantised models ("Networks with QuantizeLayer/DequantizeLayer layers require hardware
with Int8 support"). Stored INT8 weights become ``(value - zero point) * scale`` (ONNX's definition of
DequantizeLinear); everything else is unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Tuple

import numpy as np

from googlenet_deploy.device.onnx_model.axes import along_axis
from googlenet_deploy.device.onnx_model.edit import EditableGraph, EditableNode, node
from googlenet_deploy.device.onnx_model.scales import DEQUANTIZE, QUANTIZE
from googlenet_deploy.device.text import printable
from googlenet_deploy.errors import BadModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def strip_quantization(model: bytes, path: str) -> Tuple[bytes, int]:
    """Removes all Q/DQ.

    Args:
        model: A valid ONNX model.
        path: Its file, for messages.

    Returns:
        The model without them, and how many nodes were removed.

    Raises:
        BadModelError: A quantised constant is stored in an unsupported way.
    """
    graph = EditableGraph(model)
    renamed: Dict[str, str] = {}
    kept: List[EditableNode] = []
    for item in graph.nodes:
        if item.operator not in (QUANTIZE, DEQUANTIZE):
            kept.append(item)
        elif item.operator == DEQUANTIZE and graph.is_constant(item.inputs[0]):
            graph.add_constant(item.outputs[0], _dequantized(graph, item, path))
        else:
            renamed[item.outputs[0]] = renamed.get(item.inputs[0], item.inputs[0])
    removed = len(graph.nodes) - len(kept)
    for item in kept:
        item.inputs = [renamed.get(name, name) for name in item.inputs]
    # An output keeps its name, so the dequantised tensor is passed on to it.
    kept += [node("Identity", [renamed[name]], [name]) for name in graph.outputs if name in renamed]
    graph.nodes = kept
    return graph.serialize(), removed


def _dequantized(graph: EditableGraph, item: EditableNode, path: str) -> NDArray[np.float32]:
    axis = item.attribute("axis", 1)  # ONNX's default
    values, scale = _array(graph, item.inputs[0], path), _array(graph, item.inputs[1], path)
    if not isinstance(axis, int):
        raise BadModelError(path, f"node {printable(item.name)}: its axis is not a number")
    if len(item.inputs) > 2 and item.inputs[2]:
        values = values - along_axis(_array(graph, item.inputs[2], path), values.ndim, axis)
    return np.asarray(values * along_axis(scale, values.ndim, axis), np.float32)


def _array(graph: EditableGraph, name: str, path: str) -> NDArray[np.float32]:
    values = graph.constant(name)
    if values is None:
        raise BadModelError(
            path,
            f"the quantised constant {printable(name)} is stored in an unusual way",
            "build from the FP32 model instead",
        )
    return np.asarray(values, np.float32)
