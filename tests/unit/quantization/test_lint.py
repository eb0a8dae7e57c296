"""Every rule of the lint on a graph that breaks it alone, and on one that does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from googlenet_deploy.calibration.options import PlacementOptions
from googlenet_deploy.calibration.table import CalibrationTable
from googlenet_deploy.quantization.lint import ERROR, WARNING, Finding, has_quantisation, lint_model
from googlenet_deploy.quantization.qdq_insert import QdqOptions
from googlenet_deploy.quantization.quantized_model import round_to_nearest

NetOf = Callable[..., Any]


def rules(model: onnx.ModelProto) -> dict[str, str]:
    return {finding.rule: finding.severity for finding in lint_model(model)}


def only(model: onnx.ModelProto, rule: str) -> Finding:
    """The one rule that is broken; each of its findings names a node and says something."""
    findings = lint_model(model)
    assert {finding.rule for finding in findings} == {rule}
    assert all(finding.node and finding.message for finding in findings)
    assert f"[{rule}]" in findings[0].text()
    return findings[0]


def sound(net: NetOf, weight_scale: Any = 0.01, scale: Any = 0.1, zero: Any = 0, **attributes: Any) -> Any:
    """A convolution between pairs, with one scale for all weights; the caller ends the net."""
    graph = net()
    name = graph.conv(graph.pair("input", scale=scale, zero=zero, **attributes), "conv1", 4)
    weight = graph.pair("conv1.weight", scale=weight_scale)
    last = graph.nodes.pop(), graph.nodes.pop()
    graph.nodes[-2:-2] = reversed(last)
    convolution = next(node for node in graph.nodes if node.op_type == "Conv")
    convolution.input[1] = weight
    return graph, name


def ended(graph: Any, top: str) -> onnx.ModelProto:
    flat = graph.add("Flatten", [top], "flat", axis=1)
    graph.add("ReduceMean", [flat], "logits", axes=[1], keepdims=1)
    model: onnx.ModelProto = graph.model(classes=1)
    return model


@pytest.mark.parametrize("options", [{}, {"dla": True}, {"quantize_input": False}, {"quantize_classifier": False}])
@pytest.mark.parametrize("weights", ["float", "int8"])
def test_our_own_models_are_clean(
    mini: NetOf, mini_table: CalibrationTable, options: dict[str, bool], weights: str
) -> None:
    quantized = round_to_nearest(mini(), mini_table, PlacementOptions(**options))
    assert lint_model(quantized.build(QdqOptions(weights))) == []


def test_a_float_model_has_nothing_to_lint(mini: NetOf) -> None:
    assert lint_model(mini()) == []
    assert not has_quantisation(mini())


def test_a_sound_model_is_clean(net: NetOf) -> None:
    model = ended(*sound(net))
    assert lint_model(model) == []
    assert has_quantisation(model)


def test_operators_on_integers(net: NetOf) -> None:
    graph = net()
    parameters = [graph.constant("s", np.float32(0.1)), graph.constant("z", np.int8(0))]
    graph.add("QuantizeLinear", ["input", *parameters], "q")
    graph.constant("w", np.ones((4, 3, 1, 1), np.int8))
    graph.channels["c"] = 4
    graph.add("QLinearConv", ["q", *parameters, "w", *parameters, *parameters], "c", kernel_shape=[1, 1])
    model = ended(graph, graph.add("DequantizeLinear", ["c", *parameters], "d"))
    found = {finding.rule: finding for finding in lint_model(model)}
    assert set(found) == {"integer-operator", "lone-quantize"}
    assert all(finding.severity == ERROR and finding.repairable for finding in found.values())
    assert "QLinearConv has no form in TensorRT" in found["integer-operator"].message


def test_operators_without_a_float_form_are_not_mendable() -> None:
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])]
    values = [helper.make_tensor_value_info("x", 1, [4])], [helper.make_tensor_value_info("y", 2, [4])]
    model = helper.make_model(helper.make_graph(nodes, "g", *values))
    finding = only(model, "integer-operator")
    assert not finding.repairable


def test_another_domain(net: NetOf) -> None:
    model = ended(*sound(net))
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain = "com.microsoft"
    finding = only(model, "domain")
    assert (finding.severity, finding.repairable) == (ERROR, True)


@pytest.mark.parametrize(("zero", "words"), [(128, "int8 in all but name"), (0, "signed INT8 alone")])
def test_unsigned_pairs(net: NetOf, zero: int, words: str) -> None:
    finding = only(ended(*sound(net, zero=np.uint8(zero))), "unsigned")
    assert words in finding.message
    assert (finding.severity, finding.repairable) == (ERROR, True)


def test_a_missing_zero_point_is_unsigned(net: NetOf) -> None:
    model = ended(*sound(net))
    for node in model.graph.node:
        if node.name == "input/pair/q":
            del node.input[2:]
    assert rules(model)["unsigned"] == ERROR


def test_another_zero_point_than_zero(net: NetOf) -> None:
    finding = only(ended(*sound(net, zero=-3)), "zero-point")
    assert "has the zero point -3" in finding.message
    assert (finding.severity, finding.repairable) == (ERROR, True)


@pytest.mark.parametrize(("position", "rule"), [(2, "zero-point"), (1, "scale")])
def test_computed_parameters(net: NetOf, position: int, rule: str) -> None:
    graph, top = sound(net)
    name = ("input/pair/scale", "input/pair/zero")[position - 1]
    graph.nodes.insert(0, helper.make_node("Identity", [name], ["computed"], "computed"))
    for node in graph.nodes:
        if node.name.startswith("input/pair"):
            node.input[position] = "computed"
    found = [finding for finding in lint_model(ended(graph, top)) if finding.rule == rule]
    assert len(found) == 2
    assert all("computed, not a constant" in finding.message and not finding.repairable for finding in found)


def test_an_int32_bias(net: NetOf) -> None:
    graph, top = sound(net)
    bias = graph.stored("bias", np.arange(4, dtype=np.int32), 0.001)
    graph.nodes.insert(0, graph.nodes.pop())
    next(node for node in graph.nodes if node.op_type == "Conv").input[2] = bias
    finding = only(ended(graph, top), "int32-bias")
    assert (finding.node, finding.severity, finding.repairable) == ("bias", ERROR, True)


def test_a_quantised_constant_read_by_another_operator(net: NetOf) -> None:
    graph, top = sound(net)
    graph.constant("table", np.ones((1, 4, 1, 1), np.int8))
    graph.nodes.append(helper.make_node("Cast", ["table"], ["factors"], "cast", to=1))
    graph.channels["scaled"] = 4
    finding = only(ended(graph, graph.add("Mul", [top, "factors"], "scaled")), "quantised-constant")
    assert "'table'" in finding.message
    assert finding.severity == ERROR


@pytest.mark.parametrize(("operator", "repairable"), [("MaxPool", True), ("Cast", False)])
def test_integers_read_by_another_operator(net: NetOf, operator: str, repairable: bool) -> None:
    graph, top = sound(net)
    attributes = {"kernel_shape": [1, 1]} if operator == "MaxPool" else {"to": 3}
    graph.nodes.append(helper.make_node(operator, ["input/pair/q"], ["integers"], "reader", **attributes))
    finding = only(ended(graph, top), "lone-quantize")
    assert f"{operator} (reader) reads its integers" in finding.message
    assert (finding.severity, finding.repairable) == (ERROR, repairable)


def test_a_quantised_output(net: NetOf) -> None:
    model = ended(*sound(net))
    model.graph.output.append(helper.make_tensor_value_info("input/pair/q", 3, None))
    assert only(model, "quantised-output").severity == WARNING


@pytest.mark.parametrize("scale", [0.0, -0.5, np.nan, np.inf])
def test_impossible_scales(net: NetOf, scale: float) -> None:
    finding = only(ended(*sound(net, scale=scale)), "scale")
    assert "not a positive number" in finding.message


def test_scales_of_half_precision(net: NetOf) -> None:
    model = ended(*sound(net))
    for tensor in model.graph.initializer:
        if tensor.name == "input/pair/scale":
            tensor.CopyFrom(numpy_helper.from_array(np.float16([0.1]).reshape(()), tensor.name))
    finding = only(model, "scale-type")
    assert "float16" in finding.message


def test_per_channel_scales_in_an_old_opset(net: NetOf) -> None:
    model = ended(*sound(net, weight_scale=[0.01] * 4))
    model.opset_import[0].version = 12
    assert rules(model)["opset"] == ERROR


def test_scales_in_blocks(net: NetOf) -> None:
    model = ended(*sound(net))
    for node in model.graph.node:
        if node.name.startswith("input/pair"):
            node.attribute.append(helper.make_attribute("block_size", 16))
    assert only(model, "block-size").severity == ERROR


def test_an_activation_with_a_scale_per_channel(net: NetOf) -> None:
    finding = only(ended(*sound(net, scale=[0.1] * 3, zero=np.zeros(3, np.int8), axis=1)), "activation-per-channel")
    assert (finding.severity, finding.repairable) == (ERROR, True)


class TestPlaces:
    """Pairs that TensorRT builds, but slowly or badly."""

    def test_weights_without_a_pair(self, net: NetOf) -> None:
        graph = net()
        finding = only(ended(graph, graph.conv(graph.pair("input"), "conv1", 4)), "one-sided")
        assert "its weights are not quantised" in finding.message

    def test_an_input_without_a_pair(self, net: NetOf) -> None:
        graph, top = sound(net)
        next(node for node in graph.nodes if node.op_type == "Conv").input[0] = "input"
        graph.nodes = [node for node in graph.nodes if not node.name.startswith("input/pair")]
        assert "its input is not quantised" in only(ended(graph, top), "one-sided").message

    def test_weights_along_the_wrong_axis(self, net: NetOf) -> None:
        graph, top = sound(net, weight_scale=[0.01] * 3)
        for node in graph.nodes:
            if node.name.startswith("conv1.weight/pair"):
                node.attribute.append(helper.make_attribute("axis", 1))
        finding = only(ended(graph, top), "weight-axis")
        assert "along axis 1; TensorRT requires the output channels, axis 0" in finding.message
        assert finding.severity == ERROR

    @pytest.mark.parametrize(("transposed", "axis"), [(1, 0), (0, 1)])
    def test_a_gemms_axis_depends_on_its_transposition(self, net: NetOf, transposed: int, axis: int) -> None:
        graph = net()
        pooled = graph.add("GlobalAveragePool", [graph.pair("input")], "pooled")
        flat = graph.pair(graph.add("Flatten", [pooled], "flat", axis=1))
        shape = (6, 3) if transposed else (3, 6)
        graph.channels["weights"] = 0
        weight = graph.stored("weights", np.ones(shape, np.int8), [0.1] * 6, axis=axis)
        graph.add("Gemm", [flat, weight], "logits", transB=transposed)
        assert lint_model(graph.model()) == []
        wrong = graph.stored("wrong", np.ones((6, 6), np.int8), [0.1] * 6, axis=1 - axis)
        graph.nodes.insert(-2, graph.nodes.pop())
        graph.nodes[-1].input[1] = wrong
        assert rules_unchecked(graph, "weight-axis")

    def test_a_pair_ahead_of_lrn(self, net: NetOf) -> None:
        graph, top = sound(net)
        finding = only(ended(graph, graph.lrn(graph.pair(top), "norm1")), "lrn")
        assert finding.node == "conv1/pair"
        assert (finding.severity, finding.repairable) == (WARNING, True)

    def test_a_pair_ahead_of_a_pool_that_lrn_reads(self, net: NetOf) -> None:
        graph, top = sound(net)
        pooled = graph.max_pool(graph.pair(top), "maxpool1")
        assert only(ended(graph, graph.lrn(pooled, "norm1")), "lrn").node == "conv1/pair"

    def test_a_pair_between_a_layer_and_its_activation(self, net: NetOf) -> None:
        graph, _ = sound(net)
        relu = graph.nodes.pop()
        relu.input[0] = graph.pair("conv1/conv")
        graph.nodes.append(relu)
        finding = only(ended(graph, "conv1"), "before-activation")
        assert (finding.node, finding.repairable) == ("conv1/conv/pair", True)

    def test_two_scales_around_a_max_pool(self, net: NetOf) -> None:
        graph, top = sound(net)
        behind = graph.pair(graph.max_pool(graph.pair(top, scale=0.1), "maxpool1"), scale=0.2)
        finding = only(ended(graph, behind), "maxpool-scale")
        assert (finding.node, finding.repairable) == ("maxpool1/pair", True)
        graph, top = sound(net)
        behind = graph.pair(graph.max_pool(graph.pair(top, scale=0.1), "maxpool1"), scale=0.1)
        assert lint_model(ended(graph, behind)) == []

    @pytest.mark.parametrize("side", ["before", "after"])
    def test_an_average_pool_with_a_pair_on_one_side(self, net: NetOf, side: str) -> None:
        graph, top = sound(net)
        source = graph.pair(top) if side == "before" else top
        pooled = graph.add("GlobalAveragePool", [source], "pooled")
        finding = only(ended(graph, graph.pair(pooled) if side == "after" else pooled), "averagepool")
        assert f"has a pair {side} it alone" in finding.message

    def test_a_concat_of_several_scales(self, net: NetOf) -> None:
        graph, top = sound(net)
        joined = graph.concat([graph.pair(top, "a", 0.1), graph.pair(top, "b", 0.2)], "joined")
        found = rules(ended(graph, joined))
        assert found == {"concat-scales": WARNING, "double-pair": WARNING}
        graph, top = sound(net)
        one = graph.pair(top, "a", 0.1)
        assert lint_model(ended(graph, graph.concat([one, one], "joined"))) == []

    def test_two_pairs_on_one_tensor(self, net: NetOf) -> None:
        for scale, repairable in ((0.1, True), (0.3, False)):
            graph, top = sound(net)
            graph.channels["sum"] = 4
            both = graph.add("Add", [graph.pair(top, "a", 0.1), graph.pair(top, "b", scale)], "sum")
            finding = only(ended(graph, both), "double-pair")
            assert (finding.node, finding.repairable) == ("b", repairable)

    def test_a_quantised_parameter(self, net: NetOf) -> None:
        graph, top = sound(net)
        factors = graph.stored("factors", np.ones((1, 4, 1, 1), np.int8), 0.5)
        graph.channels["scaled"] = 4
        finding = only(ended(graph, graph.add("Mul", [top, factors], "scaled")), "quantised-parameter")
        assert (finding.node, finding.repairable) == ("factors", True)


def rules_unchecked(graph: Any, rule: str) -> bool:
    """Whether a rule is broken in a graph whose shapes do not fit, which nothing here computes."""
    values = (
        [helper.make_tensor_value_info("input", 1, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("logits", 1, None)],
    )
    constants = [numpy_helper.from_array(value, name) for name, value in graph.constants.items()]
    model = helper.make_model(helper.make_graph(graph.nodes, "g", *values, constants))
    return rule in rules(model)


def test_errors_come_first(net: NetOf) -> None:
    graph, top = sound(net, zero=5)
    findings = lint_model(ended(graph, graph.lrn(graph.pair(top), "norm1")))
    assert [finding.severity for finding in findings] == [ERROR, ERROR, WARNING]
