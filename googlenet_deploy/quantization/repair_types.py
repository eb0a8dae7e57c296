"""Repairs of number types: domains, biases, signs and zero points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from googlenet_deploy.device.onnx_model.axes import along_axis
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import requires
from googlenet_deploy.graph.edit import replace_nodes, to_tensor, unique_name
from googlenet_deploy.graph.graph import GraphView, attribute, tensor_names
from googlenet_deploy.quantization.lint import MICROSOFT
from googlenet_deploy.quantization.lint_placement import LAYERS
from googlenet_deploy.quantization.qdq_pairs import (
    DEQUANTIZE,
    QUANTIZE,
    is_int8,
    quantised_type,
    zero_point,
)

with requires("export"):
    import onnx
    from onnx import TensorProto, helper

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_CODE = 127
MAY_BE_NEGATIVE = LAYERS | {"Add", "Sub", "Mul", "BatchNormalization"}


def standard_domain(model: onnx.ModelProto) -> list[str]:
    """Moves Microsoft's Q/DQ operators, which are ONNX's except for the domain's name, to ONNX's domain."""
    graph = GraphView(model)
    pairs = [node for node in model.graph.node if node.domain == MICROSOFT and node.op_type in (QUANTIZE, DEQUANTIZE)]
    moved = [node for node in pairs if is_int8(graph, node) or quantised_type(graph, node) == TensorProto.INT32]
    for node in moved:
        node.domain = ""
    return [f"{len(moved)} Q/DQ operators moved from {MICROSOFT} to ONNX's own"] if moved else []


def float_biases(model: onnx.ModelProto) -> list[str]:
    """Replaces DequantizeLinear on INT32 constants by the float constants that they yield."""
    graph = GraphView(model)
    kept, count = [], 0
    for node in graph.nodes:
        reads_constant = node.op_type == DEQUANTIZE and graph.is_constant(node.input[0])
        stored = graph.constant(node.input[0]) if reads_constant else None
        if stored is None or stored.dtype != np.int32 or not graph.is_constant(node.input[1]):
            kept.append(node)
            continue
        scale = graph.constant(node.input[1])
        value = stored.astype(np.float32) * along_axis(scale, stored.ndim, int(attribute(node, "axis", 1)))
        model.graph.initializer.append(to_tensor(value.astype(np.float32), node.output[0]))
        count += 1
    if count:
        replace_nodes(model.graph, kept)
    return [f"{count} INT32 biases stored as float"] if count else []


def restore_relu(model: onnx.ModelProto) -> list[str]:
    """Puts a ReLU before pairs whose range begins at zero.

    Quantisers for asymmetric types remove a ReLU if the zero point clips exactly as it did; a symmetric range would let
    negative values through. The ReLU does not change what the pair yields, so adding it is always correct.
    """
    graph, taken = GraphView(model), tensor_names(model.graph)
    clipped = {node.input[0] for node in graph.nodes if node.op_type == QUANTIZE and _begins_at_zero(graph, node)}
    renamed: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.nodes:
        if node.op_type == QUANTIZE and node.input[0] in renamed and _begins_at_zero(graph, node):
            node.input[0] = renamed[node.input[0]]
        nodes.append(node)
        if node.op_type in MAY_BE_NEGATIVE and node.output[0] in clipped:
            renamed[node.output[0]] = unique_name(f"{node.output[0]}/relu", taken)
            nodes.append(helper.make_node("Relu", node.output[:1], [renamed[node.output[0]]], renamed[node.output[0]]))
    if renamed:
        replace_nodes(model.graph, nodes)
    return [f"{counted(len(renamed), 'ReLU')} put back that a zero point stood in for"] if renamed else []


def _begins_at_zero(graph: GraphView, node: onnx.NodeProto) -> bool:
    points = zero_point(graph, node)
    return points is not None and is_int8(graph, node) and bool((points == np.iinfo(points.dtype).min).all())


def signed_symmetric(model: onnx.ModelProto) -> list[str]:
    """Makes every pair int8 with zero point 0, activations with one scale each.

    A quantised value q with scale s and zero point z represents (q - z) s. With z = 128 in uint8 the shift to int8 is
    exact; any other range is replaced by the symmetric one that covers it.
    """
    graph = GraphView(model)
    editor = _PairEditor(model, graph)
    for node in graph.nodes:
        if node.op_type == QUANTIZE:
            editor.repair_quantize(node)
        elif node.op_type == DEQUANTIZE and graph.is_constant(node.input[0]):
            editor.repair_constant(node)
    return editor.changes()


class _PairEditor:
    """Rewrites scales and zero points of pairs in place."""

    def __init__(self, model: onnx.ModelProto, graph: GraphView) -> None:
        self.model, self.graph = model, graph
        self.taken = tensor_names(model.graph)
        self.exact = self.covered = self.merged = 0

    def repair_quantize(self, node: onnx.NodeProto) -> None:
        points, scale = zero_point(self.graph, node), self._scale(node)
        if points is None or scale is None or not is_int8(self.graph, node):
            return
        is_weight = self.graph.is_constant(node.input[0])
        several = scale.size > 1 and not is_weight
        if points.dtype == np.int8 and not points.any() and not several:
            return
        repaired, exact = _symmetric_scale(scale, points)
        if several:
            repaired, self.merged = np.asarray(repaired.max()), self.merged + 1
        elif exact:
            self.exact += 1
        else:
            self.covered += 1
        parameters = self._add_parameters(node.output[0], repaired)
        for user in (node, *self.graph.readers(node.output[0])):
            if user.op_type in (QUANTIZE, DEQUANTIZE):
                del user.input[1:]
                user.input.extend(parameters)

    def repair_constant(self, node: onnx.NodeProto) -> None:
        stored, points, scale = self.graph.constant(node.input[0]), zero_point(self.graph, node), self._scale(node)
        if points is None or scale is None or stored.dtype not in (np.int8, np.uint8):
            return
        if stored.dtype == np.int8 and not points.any():
            return
        repaired, exact = _symmetric_scale(scale, points)
        axis = int(attribute(node, "axis", 1))
        shifted = stored.astype(np.float64) - along_axis(points.astype(np.float64), stored.ndim, axis)
        ratio = along_axis(scale.astype(np.float64) / repaired, stored.ndim, axis)
        codes = np.clip(np.rint(shifted * ratio), -LARGEST_CODE - 1, LARGEST_CODE).astype(np.int8)
        name = unique_name(f"{node.input[0]}/int8", self.taken)
        self.model.graph.initializer.append(to_tensor(codes, name))
        parameters = self._add_parameters(name, repaired)
        del node.input[:]
        node.input.extend([name, *parameters])
        if exact:
            self.exact += 1
        else:
            self.covered += 1

    def changes(self) -> list[str]:
        lines = (
            (self.exact, "uint8 pairs at zero point 128 made int8 at 0, exactly"),
            (self.covered, "asymmetric pairs made symmetric: their steps are wider now"),
            (self.merged, "activations with per-channel scales given one scale: the largest"),
        )
        return [f"{count} {what}" for count, what in lines if count]

    def _scale(self, node: onnx.NodeProto) -> NDArray[Any] | None:
        return self.graph.constant(node.input[1]) if self.graph.is_constant(node.input[1]) else None

    def _add_parameters(self, stem: str, scale: NDArray[Any]) -> list[str]:
        arrays = (
            (f"{stem}/symmetric_scale", scale.astype(np.float32)),
            (f"{stem}/symmetric_zero_point", np.zeros(scale.shape, np.int8)),
        )
        names = []
        for wanted, array in arrays:
            names.append(unique_name(wanted, self.taken))
            self.model.graph.initializer.append(to_tensor(array, names[-1]))
        return names


def _symmetric_scale(scale: NDArray[Any], points: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """The scale of the symmetric int8 range that covers a quantised one; and whether the codes are only shifted."""
    limits = np.iinfo(points.dtype)
    middle = 128 if points.dtype == np.uint8 else 0
    if (points == middle).all():
        return scale, True
    zero = points.astype(np.float64).reshape(scale.shape if points.size == scale.size else points.shape)
    reach = np.maximum(np.abs(limits.min - zero), np.abs(limits.max - zero))
    return (scale * reach / LARGEST_CODE).astype(np.float32).reshape(scale.shape), False
