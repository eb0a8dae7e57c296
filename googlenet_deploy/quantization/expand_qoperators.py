"""Rewrites integer operators as float operators between Q/DQ pairs, the only form that TensorRT reads.

ONNX Runtime's quantiser makes two kinds in its QOperator format: operators with scales of their own (QLinearConv, and
Microsoft's such as QGemm), and plain operators such as MaxPool that work directly on the integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import requires
from googlenet_deploy.graph.edit import replace_nodes, to_tensor, unique_name
from googlenet_deploy.graph.graph import SHAPE_OPERATORS, GraphView, attribute, tensor_names
from googlenet_deploy.quantization.qdq_pairs import DEQUANTIZE, QUANTIZE

with requires("export"):
    import onnx
    from onnx import helper

if TYPE_CHECKING:
    from collections.abc import Sequence

VALUE_KEEPING = SHAPE_OPERATORS | {"MaxPool"}


@dataclass(frozen=True)
class IntegerForm:
    """The float form of an integer operator, and where its inputs are.

    Attributes:
        operator: The float operator.
        data: Positions of the integer inputs; each is followed by its scale and zero point.
        result: Position of the output's scale; it is followed by the zero point.
        bias: Position of the INT32 bias, or None.
    """

    operator: str
    data: tuple[int, ...]
    result: int
    bias: int | None = None


# ONNX's own, and those that ONNX Runtime documents in its ContribOperators.md.
FORMS = {
    "QLinearConv": IntegerForm("Conv", (0, 3), 6, bias=8),
    "QLinearMatMul": IntegerForm("MatMul", (0, 3), 6),
    "QGemm": IntegerForm("Gemm", (0, 3), 7, bias=6),
    "QLinearAdd": IntegerForm("Add", (0, 3), 6),
    "QLinearMul": IntegerForm("Mul", (0, 3), 6),
    "QLinearAveragePool": IntegerForm("AveragePool", (0,), 3),
    "QLinearGlobalAveragePool": IntegerForm("GlobalAveragePool", (0,), 3),
    "QLinearLeakyRelu": IntegerForm("LeakyRelu", (0,), 3),
    "QLinearSigmoid": IntegerForm("Sigmoid", (0,), 3),
    "QLinearConcat": IntegerForm("Concat", (), 0),  # its inputs begin after the output's scale
}


def form_of(graph: GraphView, node: onnx.NodeProto) -> IntegerForm | None:
    """The float form of a node; None if it has none for these inputs and attributes."""
    form = FORMS.get(node.op_type)
    if form is None or attribute(node, "channels_last", 0):
        return None
    if node.op_type == "QLinearConcat":
        form = IntegerForm("Concat", tuple(range(2, len(node.input), 3)), 0)
    wanted = [position + offset for position in (*form.data, form.result - 1) for offset in (1, 2)]
    if node.op_type == "QGemm" and len(node.input) <= form.result:  # its output is float
        wanted = wanted[:-2]
    if not all(position < len(node.input) and graph.is_constant(node.input[position]) for position in wanted):
        return None
    return form


def expand_integer_operators(model: onnx.ModelProto) -> list[str]:
    """Rewrites every integer operator that has a float form; returns notes of how many."""
    expander = _Expander(model)
    for node in expander.graph.nodes:
        expander.visit(node)
    if not expander.count:
        return []
    replace_nodes(model.graph, expander.nodes)
    return [f"{counted(expander.count, 'operator')} on integers written as float operators between Q/DQ pairs"]


class _Expander:
    """Rewrites nodes in graph order, and records the scale with which each integer tensor was made."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.graph = model, GraphView(model)
        self.taken = tensor_names(model.graph)
        self.nodes: list[onnx.NodeProto] = []
        self.parameters: dict[str, list[str]] = {}
        self.count = 0

    def visit(self, node: onnx.NodeProto) -> None:
        form = form_of(self.graph, node)
        if form is not None:
            self._expand(node, form)
        elif node.op_type in VALUE_KEEPING and node.input[0] in self.parameters:
            self._wrap(node)
        else:
            self.nodes.append(node)
            if node.op_type == QUANTIZE:
                self.parameters[node.output[0]] = list(node.input[1:])

    def _expand(self, node: onnx.NodeProto, form: IntegerForm) -> None:
        name = self.graph.name_of(node)
        inputs = [
            self._dequantized(f"{name}/input{number}", node.input[position : position + 3], self._axis(node, number))
            for number, position in enumerate(form.data)
        ]
        if form.bias is not None and len(node.input) > form.bias and node.input[form.bias]:
            inputs.append(self._bias(node, form.bias, name))
        parameters = list(node.input[form.result : form.result + 2])
        made = unique_name(f"{name}/float", self.taken) if parameters else node.output[0]
        floating = helper.make_node(form.operator, inputs, [made], name=name)
        floating.attribute.extend(entry for entry in node.attribute if entry.name != "channels_last")
        self.nodes.append(floating)
        self.count += 1
        if parameters:
            self._quantize(name, made, parameters, node.output[0])

    def _wrap(self, node: onnx.NodeProto) -> None:
        name, parameters = self.graph.name_of(node), self.parameters[node.input[0]]
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[0] = self._dequantized(f"{name}/input", [node.input[0], *parameters], None)
        copy.output[0] = unique_name(f"{name}/float", self.taken)
        self.nodes.append(copy)
        self.count += 1
        self._quantize(name, copy.output[0], parameters, node.output[0])

    def _dequantized(self, stem: str, parts: Sequence[str], axis: int | None) -> str:
        made = unique_name(stem, self.taken)
        pair = helper.make_node(DEQUANTIZE, parts, [made], name=f"{stem}/DequantizeLinear")
        if axis is not None:
            pair.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(pair)
        return made

    def _quantize(self, name: str, source: str, parameters: list[str], result: str) -> None:
        self.nodes.append(
            helper.make_node(QUANTIZE, [source, *parameters], [result], name=f"{name}/output/QuantizeLinear")
        )
        self.parameters[result] = parameters

    def _axis(self, node: onnx.NodeProto, number: int) -> int | None:
        """Axis of the weights' output channels, if each channel has its own scale."""
        if number != 1 or self.graph.constant(node.input[4]).size == 1:
            return None
        if node.op_type == "QGemm":
            return 0 if attribute(node, "transB", 0) else 1
        return 0 if node.op_type == "QLinearConv" else self.graph.constant(node.input[3]).ndim - 1

    def _bias(self, node: onnx.NodeProto, position: int, name: str) -> str:
        """An INT32 bias counts in steps of input scale times weight scale (times a Gemm's alpha)."""
        steps = self.graph.constant(node.input[1]).reshape(()) * self.graph.constant(node.input[4]).reshape(-1)
        value = self.graph.constant(node.input[position]).astype(np.float32) * steps * attribute(node, "alpha", 1.0)
        stored = unique_name(f"{name}/bias", self.taken)
        self.model.graph.initializer.append(to_tensor(value.astype(np.float32), stored))
        return stored
