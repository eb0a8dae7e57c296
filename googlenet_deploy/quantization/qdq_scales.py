"""Scales of Q/DQ nodes that no runtime can use, and the repair of the one kind that can be repaired exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from googlenet_deploy.graph.edit import to_tensor, unique_name
from googlenet_deploy.graph.graph import GraphView, attribute, tensor_names
from googlenet_deploy.quantization.qdq_pairs import DEQUANTIZE, QUANTIZE, zero_point

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    from numpy.typing import NDArray


def scale_fault(graph: GraphView, node: onnx.NodeProto, shapes: Mapping[str, list[int | str | None]]) -> str:
    """What is wrong with a Q/DQ node's constant scale: its values or its shape; empty if nothing is wrong.

    Args:
        graph: The model.
        node: QuantizeLinear or DequantizeLinear.
        shapes: Known shapes, by tensor; see `known_shapes`.
    """
    values = graph.constant(node.input[1])
    if not np.isfinite(values).all():
        return "has a scale that is not finite"
    if (values < 0).any():
        return "has a negative scale"
    if (values == 0).any():
        where = f" (channel {int(np.flatnonzero(values == 0)[0])})" if values.size > 1 else ""
        return f"has the scale 0{where}"
    if attribute(node, "block_size", 0):
        return ""  # block-wise scales have their own rule
    points = zero_point(graph, node)
    if points is not None and points.size not in (1, values.size):
        return f"has {values.size} scales and {points.size} zero points"
    return _shape_fault(node, values, shapes.get(node.input[0]))


def _shape_fault(node: onnx.NodeProto, scale: NDArray[Any], shape: list[int | str | None] | None) -> str:
    if scale.size == 1:
        return "" if scale.ndim <= 1 else f"has a scale of {scale.ndim} dimensions"
    if scale.ndim != 1:
        return f"has scales of {scale.ndim} dimensions"
    axis = int(attribute(node, "axis", 1))
    if shape is None:
        return ""
    if not -len(shape) <= axis < len(shape):
        return f"has scales along axis {axis} of a tensor of {len(shape)} dimensions"
    length = shape[axis]
    return f"has {scale.size} scales for {length} channels" if isinstance(length, int) and length != scale.size else ""


def has_dead_channels(graph: GraphView, node: onnx.NodeProto) -> bool:
    """Whether every scale of 0 belongs to a channel of a constant whose values are all 0: any scale is exact there."""
    source = node.input[0]
    maker = graph.producers.get(source)
    if maker is not None and maker.op_type == QUANTIZE:
        node, source = maker, maker.input[0]
    values, points = graph.constant(node.input[1]), zero_point(graph, node)
    if not graph.is_constant(source) or points is None or (values < 0).any() or not np.isfinite(values).all():
        return False
    stored = graph.constant(source).astype(np.float64)
    shift = 0.0 if node.op_type == QUANTIZE else points.astype(np.float64)
    if values.size == 1:
        return bool((stored == np.reshape(shift, -1)[:1]).all()) if np.size(shift) else not stored.any()
    axis = int(attribute(node, "axis", 1))
    if stored.ndim <= axis % max(1, stored.ndim) or stored.shape[axis] != values.size:
        return False
    turned = np.moveaxis(stored, axis, 0).reshape(values.size, -1)
    dead = (turned == np.broadcast_to(np.reshape(shift, -1), (values.size,))[:, None]).all(axis=1)
    return bool(dead[values.reshape(-1) == 0].all())


def repair_zero_scales(model: onnx.ModelProto) -> list[str]:
    """Replaces a scale of 0 by 1 for weight channels that are all 0."""
    graph, taken = GraphView(model), tensor_names(model.graph)
    # All are found before any is changed: a pair's nodes share a scale, and each is checked with the other.
    found = [
        node
        for node in graph.nodes
        if node.op_type in (QUANTIZE, DEQUANTIZE)
        and graph.is_constant(node.input[1])
        and (graph.constant(node.input[1]) == 0).any()
        and has_dead_channels(graph, node)
    ]
    renamed: dict[str, str] = {}
    count = 0
    for node in found:
        if node.input[1] not in renamed:
            values = graph.constant(node.input[1])
            name = renamed[node.input[1]] = unique_name(f"{node.input[1]}/positive", taken)
            model.graph.initializer.append(to_tensor(np.where(values == 0, values.dtype.type(1), values), name))
            count += int((values == 0).sum())
        node.input[1] = renamed[node.input[1]]
    return [f"{count} channels of zeros given the scale 1 in place of 0, exactly"] if count else []
