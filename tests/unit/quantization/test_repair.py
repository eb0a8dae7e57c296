"""Models of other tools, repaired: what ONNX Runtime's quantiser really makes, and each repair by itself."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from googlenet_deploy.errors import BadModelError, VerificationError
from googlenet_deploy.graph.graph import GraphView, serialize
from googlenet_deploy.graph.session import TensorSession
from googlenet_deploy.quantization.expand_qoperators import expand_integer_operators
from googlenet_deploy.quantization.lint import ERROR, lint_model
from googlenet_deploy.quantization.repair import RepairResult, repair_model

NetOf = Callable[..., Any]


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def logits(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = TensorSession(model)
    return np.asarray(session.run(images)[session.outputs[0]])


class Images:
    """onnxruntime's CalibrationDataReader, by duck typing."""

    def __init__(self, images: np.ndarray) -> None:
        self.rest = iter([{"input": image[None]} for image in images])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.rest, None)


@lru_cache
def quantised_by_onnxruntime(content: bytes, images: bytes, file_format: str, symmetric: bool, channels: bool) -> bytes:
    """What ``quantize_static`` makes of a model, by default or with symmetric INT8."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    CalibrationDataReader.register(Images)  # type: ignore[attr-defined]
    options: dict[str, Any] = {"per_channel": channels}
    if symmetric:
        options.update(activation_type=QuantType.QInt8, weight_type=QuantType.QInt8)
        options["extra_options"] = {"ActivationSymmetric": True, "WeightSymmetric": True}
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before, after = Path(folder) / "model.onnx", Path(folder) / "quantised.onnx"
            before.write_bytes(content)
            array = np.frombuffer(images, np.float32).reshape(-1, 3, 16, 16)
            quantize_static(before, after, Images(array), quant_format=QuantFormat[file_format], **options)
            return after.read_bytes()
    finally:
        logging.disable(level)


@pytest.fixture(
    params=[
        pytest.param((form, symmetric, channels), id=f"{form}-{'symmetric' if symmetric else 'default'}-{channels}")
        for form in ("QDQ", "QOperator")
        for symmetric, channels in ((False, False), (False, True), (True, True))
    ]
)
def foreign(request: pytest.FixtureRequest, mini: NetOf, pictures: Callable) -> onnx.ModelProto:
    """The small GoogLeNet as ONNX Runtime's quantiser writes it."""
    content = quantised_by_onnxruntime(serialize(mini()), pictures(8).tobytes(), *request.param)
    return onnx.ModelProto.FromString(content)


def test_what_onnxruntime_makes_is_refused_and_every_error_can_be_mended(foreign: onnx.ModelProto) -> None:
    errors = [finding for finding in lint_model(foreign) if finding.severity == ERROR]
    assert errors
    assert all(finding.repairable for finding in errors)


def test_what_onnxruntime_makes_is_mended(foreign: onnx.ModelProto, mini: NetOf, pictures: Callable) -> None:
    before = foreign.SerializeToString()
    result = repair_model(foreign)
    assert foreign.SerializeToString() == before, "the model that was given is not changed"
    assert result.left == []
    onnx.checker.check_model(result.model, full_check=True)
    wanted, theirs, repaired = (logits(model, pictures(32)) for model in (mini(), foreign, result.model))
    assert distance(wanted, repaired) > min(18.0, distance(wanted, theirs) - 3), "as good as what it was made from"
    assert operators(result.model).count("Relu") == operators(mini()).count("Relu"), "also where the quantiser took it"


def distance(wanted: np.ndarray, got: np.ndarray) -> float:
    """SQNR in dB."""
    return float(10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum()))


def test_lrn_reads_float_again(foreign: onnx.ModelProto) -> None:
    graph = GraphView(repair_model(foreign).model)
    for node in graph.nodes:
        if node.op_type == "LRN":
            maker = graph.producers[node.input[0]]
            while maker.op_type == "MaxPool":
                maker = graph.producers[maker.input[0]]
            assert maker.op_type == "Relu"


def test_every_layer_is_still_quantised(foreign: onnx.ModelProto) -> None:
    graph = GraphView(repair_model(foreign).model)
    for node in graph.nodes:
        if node.op_type in ("Conv", "Gemm"):
            assert [graph.producers[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2


def test_mending_twice_changes_nothing_more(foreign: onnx.ModelProto) -> None:
    once = repair_model(foreign).model
    again = repair_model(once)
    assert again.changes == []
    assert serialize(again.model) == serialize(once)


def ended(graph: Any, top: str) -> onnx.ModelProto:
    graph.channels["flat"] = 1
    flat = graph.add("Flatten", [top], "flat", axis=1)
    graph.add("ReduceMean", [flat], "logits", axes=[1], keepdims=1)
    model: onnx.ModelProto = graph.model(classes=1)
    return model


def repaired(model: onnx.ModelProto, images: np.ndarray, *, exact: bool) -> RepairResult:
    """Repairs, and checks what it says of itself."""
    result = repair_model(model)
    assert not [finding for finding in result.left if finding.severity == ERROR]
    before, after = logits(model, images), logits(result.model, images)
    if exact:
        assert np.allclose(before, after, rtol=1e-5, atol=1e-6)
    else:
        assert distance(before, after) > 15
    return result


def layer(net: NetOf, **pair: Any) -> tuple[Any, str]:
    """A convolution with quantised input and weights."""
    graph = net()
    source = graph.pair("input", **pair)
    weights = np.random.default_rng(1).integers(-127, 128, (4, 3, 1, 1)).astype(np.int8)
    weight = graph.stored("weight", weights, [0.01] * 4)
    graph.channels["conv1"] = 4
    return graph, graph.add("Conv", [source, weight], "conv1", kernel_shape=[1, 1])


def test_uint8_at_128_is_shifted_exactly(net: NetOf, pictures: Callable) -> None:
    result = repaired(ended(*layer(net, scale=1.5, zero=np.uint8(128))), pictures(4), exact=True)
    assert result.changes == ["1 uint8 pairs at zero point 128 made int8 at 0, exactly"]
    assert "exactly the original's" in result.difference or "SQNR" in result.difference


def test_an_asymmetric_range_is_covered_by_a_symmetric_one(net: NetOf, pictures: Callable) -> None:
    model = ended(*layer(net, scale=1.0, zero=np.uint8(90)))
    result = repaired(model, pictures(4), exact=False)
    assert "1 asymmetric pairs made symmetric: their steps are wider now" in result.changes
    graph = GraphView(result.model)
    quantize = next(node for node in graph.nodes if node.op_type == "QuantizeLinear")
    assert graph.constant(quantize.input[1]) == pytest.approx((255 - 90) / 127)


def test_unsigned_weights_become_signed(net: NetOf, pictures: Callable) -> None:
    graph = net()
    values = np.random.default_rng(2).integers(0, 256, (4, 3, 1, 1)).astype(np.uint8)
    weight = graph.stored("weight", values, [0.01] * 4, zero=128)
    graph.channels["conv1"] = 4
    top = graph.add("Conv", [graph.pair("input", scale=1.5), weight], "conv1", kernel_shape=[1, 1])
    result = repaired(ended(graph, top), pictures(4), exact=True)
    stored = [value for value in GraphView(result.model).initializers.values() if value.name == "weight/integers/int8"]
    assert np.array_equal(onnx.numpy_helper.to_array(stored[0]), (values.astype(int) - 128).astype(np.int8))


def test_asymmetric_weights_become_symmetric(net: NetOf, pictures: Callable) -> None:
    graph = net()
    values = np.random.default_rng(2).integers(0, 256, (4, 3, 1, 1)).astype(np.uint8)
    weight = graph.stored("weight", values, [0.01, 0.02, 0.01, 0.03], zero=100)
    graph.channels["conv1"] = 4
    top = graph.add("Conv", [graph.pair("input", scale=1.5), weight], "conv1", kernel_shape=[1, 1])
    result = repaired(ended(graph, top), pictures(4), exact=False)
    assert result.changes == ["1 asymmetric pairs made symmetric: their steps are wider now"]


def test_an_int32_bias_becomes_float(net: NetOf, pictures: Callable) -> None:
    graph, top = layer(net, scale=1.5)
    bias = graph.stored("bias", np.array([100, -50, 3, 0], np.int32), [0.015] * 4)
    graph.nodes.insert(0, graph.nodes.pop())
    next(node for node in graph.nodes if node.op_type == "Conv").input.append(bias)
    result = repaired(ended(graph, top), pictures(4), exact=True)
    assert result.changes == ["1 INT32 biases stored as float"]
    assert GraphView(result.model).constant("bias") == pytest.approx(np.array([100, -50, 3, 0]) * 0.015)


def test_microsofts_domain_becomes_onnxs(net: NetOf, pictures: Callable) -> None:
    model = ended(*layer(net, scale=1.5))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain = "com.microsoft"
    result = repaired(model, pictures(4), exact=True)
    assert result.changes == ["3 Q/DQ operators moved from com.microsoft to ONNX's own"]


def test_an_activations_scales_become_one(net: NetOf, pictures: Callable) -> None:
    model = ended(*layer(net, scale=[1.0, 2.0, 1.5], zero=np.zeros(3, np.int8), axis=1))
    result = repaired(model, pictures(4), exact=False)
    assert result.changes == ["1 activations with per-channel scales given one scale: the largest"]


def test_a_relu_that_a_zero_point_stood_in_for_comes_back(net: NetOf, pictures: Callable) -> None:
    graph, top = layer(net, scale=1.5)
    model = ended(graph, graph.pair(top, scale=3.0, zero=-128))
    result = repaired(model, pictures(8), exact=False)
    assert "1 ReLU put back that a zero point stood in for" in result.changes
    assert operators(result.model).count("Relu") == 1
    assert logits(result.model, pictures(8)).min() >= 0


def test_no_relu_comes_where_values_are_positive_anyway(net: NetOf, pictures: Callable) -> None:
    graph, top = layer(net, scale=1.5)
    relu = graph.add("Relu", [top], "relu1")
    result = repaired(ended(graph, graph.pair(relu, scale=3.0, zero=np.uint8(0))), pictures(4), exact=False)
    assert operators(result.model).count("Relu") == 1


def test_quantised_parameters_become_float(net: NetOf, pictures: Callable) -> None:
    for stored in (True, False):
        graph, top = layer(net, scale=1.5)
        values = np.array([3, -7, 100, 1]).reshape(1, 4, 1, 1)
        if stored:
            factors = graph.stored("factors", values.astype(np.int8), 0.02)
        else:
            factors = graph.pair(graph.constant("factors", (values * 0.021).astype(np.float32)), scale=0.02)
        graph.channels["scaled"] = 4
        result = repaired(ended(graph, graph.add("Mul", [top, factors], "scaled")), pictures(4), exact=True)
        assert result.changes == ["1 quantised parameter of other operators stored as float"]
        graph_view = GraphView(result.model)
        reader = next(node for node in graph_view.nodes if node.op_type == "Mul")
        assert graph_view.is_constant(reader.input[1])


def test_equal_pairs_are_shared_and_different_ones_stay(net: NetOf, pictures: Callable) -> None:
    graph, top = layer(net, scale=1.5)
    graph.channels["sum"] = 4
    model = ended(graph, graph.add("Add", [graph.pair(top, "a", 2.0), graph.pair(top, "b", 2.0)], "sum"))
    result = repaired(model, pictures(4), exact=True)
    assert result.changes == ["1 doubled pair shared"]
    assert operators(result.model).count("QuantizeLinear") == 2
    graph, top = layer(net, scale=1.5)
    graph.channels["sum"] = 4
    model = ended(graph, graph.add("Add", [graph.pair(top, "a", 2.0), graph.pair(top, "b", 3.0)], "sum"))
    assert repair_model(model).changes == []


def test_the_pair_behind_a_max_pool_takes_the_scale_in_front(net: NetOf, pictures: Callable) -> None:
    graph, top = layer(net, scale=1.5)
    behind = graph.pair(graph.max_pool(graph.pair(top, scale=3.0), "maxpool1"), scale=3.3)
    result = repaired(ended(graph, behind), pictures(4), exact=False)
    assert result.changes == ["1 pair after a MaxPool given the scale before it"]


def test_pairs_that_do_harm_go(net: NetOf, pictures: Callable) -> None:
    graph, top = layer(net, scale=1.5)
    relu = graph.add("Relu", [graph.pair(top, scale=3.0)], "relu1")
    pooled = graph.max_pool(graph.pair(relu, scale=3.0), "maxpool1")
    normed = graph.lrn(graph.pair(pooled, scale=3.0), "norm1")
    one, other = graph.pair(normed, "one", 2.0), graph.pair(normed, "other", 2.5)
    model = ended(graph, graph.pair(graph.concat([one, other], "joined"), scale=2.5))
    result = repaired(model, pictures(4), exact=False)
    assert result.changes == ["5 readers (LRN, fused activations, Concat) no longer read quantised values"]
    chain = [name for name in operators(result.model) if name not in ("QuantizeLinear", "DequantizeLinear")]
    assert chain == ["Conv", "Relu", "MaxPool", "LRN", "Concat", "Flatten", "ReduceMean"]


INTEGER_FORMS: dict[str, Callable[[Any, list[str], list[str]], str]] = {
    "QLinearAdd": lambda graph, data, out: graph.add("QLinearAdd", data + data + out, "made", domain="com.microsoft"),
    "QLinearMul": lambda graph, data, out: graph.add("QLinearMul", data + data + out, "made", domain="com.microsoft"),
    "QLinearAveragePool": lambda graph, data, out: graph.add(
        "QLinearAveragePool", data + out, "made", domain="com.microsoft", kernel_shape=[2, 2], strides=[2, 2]
    ),
    "QLinearGlobalAveragePool": lambda graph, data, out: graph.add(
        "QLinearGlobalAveragePool", data + out, "made", domain="com.microsoft", channels_last=0
    ),
    "QLinearLeakyRelu": lambda graph, data, out: graph.add(
        "QLinearLeakyRelu", data + out, "made", domain="com.microsoft", alpha=0.2
    ),
    "QLinearSigmoid": lambda graph, data, out: graph.add("QLinearSigmoid", data + out, "made", domain="com.microsoft"),
    "QLinearConcat": lambda graph, data, out: graph.add(
        "QLinearConcat", out + data + data, "made", domain="com.microsoft", axis=1
    ),
    "MaxPool": lambda graph, data, out: graph.add("MaxPool", data[:1], "made", kernel_shape=[2, 2], strides=[2, 2]),
}


@pytest.mark.parametrize("operator", list(INTEGER_FORMS))
def test_operators_on_integers_become_float_ones_between_pairs(net: NetOf, pictures: Callable, operator: str) -> None:
    graph = net()
    data = ["q", graph.constant("s", np.float32(1.0)), graph.constant("z", np.int8(0))]
    out = [graph.constant("ys", np.float32(2.0)), graph.constant("yz", np.int8(0))]
    if operator == "QLinearSigmoid":
        graph.constants["ys"] = np.float32(1 / 127)
    graph.add("QuantizeLinear", ["input", *data[1:]], "q")
    graph.channels["made"] = 6 if operator == "QLinearConcat" else 3
    made = INTEGER_FORMS[operator](graph, data, out)
    top = graph.add("DequantizeLinear", [made, *(data[1:] if operator == "MaxPool" else out)], "d")
    flat = graph.add("Flatten", [top], "flat", axis=1)
    graph.add("ReduceMean", [flat], "logits", axes=[1], keepdims=1)
    model = _unchecked(graph)
    changed = onnx.ModelProto.FromString(model.SerializeToString())
    lines = expand_integer_operators(changed)
    assert lines == ["1 operator on integers written as float operators between Q/DQ pairs"]
    assert operator.removeprefix("QLinear") in operators(changed)
    assert lint_model(changed) == [] or {f.rule for f in lint_model(changed)} <= {"double-pair", "concat-scales"}
    assert np.allclose(logits(changed, pictures(3)), logits(model, pictures(3)), rtol=0.02, atol=0.02)


def _unchecked(graph: Any) -> onnx.ModelProto:
    """A model with Microsoft's operators, of which ONNX's own checker knows nothing."""
    value = helper.make_tensor_value_info("input", 1, ["batch", 3, 16, 16])
    made = helper.make_tensor_value_info("logits", 1, ["batch", 1])
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    for node in graph.nodes:
        if node.op_type == "ReduceMean":
            assert node.attribute
    return helper.make_model(
        helper.make_graph(graph.nodes, "g", [value], [made], constants), opset_imports=opsets, ir_version=8
    )


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("result", [True, False])
def test_a_quantised_gemm_becomes_a_gemm(net: NetOf, pictures: Callable, transposed: int, result: bool) -> None:
    graph = net()
    random = np.random.default_rng(4)
    flat = graph.add("Flatten", [graph.add("GlobalAveragePool", ["input"], "pooled")], "flat", axis=1)
    data = ["q", graph.constant("s", np.float32(0.5)), graph.constant("z", np.int8(3))]
    graph.add("QuantizeLinear", [flat, *data[1:]], "q")
    graph.constant("w", random.integers(-127, 128, (5, 3) if transposed else (3, 5)).astype(np.int8))
    graph.constant("ws", random.uniform(0.01, 0.02, 5).astype(np.float32))
    graph.constant("wz", np.zeros(5, np.int8))
    graph.constant("c", random.integers(-500, 500, 5).astype(np.int32))
    out = [graph.constant("ys", np.float32(1.0)), graph.constant("yz", np.int8(0))] if result else []
    inputs = [*data, "w", "ws", "wz", "c", *out]
    graph.channels["gemm"] = 5
    top = graph.add("QGemm", inputs, "gemm", domain="com.microsoft", transB=transposed, alpha=1.0)
    if result:
        top = graph.add("DequantizeLinear", [top, *out], "d")
    graph.add("ReduceMean", [top], "logits", axes=[1], keepdims=1)
    model = _unchecked(graph)
    changed = onnx.ModelProto.FromString(model.SerializeToString())
    expand_integer_operators(changed)
    assert "Gemm" in operators(changed)
    assert "weight-axis" not in {finding.rule for finding in lint_model(changed)}
    assert np.allclose(logits(changed, pictures(4)), logits(model, pictures(4)), rtol=1e-3, atol=1e-2)


def test_what_has_no_float_form_is_left_and_named() -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], "quantise"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "dequantise"),
    ]
    values = [helper.make_tensor_value_info("x", 1, [4])], [helper.make_tensor_value_info("y", 1, [4])]
    model = helper.make_model(helper.make_graph(nodes, "g", *values), opset_imports=[helper.make_opsetid("", 13)])
    with pytest.raises(BadModelError, match="nothing in it can be repaired: quantise: DynamicQuantizeLinear has no"):
        repair_model(model)


def test_channels_last_is_left_alone(net: NetOf) -> None:
    graph = net()
    data = ["q", graph.constant("s", np.float32(1.0)), graph.constant("z", np.int8(0))]
    graph.add("QuantizeLinear", ["input", *data[1:]], "q")
    graph.add("QLinearGlobalAveragePool", data + data[1:], "logits", domain="com.microsoft", channels_last=1)
    assert expand_integer_operators(_unchecked(graph)) == []


def test_a_model_that_stays_invalid_is_an_error(net: NetOf) -> None:
    model = ended(*layer(net, scale=1.5))
    model.graph.node[0].op_type = "QuantiseLinear"
    with pytest.raises((BadModelError, VerificationError), match=r"cannot be repaired|QuantiseLinear"):
        repair_model(model, "broken.onnx")


def test_a_model_that_cannot_be_compared_is_refused(net: NetOf) -> None:
    model = ended(*layer(net, scale=1.5, zero=np.uint8(128)))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 7
    with pytest.raises(VerificationError, match="could not be compared with the original"):
        repair_model(model)
