"""Writes a plan into a model as QuantizeLinear and DequantizeLinear, in the form that every TensorRT since 8.0 reads.

Opset 13 is the smallest with per-channel pairs; older models are converted to it. All zero points are 0 and int8, all
scales float32 constants, biases stay float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.targets.target import Target, reads_integer_weights
from googlenet_deploy.errors import UsageError, VerificationError, requires
from googlenet_deploy.graph.edit import copy_model, drop_unread_constants, replace_nodes, to_tensor, unique_name
from googlenet_deploy.graph.graph import GraphView, attribute, opset_of
from googlenet_deploy.graph.opset import ConvertOpset
from googlenet_deploy.quantization.linear_layers import BIAS, find_bias
from googlenet_deploy.quantization.options import WEIGHT_FORMS

with requires("export"):
    import onnx
    from onnx import helper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from googlenet_deploy.calibration.placement import QuantizationPlan, QuantizedNode
    from googlenet_deploy.quantization.weights import QuantizedWeight

SMALLEST_OPSET, IR_VERSION = 13, 7  # opset 13 goes with IR version 7


@dataclass(frozen=True)
class QdqOptions:
    """How the pairs are written.

    Attributes:
        weights: "float" stores weights as float32, followed by a Q/DQ pair; "int8" stores the integers, followed by a
            DequantizeLinear alone, in a quarter of the space. TensorRT has read the first form since it
            first read Q/DQ graphs, the second since 8.5 (`targets.reads_integer_weights`), and the engine is the
            same: TensorRT folds the pair while it builds. The stored floats are exact multiples of the scale, so that
            the pair reproduces the chosen integers, learned rounding included.
    """

    weights: str = "float"

    def __post_init__(self) -> None:
        if self.weights not in WEIGHT_FORMS:
            raise UsageError(f"weights are written as {' or '.join(WEIGHT_FORMS)}, not {self.weights!r}")


def weights_for(target: Target | None) -> str:
    """How weights are best stored for a target: as integers if all of its TensorRT versions read them."""
    return "int8" if target is not None and reads_integer_weights(target) else "float"


def insert_qdq(
    model: onnx.ModelProto,
    plan: QuantizationPlan,
    scales: Mapping[str, float],
    weights: Mapping[str, QuantizedWeight],
    biases: Mapping[str, NDArray[np.float32]] | None = None,
    *,
    options: QdqOptions | None = None,
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """A copy of an FP32 model with the plan's Q/DQ pairs.

    Args:
        model: The FP32 model that `plan` was made for; it is not changed.
        plan: Which tensors and nodes are quantised.
        scales: The scale of every tensor of the plan, in the tensor's unit per step.
        weights: The integers of every node of the plan, by node name.
        biases: float32 biases that replace or add to the model's, by node name.
        options: How the pairs are written.
        metadata: Entries that are added to the model's ``metadata_props``, replacing those with the same key.

    Raises:
        UsageError: A tensor or node of the plan has no scale or weights.
    """
    missing = [name for name in plan.tensors if name not in scales] + [
        n.name for n in plan.nodes if n.name not in weights
    ]
    if missing:
        raise UsageError(f"it is unknown how {missing[0]!r} is quantised")
    result = lift_opset(model)
    _QdqWriter(result, plan, options or QdqOptions()).write(scales, weights, biases or {})
    _add_metadata(result, metadata or {})
    onnx.checker.check_model(result)
    return result


def lift_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model in opset 13 or later.

    Raises:
        VerificationError: One of its operators has no form in opset 13.
    """
    copy = copy_model(model)
    if opset_of(copy) < SMALLEST_OPSET:
        try:
            ConvertOpset(SMALLEST_OPSET, max(copy.ir_version, IR_VERSION)).run(copy)
        except VerificationError as error:
            raise VerificationError(error.message, f"export the model again, in opset {SMALLEST_OPSET}") from error
    return copy


class _QdqWriter:
    """Changes one model in place."""

    def __init__(self, model: onnx.ModelProto, plan: QuantizationPlan, options: QdqOptions) -> None:
        self.model, self.plan, self.options = model, plan, options
        self.graph = GraphView(model)
        self.taken = set(self.graph.producers) | set(self.graph.initializers) | set(self.graph.inputs)
        self.added: list[onnx.TensorProto] = []
        self.biases: dict[str, tuple[onnx.NodeProto, int, tuple[int, ...]]] = {}
        self.before: dict[str, list[onnx.NodeProto]] = {}  # new nodes, by the node that they go before

    def write(
        self,
        scales: Mapping[str, float],
        weights: Mapping[str, QuantizedWeight],
        biases: Mapping[str, NDArray[np.float32]],
    ) -> None:
        dequantised = {name: self._activation_pair(name, scales[name]) for name in self.plan.tensors}
        renamed = {
            (reader, name): pair[1].output[0]
            for name, pair in dequantised.items()
            for reader in self.plan.readers[name]
        }
        planned_here = {planned.name for planned in self.plan.nodes}  # the model may be a part of the whole model
        self.biases = {name: self._find_bias(name) for name in biases if name in planned_here}  # before renaming
        for planned in self.plan.nodes:
            self._write_layer(planned, weights[planned.name], biases.get(planned.name))
        for node in self.graph.nodes:
            reader = self.graph.name_of(node)
            for index, name in enumerate(node.input):
                node.input[index] = renamed.get((reader, name), name)
        self._rebuild(dequantised)

    def _activation_pair(self, name: str, scale: float) -> list[onnx.NodeProto]:
        constants = [
            self._add(f"{name}/scale", np.asarray(scale, np.float32)),
            self._add(f"{name}/zero_point", np.asarray(0, np.int8)),
        ]
        return self._pair(name, name, constants)

    def _pair(self, stem: str, source: str, constants: list[str], axis: int | None = None) -> list[onnx.NodeProto]:
        quantised, restored = (
            unique_name(f"{stem}/quantized", self.taken),
            unique_name(f"{stem}/dequantized", self.taken),
        )
        pair = [
            helper.make_node("QuantizeLinear", [source, *constants], [quantised], name=f"{stem}/QuantizeLinear"),
            helper.make_node("DequantizeLinear", [quantised, *constants], [restored], name=f"{stem}/DequantizeLinear"),
        ]
        if axis is not None:
            for node in pair:
                node.attribute.append(helper.make_attribute("axis", axis))
        return pair

    def _write_layer(self, planned: QuantizedNode, weight: QuantizedWeight, bias: NDArray[np.float32] | None) -> None:
        node = self.graph.node(planned.name)
        stem = unique_name(f"{planned.name}/weight", self.taken)
        constants = [
            self._add(f"{stem}/scale", weight.scales),
            self._add(f"{stem}/zero_point", np.zeros(weight.scales.shape, np.int8)),
        ]
        if self.options.weights == "int8":
            stored = self._add(f"{stem}/int8", weight.values)
            pair = self._pair(stem, stored, constants, axis=weight.axis)[1:]
            pair[0].input[0] = stored
        else:
            pair = self._pair(stem, self._add(f"{stem}/float", weight.dequantize()), constants, axis=weight.axis)
        node.input[1] = pair[-1].output[0]
        _state_kernel(node, weight)
        self.before.setdefault(planned.name, []).extend(pair)
        if bias is not None:
            self._write_bias(node, bias.astype(np.float32))

    def _write_bias(self, node: onnx.NodeProto, bias: NDArray[np.float32]) -> None:
        name = self.graph.name_of(node)
        holder, position, shape = self.biases[name]
        stored = self._add(f"{name}/corrected_bias", bias.reshape(shape))
        del holder.input[position : None if position == BIAS else position + 1]
        holder.input.insert(position, stored)

    def _find_bias(self, name: str) -> tuple[onnx.NodeProto, int, tuple[int, ...]]:
        """The node that holds or will hold a layer's bias, the position of the bias, and its shape."""
        node = self.graph.node(name)
        place = find_bias(self.graph, node)
        if node.op_type != "MatMul":
            return node, BIAS, (-1,)
        if place is None:
            raise UsageError(f"{name!r} has no place for a bias")
        return *place, self.graph.constant(place[0].input[place[1]]).shape

    def _add(self, name: str, array: NDArray[np.generic]) -> str:
        unique = unique_name(name, self.taken)
        self.added.append(to_tensor(array, unique))
        return unique

    def _rebuild(self, pairs: Mapping[str, list[onnx.NodeProto]]) -> None:
        """Puts each activation pair right after its producer and each weight pair right before its layer."""
        ordered = [node for name in self.graph.inputs for node in pairs.get(name, ())]
        for node in self.graph.nodes:
            ordered += [*self.before.get(self.graph.name_of(node), ()), node]
            ordered += [added for name in node.output for added in pairs.get(name, ())]
        replace_nodes(self.model.graph, ordered)
        self.model.graph.initializer.extend(self.added)
        drop_unread_constants(self.model.graph)


def _state_kernel(node: onnx.NodeProto, weight: QuantizedWeight) -> None:
    """States a convolution's kernel shape, which TensorRT 8.5's parser needs if the weights come from a pair.

    ONNX may leave it to the weights' shape; the parser then reports "The input tensor shape misaligns with the input
    kernel shape" (seen with 8.5.2).
    """
    if node.op_type in ("Conv", "ConvTranspose") and not attribute(node, "kernel_shape"):
        node.attribute.append(helper.make_attribute("kernel_shape", weight.values.shape[2:]))


def _add_metadata(model: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    properties = {entry.key: entry.value for entry in model.metadata_props}
    properties.update(metadata)
    helper.set_model_props(model, {key: properties[key] for key in sorted(properties)})
