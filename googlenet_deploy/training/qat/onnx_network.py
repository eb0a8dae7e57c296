"""The PyTorch network of an FP32 model that `export` wrote, and writing its weights back into the model.

Node names are module paths with slashes for dots, so every convolution finds its module; BatchNorm was folded into
the convolutions at the export, so the network has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.errors import BadModelError, VerificationError, requires
from googlenet_deploy.graph.edit import to_tensor
from googlenet_deploy.graph.graph import GraphView
from googlenet_deploy.graph.session import TensorSession
from googlenet_deploy.model.architecture import ARCHITECTURES, STEM_WIDTHS
from googlenet_deploy.quantization.linear_layers import outputs_first

with requires("train"):
    import onnx
    import torch
    from torch import Tensor, nn

    from googlenet_deploy.model.blocks import ConvBlock, ConvRelu
    from googlenet_deploy.model.googlenet import GoogLeNet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from googlenet_deploy.calibration.calibrate import CalibrationSource

LAYERS = frozenset({"Conv", "Gemm"})
STEM, CLASSIFIER = "conv1", "fc"
REMEDY = "pass the FP32 model that `export --weights` wrote, with float input"
TOLERANCE = 1e-3  # of the largest logit


@dataclass(frozen=True)
class OnnxNetwork:
    """A network and the model it came from.

    Attributes:
        model: The network, without BatchNorm and auxiliary classifiers, in eval mode.
        source: The FP32 model.
        graph: A view of its graph.
    """

    model: GoogLeNet
    source: CalibrationSource
    graph: GraphView


def module_path(name: str) -> str:
    """The module that a node or tensor is named after: ``inception3a/branch1/conv`` to ``inception3a.branch1.conv``."""
    return name.replace("/", ".")


def find_module(model: nn.Module, name: str) -> nn.Module | None:
    """The module that a node or tensor is named after, or None."""
    try:
        return model.get_submodule(module_path(name)) if name else None
    except AttributeError:
        return None


def layers(graph: GraphView) -> Iterator[tuple[str, onnx.NodeProto]]:
    """Names and nodes of all convolutions and linear layers."""
    return ((graph.name_of(node), node) for node in graph.nodes if node.op_type in LAYERS)


def open_network(source: CalibrationSource) -> OnnxNetwork:
    """Builds the network of a model and checks that its outputs match.

    Raises:
        BadModelError: The model was not written by `export --weights`, or was changed in a way that the PyTorch network
            cannot reproduce.
        VerificationError: The network's outputs differ.
    """
    graph = GraphView(source.model, source.path)
    architecture = ARCHITECTURES.get(source.properties.get("architecture", ""))
    if architecture is None:
        raise BadModelError(source.path, "does not state which GoogLeNet it is", REMEDY)
    if source.preprocessing.dtype != "float32" or source.preprocessing.layout != "NCHW":
        raise BadModelError(source.path, "normalises images inside, which training does outside", REMEDY)
    found = dict(layers(graph))
    classifier = found.get(CLASSIFIER)
    if classifier is None or classifier.op_type != "Gemm":
        raise BadModelError(source.path, "has no classifier named fc", REMEDY)
    num_classes = len(_weight(graph, classifier))
    model = GoogLeNet(architecture, num_classes, in_channels=len(source.preprocessing.channels))
    _without_batch_norm(model)
    _check_names(model, found, source.path)
    for name, node in found.items():
        _replace(model, name, graph, node)
    model.width = len(_weight(graph, found[STEM if architecture.bare_layers else f"{STEM}/conv"])) / STEM_WIDTHS[0]
    model.update_widths()
    network = OnnxNetwork(model.eval(), source, graph)
    _verify(network, classifier.output[0])
    return network


def with_weights(network: OnnxNetwork, weights: Mapping[str, tuple[Tensor, Tensor]]) -> onnx.ModelProto:
    """A copy of the FP32 model with other weights.

    Args:
        network: The network as it was opened.
        weights: Per layer, by node name, its weight as PyTorch has it and its bias.
    """
    model = onnx.ModelProto()
    model.CopyFrom(network.source.model)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, node in layers(GraphView(model, network.source.path)):
        weight, bias = (value.detach().cpu().float().numpy() for value in weights[name])
        stored = outputs_first(node, weight)  # which is its own inverse
        tensors[node.input[1]].CopyFrom(to_tensor(np.ascontiguousarray(stored), node.input[1]))
        tensors[node.input[2]].CopyFrom(to_tensor(bias, node.input[2]))
    return model


def _weight(graph: GraphView, node: onnx.NodeProto) -> NDArray[np.float32]:
    """A layer's weight as PyTorch has it: output channels first."""
    return outputs_first(node, graph.constant(node.input[1]).astype(np.float32))


def _without_batch_norm(model: GoogLeNet) -> None:
    for module in model.modules():
        if isinstance(module, ConvBlock):
            module.bn = None


def _check_names(model: GoogLeNet, found: Mapping[str, onnx.NodeProto], path: str) -> None:
    expected = {n.replace(".", "/") for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    different = sorted(expected ^ set(found))
    if different:
        raise BadModelError(path, f"its layers are not those of a GoogLeNet: {different[0]}", REMEDY)
    without = [name for name, node in found.items() if len(node.input) < 3 or not node.input[2]]
    if without:
        raise BadModelError(path, f"its layer {without[0]} has no bias", REMEDY)


def _replace(model: GoogLeNet, name: str, graph: GraphView, node: onnx.NodeProto) -> None:
    """Replaces a layer by one with the stored shape and weights."""
    weight = torch.from_numpy(_weight(graph, node).copy())
    bias = torch.from_numpy(graph.constant(node.input[2]).astype(np.float32).copy())
    parent, _, leaf = module_path(name).rpartition(".")
    old = model.get_submodule(module_path(name))
    layer: nn.Conv2d | nn.Linear
    if isinstance(old, nn.Conv2d):
        outputs, inputs, height, width = weight.shape
        if isinstance(old, ConvRelu):
            layer = ConvRelu(inputs, outputs, height, old.stride[0])
        else:
            layer = nn.Conv2d(inputs, outputs, (height, width), stride=old.stride[0], padding=int(old.padding[0]))
    else:
        layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    setattr(model.get_submodule(parent), leaf, layer)


def _verify(network: OnnxNetwork, logits_name: str) -> None:
    source = network.source
    height, width = source.preprocessing.crop
    generator = np.random.default_rng(0)
    images = generator.normal(0.0, 1.0, (2, len(source.preprocessing.channels), height, width))
    spec = source.preprocessing
    # As wide as prepared images are: a pixel's 0 to 255, scaled.
    images = (images * 64.0 * spec.scale / spec.std[0]).astype(np.float32)
    wanted = TensorSession(source.model, [logits_name], path=source.path).run(images)[logits_name]
    with torch.inference_mode():
        got = network.model(torch.from_numpy(images)).numpy()
    difference = float(np.abs(wanted - got).max() / max(1e-12, float(np.abs(wanted).max())))
    if not difference <= TOLERANCE:
        raise VerificationError(
            f"{source.path}: PyTorch's network computes something else, {difference:.2g} of the largest logit", REMEDY
        )
