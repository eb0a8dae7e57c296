"""The cost of a model, layer by layer, measured on the model itself: sizes, parameters, multiply-adds, live memory.

The graph is traced with torch.fx and shapes are propagated on the meta device, so nothing is computed. A convolution
with its BatchNorm and ReLU is one layer, as in the paper's Table 1.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from googlenet_deploy.errors import UsageError, requires

with requires("export"):
    import torch
    from torch import fx, nn
    from torch.fx.passes.shape_prop import ShapeProp

    from googlenet_deploy.model.blocks import ConvBlock, ConvRelu
    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.model.local_response_norm import LocalResponseNorm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FLOAT32_BYTES = 4
SMALLEST_INPUT = 32
# These pass on the memory of their input, or do nothing outside training.
ALIASES = (nn.Dropout, nn.Identity)


@dataclass(frozen=True)
class LayerCost:
    """One layer, for one image.

    Attributes:
        name: Path of the module, such as "inception3a.branch2.1"; "inception3a.concat" for a concatenation.
        kind: Its kind: "convolution 7x7/2", "max pool 3x3/2", "LRN", "concat", "avg pool", "linear".
        output: Output shape without the batch: (C, H, W), or (C,) after the classifier.
        parameters: Number of learned values.
        weights: Number of learned values without biases and BatchNorm, as counted in the paper.
        multiply_adds: Multiply-adds of convolutions and the classifier; 0 elsewhere.
        activation_bytes: Size of the output in float32.
        live_bytes: Activations in memory while the layer runs, its own output included.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    weights: int
    multiply_adds: int
    activation_bytes: int
    live_bytes: int


@dataclass(frozen=True)
class ModelSummary:
    """All layers of a model in execution order."""

    layers: tuple[LayerCost, ...]

    @property
    def parameters(self) -> int:
        """Total number of learned values."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Total multiply-adds per image."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def peak(self) -> LayerCost:
        """The layer at which most activation memory is live.

        A tensor lives from the layer that produces it to its last consumer. Every ReLU works in place, dropout and
        flattening copy nothing, and no other layer overwrites its input.
        """
        return max(self.layers, key=lambda layer: layer.live_bytes)

    def by_module(self) -> tuple[LayerCost, ...]:
        """The same with each Inception module as one layer, as in the paper's Table 1."""
        groups: dict[str, list[LayerCost]] = {}
        for layer in self.layers:
            groups.setdefault(layer.name.partition(".")[0], []).append(layer)
        return tuple(_joined(name, layers) for name, layers in groups.items())


def summarize(model: GoogLeNet, input_size: int = 224) -> ModelSummary:
    """Measures a model's inference graph.

    Args:
        model: The model; it is not changed, and its auxiliary classifiers are not counted.
        input_size: Height and width of the input, in pixels.

    Raises:
        UsageError: The input is too small for the network.
    """
    if input_size < SMALLEST_INPUT:
        raise UsageError(f"the input of a GoogLeNet is at least {SMALLEST_INPUT} pixels wide, not {input_size}")
    measured = copy.deepcopy(model).to("meta").eval().without_auxiliary()
    graph = fx.GraphModule(measured, _BlockTracer().trace(measured))
    ShapeProp(graph).propagate(torch.empty(1, measured.in_channels, input_size, input_size, device="meta"))
    return ModelSummary(tuple(_layers(graph)))


class _BlockTracer(fx.Tracer):
    """Traces a convolution with its ReLU, and LRN, as single nodes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, ConvBlock | ConvRelu | LocalResponseNorm) or super().is_leaf_module(
            m, module_qualified_name
        )


def _layers(graph: fx.GraphModule) -> Iterator[LayerCost]:
    nodes = list(graph.graph.nodes)
    position = {node: index for index, node in enumerate(nodes)}
    last_use = {node: _last_use(graph, node, position) for node in nodes}
    previous = ""
    for index, node in enumerate(nodes):
        if node.op in {"placeholder", "output"} or _is_alias(graph, node):
            continue
        live = [other for other in nodes[: index + 1] if not _is_alias(graph, other) and last_use[other] >= index]
        name = str(node.target) if node.op == "call_module" else f"{previous.partition('.')[0]}.concat"
        previous = name
        yield _cost(graph, node, name, sum(_bytes(other) for other in live))


def _last_use(graph: fx.GraphModule, node: fx.Node, position: dict[fx.Node, int]) -> int:
    """Position of the last node that reads a tensor, directly or through nodes that only pass it on."""
    uses = (_last_use(graph, user, position) if _is_alias(graph, user) else position[user] for user in node.users)
    return max(uses, default=position[node])


def _is_alias(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), ALIASES)
    return node.op == "call_function" and node.target is torch.flatten


def _shape(node: fx.Node) -> tuple[int, ...]:
    """The node's output shape without the batch."""
    return tuple(node.meta["tensor_meta"].shape[1:]) if "tensor_meta" in node.meta else ()


def _bytes(node: fx.Node) -> int:
    return math.prod(_shape(node)) * FLOAT32_BYTES if node.op != "output" else 0


def _cost(graph: fx.GraphModule, node: fx.Node, name: str, live_bytes: int) -> LayerCost:
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    output = _shape(node)
    weights = _weights(module)
    return LayerCost(
        name=name,
        kind=_kind(module),
        output=output,
        parameters=sum(parameter.numel() for parameter in module.parameters()) if module is not None else 0,
        weights=weights,
        multiply_adds=weights * math.prod(output[1:]),
        activation_bytes=_bytes(node),
        live_bytes=live_bytes,
    )


def _weights(module: nn.Module | None) -> int:
    if isinstance(module, ConvBlock):
        return module.conv.weight.numel()
    return module.weight.numel() if isinstance(module, nn.Linear | nn.Conv2d) else 0


def _kind(module: nn.Module | None) -> str:
    convolution = module.conv if isinstance(module, ConvBlock) else module
    if isinstance(convolution, nn.Conv2d):
        kernel, stride = convolution.kernel_size[0], convolution.stride[0]
        return f"convolution {kernel}x{kernel}/{stride}"
    if isinstance(module, nn.MaxPool2d):
        return f"max pool {module.kernel_size}x{module.kernel_size}/{module.stride}"
    names: dict[type, str] = {nn.AdaptiveAvgPool2d: "avg pool", nn.Linear: "linear", LocalResponseNorm: "LRN"}
    return names.get(type(module), "concat")


def _joined(name: str, layers: Iterable[LayerCost]) -> LayerCost:
    layers = list(layers)
    if len(layers) == 1:
        return layers[0]
    return LayerCost(
        name=name,
        kind="inception",
        output=layers[-1].output,
        parameters=sum(layer.parameters for layer in layers),
        weights=sum(layer.weights for layer in layers),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        activation_bytes=sum(layer.activation_bytes for layer in layers),
        live_bytes=max(layer.live_bytes for layer in layers),
    )
