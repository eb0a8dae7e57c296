"""Puts fake quantisation into a network at the points where `quantize` puts Q/DQ pairs into its model.

The points come from the same plan (`calibration/placement.py`), by the names that the graph and the network share: a
tensor that is quantised for all its consumers is quantised at its producer, any other at the consumer. Tensors of one
scale group share one quantiser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.errors import BadModelError, requires
from googlenet_deploy.graph.graph import SHAPE_OPERATORS
from googlenet_deploy.quantization.linear_layers import outputs_first
from googlenet_deploy.quantization.refine.activation_offset import biases_without_shifts
from googlenet_deploy.quantization.weights import LARGEST_CODE, QuantizedWeight
from googlenet_deploy.training.qat.onnx_network import REMEDY, OnnxNetwork, find_module, layers, with_weights

with requires("train"):
    import torch
    from torch import Tensor, nn
    from torch.nn.utils import parametrize

    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.training.qat.quantizers import ActivationQuantizer, WeightQuantizer

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from googlenet_deploy.calibration.placement import QuantizationPlan, ScaleGroup
    from googlenet_deploy.quantization.quantized_model import QuantizedModel

QUANTIZERS = "quantizers"  # the name of the network's module that holds the quantisers of activations
INSIDE = 0.48  # in steps: how far a weight may be from its code's centre at the start; 0.5 is the edge of the next code


@dataclass(frozen=True)
class TrainedQuantization:
    """The result of quantisation-aware training, in the form that `insert_qdq` accepts.

    Attributes:
        model: The FP32 model with the trained weights and biases.
        scales: The scale of every tensor of the plan.
        weights: The integers of every quantised node, by node name.
        offsets: The offsets that the INT8 model subtracts, by tensor.
        changes: The factors by which scales were changed: smallest and largest.
    """

    model: onnx.ModelProto
    scales: dict[str, float]
    weights: dict[str, QuantizedWeight]
    offsets: dict[str, float]
    changes: tuple[float, float]


def insert_fake_quantization(network: OnnxNetwork, quantized: QuantizedModel, *, learned: bool) -> None:
    """Changes a network in place so that it computes the same as the quantised model.

    Args:
        network: The network.
        quantized: The quantised model to start from, plain or refined.
        learned: Let training change the scales of activations and weights.

    Raises:
        BadModelError: A point of the quantised model's plan has no counterpart in the network.
    """
    model, plan = network.model, quantized.plan
    quantizers = nn.ModuleList()
    for group in plan.groups:
        quantizer = _quantizer_of(group, quantized, learned=learned)
        quantizers.append(quantizer)
        for tensor in group.members:
            if not _is_quantised_already(tensor, network, plan):
                _attach(quantizer, tensor, network, plan)
    model.add_module(QUANTIZERS, quantizers)
    for name, bias in biases_without_shifts(quantized).items():
        layer = _layer(model, name)
        assert layer.bias is not None
        layer.bias.data.copy_(torch.from_numpy(bias))
    for node in plan.nodes:
        _quantise_weight(_layer(model, node.name), network.graph.node(node.name), quantized.weights[node.name], learned)


def extract(network: OnnxNetwork, model: GoogLeNet, quantized: QuantizedModel) -> TrainedQuantization:
    """Reads the trained weights and scales out of a network.

    Args:
        network: As it was opened.
        model: A network that `insert_fake_quantization` changed, or a copy of it, after training.
        quantized: The quantised model that it was changed by.
    """
    plan = quantized.plan
    quantizers = model.get_submodule(QUANTIZERS)
    assert isinstance(quantizers, nn.ModuleList)
    scales, changes, moved = {}, [], {}
    for group, quantizer in zip(plan.groups, quantizers, strict=True):
        assert isinstance(quantizer, ActivationQuantizer)
        scales.update(dict.fromkeys(group.members, float(quantizer.scale().item())))
        changes.append(quantizer.scale.change())
        if quantizer.steps:
            moved[quantized.offsets[group.observed[0]]] = quantizer.offset()
    floats = {name: plain_layer(model, name) for name, _ in layers(network.graph)}
    weights = {}
    for node in plan.nodes:
        quantizer = _weight_quantizer(model, node.name)
        changes.append(quantizer.scale.change())
        codes = _codes(floats[node.name][0], quantizer)
        values = np.ascontiguousarray(outputs_first(network.graph.node(node.name), codes))
        weights[node.name] = QuantizedWeight(values, quantizer.scale().detach().cpu().numpy(), node.axis)
    every = torch.cat(changes)
    return TrainedQuantization(
        model=with_weights(network, floats),
        scales=scales,
        weights=weights,
        offsets={tensor: moved[offset] for tensor, offset in quantized.offsets.items()},
        changes=(float(every.min()), float(every.max())),
    )


def _quantizer_of(group: ScaleGroup, quantized: QuantizedModel, *, learned: bool) -> ActivationQuantizer:
    """The quantiser of a group; one that shares its offset with other groups keeps its scale, to keep the offset."""
    scale = quantized.scales[group.observed[0]]
    offset = quantized.offsets.get(group.observed[0], 0.0)
    sharing = sum(quantized.offsets.get(other.observed[0]) == offset for other in quantized.plan.groups)
    return ActivationQuantizer(scale, round(offset / scale), learned=learned and sharing <= 1)


def _quantise_weight(layer: nn.Module, node: onnx.NodeProto, start: QuantizedWeight, learned: bool) -> None:
    """Makes a layer round its weights, initially to the given codes.

    A weight whose code is not the nearest one is moved to the edge of its code's cell, from where a small step takes it
    back.
    """
    scales = torch.from_numpy(start.scales.copy())
    parametrize.register_parametrization(layer, "weight", WeightQuantizer(scales, learned=learned))
    weight = layer.get_submodule("parametrizations.weight").get_parameter("original")
    steps = scales.view(-1, *[1] * (weight.dim() - 1))
    codes = torch.from_numpy(np.ascontiguousarray(outputs_first(node, start.values))).float()
    low, high = (codes - INSIDE).clamp_min(-LARGEST_CODE), (codes + INSIDE).clamp_max(LARGEST_CODE)
    given = weight.data / steps
    nearest = given.round().clamp(-LARGEST_CODE, LARGEST_CODE) == codes
    weight.data.copy_(torch.where(nearest, weight.data, torch.clamp(given, low, high) * steps))


def _is_quantised_already(tensor: str, network: OnnxNetwork, plan: QuantizationPlan) -> bool:
    """Whether a tensor's values come from an already quantised tensor of its group, like a max-pool's output."""
    maker = network.graph.producers.get(tensor)
    if maker is None or maker.op_type not in SHAPE_OPERATORS | {"MaxPool"}:
        return False
    source = maker.input[0]
    return source in plan.group_of(tensor).members and network.graph.name_of(maker) in plan.readers[source]


def _attach(quantizer: ActivationQuantizer, tensor: str, network: OnnxNetwork, plan: QuantizationPlan) -> None:
    graph, model = network.graph, network.model
    everyone = {graph.name_of(node) for node in graph.readers(tensor)}
    if everyone == plan.readers[tensor] and tensor not in graph.outputs:
        if tensor in graph.inputs:
            model.register_forward_pre_hook(quantizer.on_input)
            return
        made_by = find_module(model, tensor)
        if made_by is not None:
            made_by.register_forward_hook(quantizer.on_output)
            return
    for reader in sorted(plan.readers[tensor]):
        module = find_module(model, reader)
        if module is None:
            raise BadModelError(
                network.source.path, f"PyTorch's network has no place to quantise {tensor} for {reader}", REMEDY
            )
        module.register_forward_pre_hook(quantizer.on_input)


def _layer(model: GoogLeNet, name: str) -> nn.Conv2d | nn.Linear:
    layer = find_module(model, name)
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    return layer


def _weight_quantizer(model: GoogLeNet, name: str) -> WeightQuantizer:
    chain = _layer(model, name).get_submodule("parametrizations.weight")
    quantizer = list(chain.children())[-1]
    assert isinstance(quantizer, WeightQuantizer)
    return quantizer


def plain_layer(model: GoogLeNet, name: str) -> tuple[Tensor, Tensor]:
    """A layer's weight before quantisation, and its bias."""
    layer = _layer(model, name)
    bias = layer.bias
    assert bias is not None
    if not parametrize.is_parametrized(layer, "weight"):
        return layer.weight.detach(), bias.detach()
    chain = layer.get_submodule("parametrizations.weight")
    weight = chain.get_parameter("original").detach()
    for step in chain.children():
        if not isinstance(step, WeightQuantizer):
            weight = step(weight)
    return weight, bias.detach()


def _codes(weight: Tensor, quantizer: WeightQuantizer) -> NDArray[np.int8]:
    """int8 codes of a weight, output channels first, rounded exactly as in the network."""
    scales = quantizer.scale().detach().view(-1, *[1] * (weight.dim() - 1))
    codes = (weight / scales).round().clamp(-LARGEST_CODE, LARGEST_CODE)
    array: NDArray[np.int8] = codes.cpu().to(torch.int8).contiguous().numpy()
    return array
