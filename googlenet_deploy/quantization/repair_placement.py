"""Repairs of pair placement: some pairs are removed, some shared, and some get another scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.calibration.placement import ACTIVATIONS
from googlenet_deploy.device.onnx_model.axes import along_axis
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import requires
from googlenet_deploy.graph.edit import replace_nodes, to_tensor
from googlenet_deploy.graph.graph import GraphView
from googlenet_deploy.quantization.lint_placement import LAYERS, is_ahead_of_lrn
from googlenet_deploy.quantization.qdq_pairs import Pair, find_pairs, zero_point

with requires("export"):
    import onnx

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESHAPING = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity"})


def drop_harmful_pairs(model: onnx.ModelProto) -> list[str]:
    """Lets LRN, fused activations and Concat read the float tensor instead of a pair's output."""
    graph = GraphView(model)
    pairs = {pair.output: pair for pair in find_pairs(graph) if pair.is_int8 and not pair.is_weight}
    quantised = {pair.source for pair in pairs.values()}
    count = 0
    for node in graph.nodes:
        for index, name in enumerate(node.input):
            if name in pairs and _is_harmful(graph, node, pairs[name], quantised):
                node.input[index] = pairs[name].source
                count += 1
    return (
        [f"{counted(count, 'reader')} (LRN, fused activations, Concat) no longer read quantised values"]
        if count
        else []
    )


def _is_harmful(graph: GraphView, node: onnx.NodeProto, pair: Pair, quantised: set[str]) -> bool:
    if is_ahead_of_lrn(graph, node):
        return True
    if node.op_type == "Concat":  # the pair after it gives all its inputs one scale
        return node.output[0] in quantised
    maker = graph.producers.get(pair.source)
    return node.op_type in ACTIVATIONS and maker is not None and maker.op_type in LAYERS


def fold_parameters(model: onnx.ModelProto) -> list[str]:
    """Turns quantised constants of operators other than layers into float, with the values that the pair yields."""
    graph = GraphView(model)
    wanted = {
        pair.output: pair
        for pair in find_pairs(graph)
        if pair.is_weight
        and pair.is_int8
        and not _feeds_layer(graph, pair.output)
        and zero_point(graph, pair.dequantize) is not None
    }
    folded = {name: value for name, pair in wanted.items() if (value := _value(graph, pair)) is not None}
    for name, value in folded.items():
        model.graph.initializer.append(to_tensor(value.astype(np.float32), name))
    if folded:
        replace_nodes(model.graph, [node for node in graph.nodes if node.output[0] not in folded])
    return [f"{counted(len(folded), 'quantised parameter')} of other operators stored as float"] if folded else []


def equal_pool_scales(model: onnx.ModelProto) -> list[str]:
    """Sets the scale of the pair after a MaxPool to that of the pair before it, whose values it receives."""
    graph = GraphView(model)
    pairs = [pair for pair in find_pairs(graph) if pair.is_int8]
    by_output, by_source = {pair.output: pair for pair in pairs}, {pair.source: pair for pair in pairs}
    count = 0
    for node in graph.nodes:
        before = by_output.get(node.input[0]) if node.op_type == "MaxPool" else None
        behind = by_source.get(node.output[0])
        if before is None or behind is None or before.equal_scale(behind) or behind.quantize is None:
            continue
        for user in (behind.quantize, behind.dequantize):
            del user.input[1:]
            user.input.extend(before.dequantize.input[1:])
        count += 1
    return [f"{counted(count, 'pair')} after a MaxPool given the scale before it"] if count else []


def share_pairs(model: onnx.ModelProto) -> list[str]:
    """Lets all readers of a tensor share its first pair, if the pairs are equal."""
    graph = GraphView(model)
    first: dict[str, Pair] = {}
    renamed: dict[str, str] = {}
    for pair in find_pairs(graph):
        if pair.is_weight or not pair.is_int8:
            continue
        known = first.setdefault(pair.source, pair)
        if known is not pair and pair.equal_scale(known) and pair.output not in graph.outputs:
            renamed[pair.output] = known.output
    for node in graph.nodes:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
    return [f"{counted(len(renamed), 'doubled pair')} shared"] if renamed else []


def _feeds_layer(graph: GraphView, name: str) -> bool:
    return any(
        node.op_type in LAYERS or (node.op_type in RESHAPING and _feeds_layer(graph, node.output[0]))
        for node in graph.readers(name)
    )


def _value(graph: GraphView, pair: Pair) -> NDArray[np.float64] | None:
    """What a constant's pair yields; None if its scale is computed."""
    points = zero_point(graph, pair.dequantize)
    if pair.scale is None or points is None:
        return None
    stored = graph.constant(pair.source)
    scale = along_axis(pair.scale.astype(np.float64), stored.ndim, pair.axis)
    shift = along_axis(points.astype(np.float64), stored.ndim, pair.axis)
    if pair.quantize is None:
        value: NDArray[np.float64] = (stored.astype(np.float64) - shift) * scale
        return value
    limits = np.iinfo(points.dtype)
    codes = np.clip(np.rint(stored / scale) + shift, limits.min, limits.max)
    restored: NDArray[np.float64] = (codes - shift) * scale
    return restored
