"""Cross-layer equalisation: channels of one tensor get like ranges, by scaling the weights of neighbouring layers.

A ReLU lets a positive factor pass, so that a channel may be divided by s where it is made and multiplied by s where
it is read; pools, Concats and zero padding let it pass as well. Folding batch normalisation leaves channels whose
ranges differ by orders of magnitude, and one scale per tensor rounds the small ones to nothing.
Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv:1906.04721), section 4.1 and equation 11: s = sqrt(r1 r2) / r2 with r1 the channel's range in the weights that
make it and r2 in those that read it. Here a channel may have several readers (those of a Concat), whose largest range
counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.calibration.graph import GraphView
from googlenet_deploy.calibration.placement import QUANTIZED_OPERATORS
from googlenet_deploy.calibration.refine.channels import (
    Channels,
    LayerEditor,
    is_plain_layer,
    outputs_first,
    trace_channels,
)
from googlenet_deploy.export.graph import copy_model

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

ROUNDS = 20
CONVERGED = 1e-3
# A factor beyond this says that the channel is dead on one side; scaling it further gains nothing.
LARGEST_FACTOR = 1e4


def equalize_channels(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Mapping[str, str]]:
    """A copy of a model that computes the same with equalised channels, and a note of what was done."""
    result = copy_model(model)
    editor = LayerEditor(result)
    channels = trace_channels(GraphView(model))
    free = [source for source in channels.layers if _is_free(channels, source)]
    factors = {source: np.ones(len(editor.bias(_layer(channels, source)))) for source in free}
    rounds = 0
    while free and rounds < ROUNDS:
        rounds += 1
        if max(_equalize(editor, channels, source, factors) for source in free) < CONVERGED:
            break
    editor.apply()
    spread = [float(factor.max() / factor.min()) for factor in factors.values()]
    note = f"{len(free)} of {len(channels.layers)} layers, factors up to {max(spread, default=1.0):.3g} apart"
    return result, {"equalisation": note}


def _layer(channels: Channels, source: str) -> str:
    return channels.graph.name_of(channels.layers[source])


def _is_free(channels: Channels, source: str) -> bool:
    """Whether all that a source's channels meet are layers that can take the factor, or hand it on."""
    graph = channels.graph
    for name in channels.tensors_of(source):
        if name in graph.outputs:
            return False
        for node in graph.readers(name):
            plain = node.op_type in QUANTIZED_OPERATORS and node.input[0] == name and is_plain_layer(graph, node)
            if not plain and not channels.carries(node):
                return False
    return True


def _equalize(editor: LayerEditor, channels: Channels, source: str, factors: dict[str, NDArray[np.float64]]) -> float:
    """Equalises one source's channels; gives the largest change, as a logarithm."""
    maker, readers = _layer(channels, source), _readers(channels, source)
    if not readers:
        return 0.0
    first = _by_channel(editor, maker)
    made = np.abs(first).max(axis=1)
    read = np.max([np.abs(_slice(editor, channels, name, part)).max(axis=(0, 2)) for name, part in readers], axis=0)
    alive = (made > 0) & (read > 0)
    step = np.ones_like(made)
    step[alive] = np.sqrt(made[alive] / read[alive])
    bounded = np.clip(factors[source] * step, 1 / LARGEST_FACTOR, LARGEST_FACTOR)
    step, factors[source] = bounded / factors[source], bounded
    _scale_outputs(editor, maker, 1 / step)
    for name, part in readers:
        _scale_inputs(editor, channels, name, part, step)
    return float(np.abs(np.log(step)).max())


def _readers(channels: Channels, source: str) -> list[tuple[str, tuple[int, int]]]:
    """The layers that read a source's channels, and the range of their inputs that these are."""
    found: list[tuple[str, tuple[int, int]]] = []
    for name in channels.tensors_of(source):
        start = 0
        for part in channels.parts[name]:
            width = _width(channels, part)
            if part == source:
                layers = (node for node in channels.graph.readers(name) if node.op_type in QUANTIZED_OPERATORS)
                found += [(channels.graph.name_of(node), (start, start + width)) for node in layers]
            start += width
    return found


def _width(channels: Channels, source: str) -> int:
    layer = channels.layers[source]
    return int(outputs_first(layer, channels.graph.constant(layer.input[1])).shape[0])


def _by_channel(editor: LayerEditor, name: str) -> NDArray[np.float64]:
    """A layer's weights as (outputs, everything else)."""
    weight = outputs_first(editor.graph.node(name), editor.weight(name))
    return weight.reshape(len(weight), -1)


def _slice(editor: LayerEditor, channels: Channels, name: str, part: tuple[int, int]) -> NDArray[np.float64]:
    """A layer's weights for some input channels, (outputs, channels, positions)."""
    weight = outputs_first(editor.graph.node(name), editor.weight(name))
    return weight.reshape(len(weight), _inputs(channels, name), -1)[:, part[0] : part[1]]


def _inputs(channels: Channels, name: str) -> int:
    node = channels.graph.node(name)
    return sum(_width(channels, part) for part in channels.parts[node.input[0]])


def _scale_outputs(editor: LayerEditor, name: str, factor: NDArray[np.float64]) -> None:
    node, weight = editor.graph.node(name), editor.weight(name)
    turned = outputs_first(node, weight)
    turned = turned * factor.reshape(-1, *[1] * (weight.ndim - 1))
    editor.set_weight(name, outputs_first(node, turned))
    editor.set_bias(name, editor.bias(name) * factor)


def _scale_inputs(
    editor: LayerEditor, channels: Channels, name: str, part: tuple[int, int], factor: NDArray[np.float64]
) -> None:
    node, weight = editor.graph.node(name), editor.weight(name)
    turned = outputs_first(node, weight)
    split = turned.reshape(len(turned), _inputs(channels, name), -1).copy()
    split[:, part[0] : part[1]] *= factor[:, None]
    editor.set_weight(name, outputs_first(node, split.reshape(turned.shape)))
