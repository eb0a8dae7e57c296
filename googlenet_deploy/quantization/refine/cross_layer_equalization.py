"""Cross-layer equalisation: channels of one tensor get like ranges, by scaling the weights of neighbouring layers.

A positive factor passes through a ReLU, so a channel may be divided by s where it is made and multiplied by s where it
is read; the factor passes through pools, Concats and zero padding as well. Folding batch normalisation leaves channels
whose ranges differ by orders of magnitude, and one scale per tensor rounds the small ones to zero.
Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv:1906.04721), section 4.1 and equation 11: s = sqrt(r1 r2) / r2 with r1 the channel's range in the weights that
make it and r2 in those that read it. Here a channel may have several readers (those of a Concat); the largest of their
ranges counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from googlenet_deploy.calibration.placement import QUANTIZED_OPERATORS
from googlenet_deploy.graph.edit import copy_model
from googlenet_deploy.graph.graph import GraphView
from googlenet_deploy.quantization.linear_layers import outputs_first
from googlenet_deploy.quantization.refine.channels import (
    Channels,
    LayerEditor,
    is_plain_layer,
    trace_channels,
)

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

ROUNDS = 20
CONVERGED = 1e-3
# A factor beyond this means that the channel is dead on one side; scaling it further gains nothing.
LARGEST_FACTOR = 1e4


class Reader(NamedTuple):
    """A layer, and which of its input channels are a source's."""

    name: str
    channels: slice


def equalize_channels(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Mapping[str, str]]:
    """A copy of a model that computes the same with equalised channels, and a note of what was done."""
    result = copy_model(model)
    channels = trace_channels(GraphView(model))
    equalizer = _Equalizer(LayerEditor(result), channels)
    for _ in range(ROUNDS):
        if equalizer.sweep() < CONVERGED:
            break
    equalizer.editor.apply()
    spread = max((float(factor.max() / factor.min()) for factor in equalizer.factors.values()), default=1.0)
    note = f"{len(equalizer.factors)} of {len(channels.layers)} layers, factors up to {spread:.3g} apart"
    return result, {"equalisation": note}


class _Equalizer:
    """Scales the layers around each source until the ranges meet.

    Args:
        editor: Editor of the model that is changed.
        channels: Where its channels go.

    Attributes:
        editor: The editor.
        factors: By source: what its channels were divided by so far; sources with any other reader are missing.
    """

    def __init__(self, editor: LayerEditor, channels: Channels) -> None:
        self.editor, self.channels = editor, channels
        self._makers = {source: channels.graph.name_of(layer) for source, layer in channels.layers.items()}
        self._widths = {source: len(editor.bias(name)) for source, name in self._makers.items()}
        free = [source for source in channels.layers if _is_free(channels, source)]
        self._readers = {source: list(self._find_readers(source)) for source in free}
        self.factors = {source: np.ones(self._widths[source]) for source in free}

    def sweep(self) -> float:
        """Equalises every source's channels once; returns the largest change, as a logarithm."""
        return max((self._equalize(source) for source in self.factors), default=0.0)

    def _find_readers(self, source: str) -> Iterator[Reader]:
        graph = self.channels.graph
        for tensor in self.channels.tensors_of(source):
            layers = [graph.name_of(node) for node in graph.readers(tensor) if node.op_type in QUANTIZED_OPERATORS]
            start = 0
            for part in self.channels.parts[tensor]:
                stop = start + self._widths[part]
                if part == source:
                    yield from (Reader(name, slice(start, stop)) for name in layers)
                start = stop

    def _equalize(self, source: str) -> float:
        maker, readers = self._makers[source], self._readers[source]
        if not readers:
            return 0.0
        made = np.abs(self._outputs(maker)).max(axis=1)
        read = np.max([np.abs(self._inputs(name)[:, part]).max(axis=(0, 2)) for name, part in readers], axis=0)
        alive = (made > 0) & (read > 0)
        step = np.ones_like(made)
        step[alive] = np.sqrt(made[alive] / read[alive])
        bounded = np.clip(self.factors[source] * step, 1 / LARGEST_FACTOR, LARGEST_FACTOR)
        step, self.factors[source] = bounded / self.factors[source], bounded
        self._set(maker, self._outputs(maker) / step[:, None])
        self.editor.set_bias(maker, self.editor.bias(maker) / step)
        for name, part in readers:
            weight = self._inputs(name).copy()
            weight[:, part] *= step[:, None]
            self._set(name, weight)
        return float(np.abs(np.log(step)).max())

    def _outputs(self, name: str) -> NDArray[np.float64]:
        """A layer's weights as (outputs, everything else)."""
        weight = outputs_first(self.editor.graph.node(name), self.editor.weight(name))
        return weight.reshape(len(weight), -1)

    def _inputs(self, name: str) -> NDArray[np.float64]:
        """A layer's weights as (outputs, channels of what it reads, positions)."""
        parts = self.channels.parts[self.channels.graph.node(name).input[0]]
        weight = self._outputs(name)
        return weight.reshape(len(weight), sum(self._widths[part] for part in parts), -1)

    def _set(self, name: str, weight: NDArray[np.float64]) -> None:
        """Sets a layer's weights from the shape of `_outputs` or `_inputs`."""
        node = self.editor.graph.node(name)
        shape = outputs_first(node, self.editor.weight(name)).shape
        self.editor.set_weight(name, outputs_first(node, weight.reshape(shape)))


def _is_free(channels: Channels, source: str) -> bool:
    """Whether every reader of a source's channels can absorb the factor or pass it on."""
    graph = channels.graph
    for name in channels.tensors_of(source):
        if name in graph.outputs:
            return False
        for node in graph.readers(name):
            plain = node.op_type in QUANTIZED_OPERATORS and node.input[0] == name and is_plain_layer(graph, node)
            if not plain and not channels.carries(node):
                return False
    return True
