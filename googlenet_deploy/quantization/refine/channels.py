"""Where the channels of an activation go: through pools and Concats, up to the layers that read them.

Changes to the FP32 model that leave its result as it was (offset activations, equalisation) move a factor or a constant
from a layer to all readers of its channels. So they must know every reader, and that nothing else happens in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.calibration.placement import QUANTIZED_OPERATORS, is_scaled_gemm
from googlenet_deploy.graph.edit import to_tensor, unique_name
from googlenet_deploy.graph.graph import GraphView, attribute
from googlenet_deploy.quantization.linear_layers import BIAS, WEIGHT, may_have_bias, read_bias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx
    from numpy.typing import NDArray

# Operators that keep channels apart and their order, one input and one output each.
CARRIERS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Dropout", "Flatten"})


@dataclass(frozen=True)
class Channels:
    """The sources of a graph, and which tensors are made of them.

    A source is the output of a ReLU that directly follows a layer with constant weights; it is named by its tensor.

    Attributes:
        graph: The graph.
        layers: The layer before the ReLU that makes a source, by source.
        parts: The sources whose channels a tensor holds, in order, by tensor; other tensors are missing.
    """

    graph: GraphView
    layers: Mapping[str, onnx.NodeProto]
    parts: Mapping[str, tuple[str, ...]]

    def tensors_of(self, source: str) -> list[str]:
        """The tensors that hold a source's channels, in graph order."""
        return [name for name, parts in self.parts.items() if source in parts]

    def carries(self, node: onnx.NodeProto) -> bool:
        """Whether a node passes its input's channels on to a tensor of `parts`."""
        return bool(node.output) and node.output[0] in self.parts and node.op_type in CARRIERS | {"Concat"}

    def families(self) -> Iterator[tuple[str, ...]]:
        """Sets of sources that share a tensor, directly or through others."""
        root = {source: source for source in self.layers}

        def find(source: str) -> str:
            while root[source] != source:
                source = root[source]
            return source

        for parts in self.parts.values():
            for source in parts:
                root[find(source)] = find(parts[0])
        for leader in dict.fromkeys(find(source) for source in self.layers):
            yield tuple(source for source in self.layers if find(source) == leader)


def trace_channels(graph: GraphView) -> Channels:
    """Follows the channels of every source of a graph."""
    layers: dict[str, onnx.NodeProto] = {}
    parts: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes:
        layer = _layer_behind(graph, node)
        if layer is not None:
            layers[node.output[0]] = layer
            parts[node.output[0]] = (node.output[0],)
        elif node.op_type in CARRIERS and node.input[0] in parts:
            parts[node.output[0]] = parts[node.input[0]]
        elif node.op_type == "Concat" and attribute(node, "axis") == 1 and all(name in parts for name in node.input):
            parts[node.output[0]] = tuple(source for name in node.input for source in parts[name])
    return Channels(graph, layers, parts)


def _layer_behind(graph: GraphView, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """The layer before this node, if the node is a ReLU and the only reader of that layer's output."""
    if node.op_type != "Relu" or node.input[0] in graph.outputs or len(graph.readers(node.input[0])) != 1:
        return None
    layer = graph.producers.get(node.input[0])
    return (
        layer if layer is not None and layer.op_type in QUANTIZED_OPERATORS and is_plain_layer(graph, layer) else None
    )


def is_plain_layer(graph: GraphView, node: onnx.NodeProto) -> bool:
    """Whether a node is a convolution without groups, or a Gemm of the linear layer's form, with constant weights."""
    if node.op_type not in ("Conv", "Gemm") or not all(graph.is_constant(name) for name in node.input[1:] if name):
        return False
    if not may_have_bias(graph, node):
        return False
    return attribute(node, "group", 1) == 1 if node.op_type == "Conv" else not is_scaled_gemm(node)


class LayerEditor:
    """Changes weights and biases of a model's layers; `apply` writes them into it.

    They are kept in float64 until then, so that any number of changes costs neither precision nor memory.

    Args:
        model: The model to change.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.graph = GraphView(model)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._taken = {*self.graph.producers, *self.graph.initializers, *self.graph.inputs}
        self._changed: dict[tuple[str, int], NDArray[np.float64]] = {}  # by layer and position of the input

    def weight(self, name: str) -> NDArray[np.float64]:
        """A layer's weights, float64, shaped as they are stored."""
        return self._value(name, WEIGHT)

    def bias(self, name: str) -> NDArray[np.float64]:
        """A layer's bias, float64 (output channels,); zeros if it has none."""
        changed = self._changed.get((name, BIAS))
        return read_bias(self.graph, name).astype(np.float64) if changed is None else changed

    def set_weight(self, name: str, value: NDArray[np.float64]) -> None:
        """Replaces a layer's weights."""
        self._changed[name, WEIGHT] = value

    def set_bias(self, name: str, value: NDArray[np.float64]) -> None:
        """Replaces a layer's bias, or adds one."""
        self._changed[name, BIAS] = value

    def add(self, name: str, value: NDArray[np.floating]) -> str:
        """Stores a float32 constant under a unique name, which is returned."""
        unique = unique_name(name, self._taken)
        self.model.graph.initializer.append(to_tensor(np.asarray(value, np.float32), unique))
        return unique

    def apply(self) -> None:
        """Writes all changes into the model, as float32."""
        for (name, position), value in self._changed.items():
            self._write(self.graph.node(name), position, value)
        self._changed.clear()

    def _value(self, name: str, position: int) -> NDArray[np.float64]:
        changed = self._changed.get((name, position))
        if changed is not None:
            return changed
        return self.graph.constant(self.graph.node(name).input[position]).astype(np.float64)

    def _write(self, node: onnx.NodeProto, position: int, value: NDArray[np.float64]) -> None:
        while len(node.input) <= position:
            node.input.append("")
        name = node.input[position]
        if name in self._constants and len(self.graph.consumers[name]) == 1:
            self._constants[name].CopyFrom(to_tensor(value.astype(np.float32), name))
        else:  # shared with another layer, a Constant node's, or absent
            kind = "weight" if position == WEIGHT else "bias"
            node.input[position] = self.add(f"{self.graph.name_of(node)}/{kind}", value)
