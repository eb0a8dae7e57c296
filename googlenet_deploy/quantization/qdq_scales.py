"""Scales of Q/DQ nodes that no runtime can use, and the repair of the one kind that can be repaired exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.onnx_model.scales import pair_problem, value_problem
from googlenet_deploy.device.text import counted
from googlenet_deploy.graph.edit import to_tensor, unique_name
from googlenet_deploy.graph.graph import GraphView, attribute, tensor_names
from googlenet_deploy.quantization.qdq_pairs import DEQUANTIZE, QUANTIZE, zero_point

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx


def scale_fault(graph: GraphView, node: onnx.NodeProto, shapes: Mapping[str, list[int | str | None]]) -> str:
    """What is wrong with a Q/DQ node's constant scale, by the rules of `device.onnx_model.scales`; empty if nothing is.

    Args:
        graph: The model.
        node: QuantizeLinear or DequantizeLinear.
        shapes: Known shapes, by tensor, of activations too; see `known_shapes`.
    """
    scale, points = graph.constant(node.input[1]), zero_point(graph, node)
    if attribute(node, "block_size", 0):
        return value_problem(scale)  # the rule "block-size" rejects them
    stated = None if points is None or points.size == 1 else points.shape
    axis, shape = int(attribute(node, "axis", 1)), shapes.get(node.input[0])
    return value_problem(scale) or pair_problem(scale.shape, stated, shape, axis=axis)


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
    if not -stored.ndim <= axis < stored.ndim or stored.shape[axis] != values.size:
        return False
    if np.size(shift) not in (1, values.size):
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
    return [f"{counted(count, 'channel')} of zeros given the scale 1 in place of 0, exactly"] if count else []
