"""Which tensors get a pair, which do not, and which share a scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from googlenet_deploy.calibration.options import PlacementOptions
from googlenet_deploy.calibration.placement import QuantizationPlan, place
from googlenet_deploy.errors import BadModelError, UsageError
from googlenet_deploy.graph.graph import GraphView

Mini = Callable[..., onnx.ModelProto]

LAYERS = [
    *("conv1/conv", "conv2/conv", "conv3/conv"),
    *(
        f"inception{block}/{branch}/conv"
        for block in ("3a", "4a")
        for branch in ("branch1", "branch2/0", "branch2/1", "branch3/0", "branch3/1", "branch4/1")
    ),
    "logits",
]
TENSORS = [
    "input", "norm1", "conv2", "maxpool2",
    "inception3a/branch2/0", "inception3a/branch3/0", "inception3a/branch4/0", "inception3a", "maxpool3",
    "inception4a/branch2/0", "inception4a/branch3/0", "inception4a/branch4/0", "inception4a", "flatten",
]  # fmt: skip


def planned(model: onnx.ModelProto, **options: object) -> QuantizationPlan:
    return place(GraphView(model), PlacementOptions(**options))  # type: ignore[arg-type]


def test_exactly_these_tensors_have_a_pair(mini: Mini) -> None:
    plan = planned(mini())
    assert [node.name for node in plan.nodes] == LAYERS
    assert list(plan.tensors) == TENSORS
    assert not plan.skipped


def test_lrn_reads_no_quantised_value_and_a_convolution_none_behind_itself(mini: Mini) -> None:
    plan = planned(mini())
    graph = GraphView(mini())
    for node in graph.nodes:
        if node.op_type in ("LRN", "Relu"):
            assert node.input[0] not in plan.tensors, f"no pair before {node.name}"
        if node.op_type == "Conv":
            assert node.output[0] not in plan.tensors
    assert {"maxpool1", "norm2", "conv3", "logits"}.isdisjoint(plan.tensors)


def test_one_pair_is_shared_by_all_that_read_it(mini: Mini) -> None:
    plan = planned(mini())
    branches = {f"inception3a/{branch}/conv" for branch in ("branch1", "branch2/0", "branch3/0")}
    assert plan.readers["maxpool2"] == branches | {"inception3a/branch4/0"}
    assert len(plan.tensors) == len(set(plan.tensors))
    assert plan.readers["inception3a"] == {"maxpool3"}


def test_max_pools_have_one_scale_on_both_sides(mini: Mini) -> None:
    plan = planned(mini())
    assert plan.group_of("maxpool2").members == ("maxpool2", "inception3a/branch4/0")
    joined = plan.group_of("inception3a")
    assert joined.members == ("inception3a", "maxpool3", "inception4a/branch4/0")
    assert joined.observed == ("inception3a",), "a pool's output contains only values of its input"
    with pytest.raises(KeyError):
        plan.group_of("conv3")
    assert sorted(name for group in plan.groups for name in group.members) == sorted(plan.tensors)
    assert [name for group in plan.groups for name in group.observed] == list(plan.observed)


def test_branches_of_a_concat_have_no_pair_of_their_own(mini: Mini) -> None:
    plan = planned(mini())
    for node in GraphView(mini()).nodes:
        if node.op_type == "Concat":
            assert node.output[0] in plan.tensors
            assert set(node.input).isdisjoint(plan.tensors)


def test_the_average_pool_is_quantised_on_both_sides_or_neither(mini: Mini) -> None:
    assert {"inception4a", "flatten"} <= set(planned(mini()).tensors)
    without = planned(mini(), quantize_classifier=False)
    assert {"inception4a", "average_pool", "flatten"}.isdisjoint(without.tensors)
    assert without.skipped == {"logits": "the classifier is not quantised"}


def test_the_input_can_stay_in_float(mini: Mini) -> None:
    plan = planned(mini(), quantize_input=False)
    assert "input" not in plan.tensors
    assert plan.skipped == {"conv1/conv": "the network's input is not quantised"}
    assert list(plan.tensors) == TENSORS[1:]


def test_an_image_that_is_normalised_inside_is_the_input_too(net: Callable) -> None:
    graph = net()
    graph.constant("scale", np.float32(1 / 255))
    graph.channels["image"] = 3
    graph.classifier(graph.conv(graph.add("Mul", ["input", "scale"], "image"), "conv1", 4))
    assert list(planned(graph.model()).tensors) == ["image", "conv1", "flatten"]
    plan = planned(graph.model(), quantize_input=False)
    assert list(plan.tensors) == ["conv1", "flatten"]
    assert plan.skipped == {"conv1/conv": "the network's input is not quantised"}


def test_a_half_precision_model_is_refused(mini: Mini) -> None:
    model = mini()
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), weight.name))
    with pytest.raises(BadModelError, match=r"contains FP16 constants \(conv1\.weight\)"):
        planned(model)


def test_biases_are_known_and_weights_have_their_channels_first(mini: Mini) -> None:
    for node in planned(mini()).nodes:
        stem = "fc" if node.operator == "Gemm" else node.name.removesuffix("/conv")
        assert (node.weight, node.bias, node.axis) == (f"{stem}.weight", f"{stem}.bias", 0)


def test_an_excluded_layer_reads_float_and_its_neighbours_do_not_change(mini: Mini) -> None:
    plan = planned(mini(), excluded=frozenset({"inception3a/branch1/conv", "conv3/conv"}))
    assert set(plan.skipped) == {"inception3a/branch1/conv", "conv3/conv"}
    assert "inception3a/branch1/conv" not in plan.readers["maxpool2"]
    assert set(TENSORS) - set(plan.tensors) == {"conv2"}, "nothing else reads it"


def test_an_excluded_pool_reads_float(mini: Mini) -> None:
    plan = planned(mini(), excluded=frozenset({"maxpool3"}))
    assert "inception3a" not in plan.tensors
    assert plan.group_of("maxpool3").members == ("maxpool3", "inception4a/branch4/0")


def test_a_pool_runs_in_float_where_a_layer_behind_it_does(mini: Mini) -> None:
    """Else the layer would read what the pair ahead of the pool made of the values."""
    plan = planned(mini(), excluded=frozenset({"inception4a/branch1/conv"}))
    assert "maxpool3" in plan.tensors
    assert "inception3a" not in plan.tensors
    kept = planned(mini(), excluded=frozenset({"logits"}))
    assert {"inception4a", "flatten"}.isdisjoint(kept.tensors)


def test_an_unknown_name_is_refused(mini: Mini) -> None:
    with pytest.raises(UsageError, match="no node named 'conv9' to leave in float"):
        planned(mini(), excluded=frozenset({"conv9"}))


def test_excluding_everything_is_refused(mini: Mini) -> None:
    with pytest.raises(BadModelError, match=r"nothing in it can be quantised .*excluded by name"):
        planned(mini(), excluded=frozenset(LAYERS))


def test_a_quantised_model_is_refused(net: Callable) -> None:
    graph = net()
    graph.constant("scale", np.float32(1))
    graph.constant("zero", np.int8(0))
    quantised = graph.add("QuantizeLinear", ["input", "scale", "zero"], "q")
    graph.channels["dq"] = 3
    graph.classifier(graph.conv(graph.add("DequantizeLinear", [quantised, "scale", "zero"], "dq"), "conv1", 4))
    with pytest.raises(BadModelError, match=r"already quantised: it contains QuantizeLinear \(q\)") as caught:
        planned(graph.model())
    assert "FP32 model" in str(caught.value.remedy)


def test_a_model_without_layers_is_refused(net: Callable) -> None:
    graph = net()
    graph.add("Flatten", [graph.add("GlobalAveragePool", ["input"], "p")], "logits", axis=1)
    with pytest.raises(BadModelError, match="it has no Conv or Gemm"):
        planned(graph.model(classes=3))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"alpha": 2.0}, "a Gemm with alpha, beta or transA is not a linear layer"),
        ({"beta": 0.5}, "a Gemm with alpha, beta or transA is not a linear layer"),
    ],
)
def test_a_gemm_that_is_no_linear_layer_stays_in_float(mini: Mini, change: dict[str, float], reason: str) -> None:
    model = mini()
    for name, value in change.items():
        model.graph.node[-1].attribute.append(onnx.helper.make_attribute(name, value))
    assert planned(model).skipped == {"logits": reason}


def test_computed_weights_and_constant_inputs_stay_in_float(net: Callable) -> None:
    graph = net()
    top = graph.conv("input", "conv1", 4, 3)
    graph.constant("kernel", np.ones((4, 4, 1, 1), np.float32))
    graph.channels["kernel2"] = 4
    doubled = graph.add("Add", ["kernel", "kernel"], "kernel2")
    top = graph.add("Conv", [top, doubled], "computed", kernel_shape=[1, 1])
    graph.constant("picture", np.ones((1, 4, 16, 16), np.float32))
    graph.constant("plain", np.ones((4, 4, 1, 1), np.float32))
    fixed = graph.add("Conv", ["picture", "plain"], "fixed", kernel_shape=[1, 1])
    graph.channels["sum"] = 4
    graph.classifier(graph.add("Add", [top, fixed], "sum"))
    plan = planned(graph.model())
    assert plan.skipped == {"computed": "its weights are not constant", "fixed": "its input is constant"}


def test_a_gemm_without_transposition_has_its_channels_last(net: Callable) -> None:
    graph = net()
    flat = graph.add("Flatten", [graph.add("GlobalAveragePool", [graph.conv("input", "conv1", 4)], "p")], "f", axis=1)
    graph.constant("w", np.ones((4, 6), np.float32))
    graph.add("Gemm", [flat, "w"], "logits")
    node = planned(graph.model()).nodes[-1]
    assert (node.operator, node.axis, node.bias) == ("Gemm", 1, None)


def test_an_average_pool_behind_lrn_stays_in_float(net: Callable) -> None:
    graph = net()
    graph.classifier(graph.lrn(graph.conv("input", "conv1", 8), "norm1"))
    plan = planned(graph.model())
    assert list(plan.tensors) == ["input", "flatten"]


class TestAccelerator:
    """With --dla: pairs everywhere, one scale around each Concat."""

    def test_all_inputs_and_the_output_of_a_concat_share_a_scale(self, mini: Mini) -> None:
        plan = planned(mini(), dla=True)
        for node in GraphView(mini()).nodes:
            if node.op_type == "Concat":
                group = plan.group_of(node.output[0])
                assert set(node.input) < set(group.members)
                assert group.observed == (node.output[0],), "the output holds all values of its inputs"
                assert all(node.name in plan.readers[name] for name in node.input)

    def test_every_tensor_but_those_around_lrn_and_the_output_has_a_pair(self, mini: Mini) -> None:
        without = set(GraphView(mini()).activations()) - set(planned(mini(), dla=True).tensors)
        fused = {name for name in LAYERS if name.endswith("/conv")}
        assert without == fused | {"conv1", "maxpool1", "conv3", "norm2", "logits"}

    def test_shapes_and_other_integers_have_none(self, net: Callable) -> None:
        graph = net()
        top = graph.conv("input", "conv1", 4)
        graph.constant("zero", np.array([0], np.int64))
        graph.constant("minus", np.array([-1], np.int64))
        pooled = graph.add("GlobalAveragePool", [top], "pooled")
        size = graph.add("Gather", [graph.add("Shape", [pooled], "shape"), "zero"], "size", axis=0)
        wanted = graph.add("Concat", [size, "minus"], "wanted", axis=0)
        flat = graph.add("Reshape", [pooled, wanted], "flat")
        graph.constant("w", np.ones((6, 4), np.float32))
        graph.add("Gemm", [flat, "w"], "logits", transB=1)
        plan = planned(graph.model(), dla=True)
        types = {value.name: value.type.tensor_type.elem_type for value in graph.model().graph.value_info}
        assert all(types.get(name, TensorProto.FLOAT) == TensorProto.FLOAT for name in plan.tensors)
        assert {"shape", "size", "wanted"}.isdisjoint(plan.tensors)
        assert {"input", "conv1", "pooled"} <= set(plan.tensors)

    def test_the_input_follows_its_own_option(self, mini: Mini) -> None:
        assert "input" in planned(mini(), dla=True).tensors
        assert "input" not in planned(mini(), dla=True, quantize_input=False).tensors
