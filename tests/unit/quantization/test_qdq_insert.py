"""The Q/DQ model: what is written, where it stands, and that it computes what it should."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from googlenet_deploy.calibration.options import PlacementOptions
from googlenet_deploy.calibration.table import CalibrationTable
from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.errors import UsageError, VerificationError
from googlenet_deploy.graph.graph import GraphView, attribute, serialize
from googlenet_deploy.graph.session import TensorSession
from googlenet_deploy.quantization.lint import lint_model
from googlenet_deploy.quantization.qdq_insert import QdqOptions, insert_qdq, lift_opset, weights_for
from googlenet_deploy.quantization.quantized_model import QuantizedModel, round_to_nearest

FORMS = ["float", "int8"]


@pytest.fixture
def quantized(mini: Callable, mini_table: CalibrationTable) -> QuantizedModel:
    """The small GoogLeNet, quantised in every layer."""
    return round_to_nearest(mini(), mini_table)


@pytest.fixture(params=FORMS)
def quantised(request: pytest.FixtureRequest, quantized: QuantizedModel) -> onnx.ModelProto:
    """Its Q/DQ model, in both forms of the weights."""
    return quantized.build(QdqOptions(request.param))


def nodes_of(model: onnx.ModelProto, operator: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == operator]


def test_it_is_valid_and_lints_clean(quantised: onnx.ModelProto) -> None:
    onnx.checker.check_model(quantised, full_check=True)
    assert lint_model(quantised) == []


def test_one_pair_per_tensor_and_per_weight(quantized: QuantizedModel) -> None:
    model = quantized.build()
    tensors, layers = len(quantized.plan.tensors), len(quantized.plan.nodes)
    assert len(nodes_of(model, "QuantizeLinear")) == len(nodes_of(model, "DequantizeLinear")) == tensors + layers
    stored = quantized.build(QdqOptions("int8"))
    assert len(nodes_of(stored, "QuantizeLinear")) == tensors
    assert len(nodes_of(stored, "DequantizeLinear")) == tensors + layers


def test_zero_points_are_int8_zeros_and_scales_float32(quantised: onnx.ModelProto) -> None:
    graph = GraphView(quantised)
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = graph.constant(node.input[1]), graph.constant(node.input[2])
            assert scale.dtype == np.float32
            assert zero.dtype == np.int8
            assert scale.shape == zero.shape
            assert not zero.any()


def test_weights_are_per_channel_and_activations_are_not(quantised: onnx.ModelProto) -> None:
    graph = GraphView(quantised)
    for node in nodes_of(quantised, "Conv") + nodes_of(quantised, "Gemm"):
        data, weight = (graph.producers[name] for name in node.input[:2])
        assert graph.constant(data.input[1]).shape == ()
        scales = graph.constant(weight.input[1])
        assert attribute(weight, "axis") == 0
        shape = onnx.shape_inference.infer_shapes(quantised)
        assert scales.ndim == 1
        assert len(scales) == _shape(shape, weight.output[0])[0]


def _shape(model: onnx.ModelProto, name: str) -> list[int]:
    value = next(value for value in model.graph.value_info if value.name == name)
    return [size.dim_value for size in value.type.tensor_type.shape.dim]


def test_biases_are_left_alone(quantized: QuantizedModel, quantised: onnx.ModelProto) -> None:
    graph = GraphView(quantised)
    for node in quantized.plan.nodes:
        bias = graph.node(node.name).input[2]
        assert bias == node.bias
        assert graph.constant(bias).dtype == np.float32


def test_nothing_stands_between_a_convolution_and_its_relu(quantised: onnx.ModelProto) -> None:
    graph = GraphView(quantised)
    for node in nodes_of(quantised, "Relu"):
        assert graph.producers[node.input[0]].op_type == "Conv"
    for node in nodes_of(quantised, "LRN"):
        assert graph.producers[node.input[0]].op_type != "DequantizeLinear"


def test_all_readers_of_a_tensor_share_its_pair(quantised: onnx.ModelProto) -> None:
    graph = GraphView(quantised)
    assert len(graph.readers("maxpool2")) == 1, "the pair alone reads the tensor"
    restored = graph.readers(graph.readers("maxpool2")[0].output[0])[0].output[0]
    assert len(graph.readers(restored)) == 4


def test_both_forms_compute_the_same(quantized: QuantizedModel, pictures: Callable) -> None:
    results = [TensorSession(quantized.build(QdqOptions(form))).run(pictures(4))["logits"] for form in FORMS]
    assert np.array_equal(*results)


def test_it_computes_what_quantising_by_hand_gives(quantized: QuantizedModel, pictures: Callable) -> None:
    """Every pair's output is the tensor in front of it, rounded and clipped; the layers read those and no others."""
    model = quantized.build()
    graph = GraphView(model)
    pairs = {name: graph.readers(graph.readers(name)[0].output[0])[0].output[0] for name in quantized.plan.tensors}
    values = TensorSession(model, [*pairs, *pairs.values(), "logits"]).run(pictures(2))
    for name, restored in pairs.items():
        scale = np.float32(quantized.scales[name])
        expected = np.clip(np.rint(values[name] / scale), -128, 127) * scale
        assert np.allclose(values[restored], expected, atol=float(scale) * 1e-4), name
    weight = quantized.weights["logits"].dequantize()
    by_hand = values[pairs["flatten"]] @ weight.T + GraphView(quantized.model).constant("fc.bias")
    assert np.allclose(values["logits"], by_hand, rtol=1e-4, atol=1e-5)


def test_float_weights_are_multiples_of_their_scale(quantized: QuantizedModel) -> None:
    graph = GraphView(quantized.build())
    for node in quantized.plan.nodes:
        maker = graph.producers[graph.node(node.name).input[1]]
        stored = graph.constant(graph.producers[maker.input[0]].input[0])
        codes = stored / quantized.weights[node.name].scales.reshape([-1] + [1] * (stored.ndim - 1))
        assert np.array_equal(np.rint(codes), quantized.weights[node.name].values)


def test_the_same_draft_gives_the_same_bytes_and_changes_nothing(quantized: QuantizedModel) -> None:
    before = serialize(quantized.model)
    assert serialize(quantized.build()) == serialize(quantized.build())
    assert serialize(quantized.model) == before


def test_integers_take_a_quarter_of_the_space(net: Callable, calibrated: Callable) -> None:
    graph = net()
    top = graph.conv(graph.conv("input", "conv1", 64, 3), "conv2", 64, 3)
    graph.classifier(top)
    quantized = round_to_nearest(graph.model(), calibrated(graph.model()).table)
    small, large = (len(serialize(quantized.build(QdqOptions(form)))) for form in ("int8", "float"))
    assert small < 0.35 * large


def test_excluded_layers_read_and_keep_their_floats(mini: Callable, mini_table: CalibrationTable) -> None:
    options = PlacementOptions(excluded=frozenset({"conv2/conv", "inception3a/branch1/conv"}))
    graph = GraphView(round_to_nearest(mini(), mini_table, options).build())
    for name in options.excluded:
        node = graph.node(name)
        assert graph.producers[node.input[0]].op_type in ("LRN", "MaxPool")
        assert node.input[1] == f"{name.removesuffix('/conv')}.weight"


def test_a_corrected_bias_replaces_or_adds_one(quantized: QuantizedModel, pictures: Callable) -> None:
    shifted = {"logits": np.arange(6, dtype=np.float32)}
    model = insert_qdq(quantized.model, quantized.plan, quantized.scales, quantized.weights, shifted)
    graph = GraphView(model)
    assert np.array_equal(graph.constant(graph.node("logits").input[2]), shifted["logits"])
    assert "fc.bias" not in graph.initializers
    plain = TensorSession(quantized.build()).run(pictures(2))["logits"]
    bias = GraphView(quantized.model).constant("fc.bias")
    assert np.allclose(TensorSession(model).run(pictures(2))["logits"], plain - bias + shifted["logits"], atol=1e-5)


def test_a_layer_without_a_bias_can_get_one(net: Callable, calibrated: Callable) -> None:
    graph = net()
    top = graph.conv("input", "conv1", 4)
    graph.nodes[0].input.pop()
    graph.constants.pop("conv1.bias")
    graph.classifier(top)
    model = graph.model()
    quantized = round_to_nearest(model, calibrated(model).table)
    changed = insert_qdq(
        model, quantized.plan, quantized.scales, quantized.weights, {"conv1/conv": np.ones(4, np.float32)}
    )
    assert len(GraphView(changed).node("conv1/conv").input) == 3


@pytest.mark.parametrize("stated", [True, False])
def test_quantised_convolutions_state_their_kernel(net: Callable, calibrated: Callable, stated: bool) -> None:
    """TensorRT 8.5 refuses a quantised convolution whose kernel only the weights' shape tells."""
    graph = net()
    top = graph.conv("input", "conv1", 4)
    graph.classifier(top)
    if not stated:
        kept = [attribute for attribute in graph.nodes[0].attribute if attribute.name != "kernel_shape"]
        del graph.nodes[0].attribute[:]
        graph.nodes[0].attribute.extend(kept)
    model = graph.model()
    changed = round_to_nearest(model, calibrated(model).table).build()
    node = GraphView(changed).node("conv1/conv")
    assert [each.name for each in node.attribute].count("kernel_shape") == 1
    assert list(attribute(node, "kernel_shape")) == list(GraphView(model).constant("conv1.weight").shape[2:])


def test_metadata_is_added_and_sorted(quantized: QuantizedModel) -> None:
    model = quantized.build(metadata={"zzz": "last", "aaa": "first"})
    keys = [entry.key for entry in model.metadata_props]
    assert keys == sorted(keys)
    assert {"aaa", "zzz", "googlenet_deploy.preprocessing"} <= set(keys)


@pytest.mark.parametrize("missing", ["scales", "weights"])
def test_what_nothing_is_known_of_is_refused(quantized: QuantizedModel, missing: str) -> None:
    scales, weights = dict(quantized.scales), dict(quantized.weights)
    name = (scales if missing == "scales" else weights).popitem()[0]
    with pytest.raises(UsageError, match=f"it is unknown how '{name}' is quantised"):
        insert_qdq(quantized.model, quantized.plan, scales, weights)


def test_names_that_are_taken_get_a_number(net: Callable, calibrated: Callable) -> None:
    graph = net()
    top = graph.conv("input", "conv1", 4)
    graph.channels["conv1/quantized"] = 4
    graph.add("Relu", [top], "conv1/quantized")
    graph.constant("conv1/scale", np.float32(3))
    graph.channels["sum"] = 4
    graph.add("Mul", ["conv1/quantized", "conv1/scale"], "sum")
    graph.classifier(graph.conv("sum", "conv2", 4))
    model = graph.model()
    quantised = round_to_nearest(model, calibrated(model).table).build()
    onnx.checker.check_model(quantised, full_check=True)


def test_unknown_forms_of_weights_are_refused() -> None:
    with pytest.raises(UsageError, match="float or int8, not 'int4'"):
        QdqOptions("int4")


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 17])
def test_opset_13_at_least(mini: Callable, mini_table: CalibrationTable, pictures: Callable, opset: int) -> None:
    model = mini(opset=opset)
    quantised = round_to_nearest(model, mini_table).build()
    assert quantised.opset_import[0].version == max(13, opset)
    assert quantised.ir_version >= 7
    onnx.checker.check_model(quantised, full_check=True)
    same = TensorSession(round_to_nearest(mini(), mini_table).build()).run(pictures(2))["logits"]
    assert np.allclose(TensorSession(quantised).run(pictures(2))["logits"], same, atol=1e-5)


def test_an_operator_that_cannot_be_lifted_is_an_error_that_says_what_to_do(mini: Callable) -> None:
    model = mini(opset=11)
    model.graph.node[1].op_type = "NoSuchOperator"
    with pytest.raises(VerificationError, match="cannot convert the model from opset 11 to 13") as caught:
        lift_opset(model)
    assert caught.value.remedy == "export the model again, in opset 13"


@pytest.mark.parametrize(
    ("target", "form"),
    [
        ("orin-nano", "int8"),
        ("agx-orin", "int8"),
        ("tensorrt-11", "int8"),
        ("tensorrt-rtx", "int8"),
        ("tensorrt-8.5", "int8"),
        ("tensorrt-8.4", "float"),
        ("jetpack-4.6", "float"),
        ("nano", "float"),
    ],
)
def test_weights_are_integers_where_every_tensorrt_of_the_target_reads_them(target: str, form: str) -> None:
    assert weights_for(load_target(target)) == form
    assert weights_for(None) == "float"
