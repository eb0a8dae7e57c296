from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from googlenet_deploy.errors import UsageError
from googlenet_deploy.export.half_precision.fp32_layers import choose_fp32
from googlenet_deploy.export.half_precision.ranges import LayerRange
from googlenet_deploy.export.half_precision.types import BF16, FP16
from googlenet_deploy.graph.shapes import restate_shapes

IMAGE = ("input", TensorProto.FLOAT, ["batch", 4, 6, 6])


@pytest.fixture
def net(model_of: Any) -> Any:
    """Conv, LRN, Conv, Softmax."""
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["a"], "conv1"),
        helper.make_node("LRN", ["a"], ["b"], "norm", size=3),
        helper.make_node("Conv", ["b", "w"], ["c"], "conv2"),
        helper.make_node("Softmax", ["c"], ["out"], "softmax", axis=1),
    ]
    weights = {"w": np.ones((4, 4, 1, 1), np.float32)}
    model = model_of(nodes, [IMAGE], [("out", TensorProto.FLOAT, ["batch", 4, 6, 6])], weights, opset=22, ir_version=10)
    restate_shapes(model)
    return model


def ranges(**inside: float) -> list[LayerRange]:
    names = {"conv1": "Conv", "norm": "LRN", "conv2": "Conv", "softmax": "Softmax"}
    return [LayerRange(name, operator, 1.0, inside.get(name, 0.0)) for name, operator in names.items()]


def test_only_softmax_stays_where_everything_is_small(net: Any) -> None:
    assert list(choose_fp32(net, FP16, ranges(), ())) == ["softmax"]


def test_sums_beyond_fp16_stay_with_their_size(net: Any) -> None:
    chosen = choose_fp32(net, FP16, ranges(norm=1e6), ())
    assert list(chosen) == ["norm", "softmax"]
    assert "sums up to 1e+06" in chosen["norm"]
    assert "65504" in chosen["norm"]


def test_there_is_headroom_for_other_images(net: Any) -> None:
    assert "norm" not in choose_fp32(net, FP16, ranges(norm=16000), ())
    assert "norm" in choose_fp32(net, FP16, ranges(norm=17000), ())


def test_bf16_reaches_as_far_as_fp32(net: Any) -> None:
    assert list(choose_fp32(net, BF16, ranges(norm=1e30), ())) == ["softmax"]


def test_what_the_user_keeps_by_name_or_operator(net: Any) -> None:
    assert choose_fp32(net, FP16, ranges(), ["conv1"])["conv1"] == "as asked"
    assert list(choose_fp32(net, FP16, ranges(), ["Conv"])) == ["conv1", "conv2", "softmax"]
    with pytest.raises(UsageError, match="no layer or operator 'conv9'"):
        choose_fp32(net, FP16, ranges(), ["conv1", "conv9"])


def test_operators_without_the_type_in_this_opset(net: Any) -> None:
    net.opset_import[0].version = 17
    assert choose_fp32(net, BF16, ranges(), ())["conv1"] == "ONNX has no BF16 Conv in opset 17"


def test_weights_that_do_not_fit(model_of: Any) -> None:
    nodes = [helper.make_node("Conv", ["input", "w"], ["out"], "conv")]
    weights = {"w": np.full((4, 4, 1, 1), 7e4, np.float32)}
    model = model_of(nodes, [IMAGE], [("out", TensorProto.FLOAT, ["batch", 4, 6, 6])], weights)
    restate_shapes(model)
    assert choose_fp32(model, FP16, [], ())["conv"] == "weights up to 7e+04"
    assert choose_fp32(model, BF16, [], ())["conv"].startswith("ONNX has no BF16")


@pytest.mark.parametrize(("operator", "constant"), [("Add", 1e-12), ("Div", 1e-9), ("Mul", -1e-8)])
def test_constants_that_vanish_keep_their_layer(model_of: Any, operator: str, constant: float) -> None:
    nodes = [helper.make_node(operator, ["input", "k"], ["out"], "tiny")]
    out = ("out", TensorProto.FLOAT, ["batch", 4, 6, 6])
    model = model_of(nodes, [IMAGE], [out], {"k": np.float32(constant)}, opset=22, ir_version=10)
    restate_shapes(model)
    assert choose_fp32(model, FP16, [], ())["tiny"] == f"its constant of {abs(constant):.3g} is too small for FP16"
    assert choose_fp32(model, BF16, [], ()) == {}


def test_epsilons_that_fp16_holds_and_biases_that_vanish_cost_nothing(model_of: Any) -> None:
    nodes = [
        helper.make_node("Add", ["input", "k"], ["a"], "epsilon"),
        helper.make_node("Conv", ["a", "w", "b"], ["out"], "conv"),
    ]
    weights = {"k": np.float32(1e-6), "w": np.ones((4, 4, 1, 1), np.float32), "b": np.full(4, 1e-9, np.float32)}
    model = model_of(nodes, [IMAGE], [("out", TensorProto.FLOAT, ["batch", 4, 6, 6])], weights)
    restate_shapes(model)
    assert choose_fp32(model, FP16, [], ()) == {}


def test_values_that_vanish_keep_the_layer_that_makes_them(net: Any) -> None:
    measured = [LayerRange("conv1", "Conv", 3e-7, 0.0), LayerRange("conv2", "Conv", 1e-3, 0.0)]
    chosen = choose_fp32(net, FP16, measured, ())
    assert list(chosen) == ["conv1", "softmax"]
    assert chosen["conv1"] == "values of 3e-07 at most, which FP16 rounds to 0 or nearly so"


def quantized(model_of: Any, weight_scale: float) -> Any:
    """Q/DQ, Conv on INT8 weights, a sibling on the same activations, Relu."""
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dq"),
        helper.make_node("DequantizeLinear", ["w", "ws", "z"], ["wd"], "wdq"),
        helper.make_node("Conv", ["d", "wd"], ["a"], "conv"),
        helper.make_node("DequantizeLinear", ["w", "ws2", "z"], ["wd2"], "wdq2"),
        helper.make_node("Conv", ["d", "wd2"], ["b"], "sibling"),
        helper.make_node("Add", ["a", "b"], ["c"], "add"),
        helper.make_node("Relu", ["c"], ["out"], "relu"),
    ]
    constants = {
        "s": np.float32(0.1),
        "z": np.int8(0),
        "w": np.ones((4, 4, 1, 1), np.int8),
        "ws": np.float32(weight_scale),
        "ws2": np.float32(0.01),
    }
    out = ("out", TensorProto.FLOAT, ["batch", 4, 6, 6])
    model = model_of(nodes, [IMAGE], [out], constants, opset=19, ir_version=9)
    restate_shapes(model)
    return model


def test_scales_that_fp16_holds(model_of: Any) -> None:
    # The input is float32, so its QuantizeLinear is too; the rest is FP16.
    assert choose_fp32(quantized(model_of, 0.001), FP16, [], ()) == {"q": "what it quantises is FP32"}


def test_a_scale_that_fp16_does_not_hold_keeps_the_fusion_together(model_of: Any) -> None:
    chosen = choose_fp32(quantized(model_of, 1e-6), FP16, [], ())
    assert "too small for FP16" in chosen["wdq"]
    # Layer and dequantised inputs have one type, and siblings share the input.
    assert {"dq", "wdq", "conv", "sibling", "wdq2"} <= set(chosen)
    assert not {"add", "relu"} & set(chosen)


def test_operators_that_state_their_own_type(model_of: Any) -> None:
    nodes = [
        helper.make_node("Shape", ["input"], ["s"], "shape"),
        helper.make_node("ConstantOfShape", ["s"], ["zeros"], "zeros"),
        helper.make_node("Add", ["input", "zeros"], ["out"], "add"),
    ]
    model = model_of(nodes, [IMAGE], [("out", TensorProto.FLOAT, ["batch", 4, 6, 6])])
    restate_shapes(model)
    assert choose_fp32(model, FP16, [], ()) == {"zeros": "ConstantOfShape states its own type"}


def test_operators_of_other_domains_stay(model_of: Any) -> None:
    node = helper.make_node("Gelu", ["input"], ["out"], "gelu", domain="com.microsoft")
    model = model_of([node], [IMAGE], [("out", TensorProto.FLOAT, ["batch", 4, 6, 6])])
    assert "gelu" in choose_fp32(model, FP16, [], ())
