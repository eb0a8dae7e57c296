"""Which weights have the 2:4 pattern, and that a promise of it is kept."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from googlenet_deploy.analysis.sparsity import holds_pattern, layer_sparsity, require_pattern, sparsity_line
from googlenet_deploy.errors import VerificationError

PROMISE = {"training_record": json.dumps({"options": {"sparsity": "2:4"}})}


def sparse(shape: tuple[int, ...]) -> np.ndarray:
    """Weights with the second and third of every four input channels zero."""
    weight = np.random.default_rng(0).uniform(0.5, 1.0, shape).astype(np.float32)
    weight[:, 1::4] = weight[:, 2::4] = 0.0
    return weight


def of_layers(conv: np.ndarray, gemm: np.ndarray, *, transposed: bool = True) -> onnx.ModelProto:
    """A convolution and a Gemm."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("Flatten", ["a"], ["b"], "flatten"),
        helper.make_node("Gemm", ["b", "v"], ["y"], "fc", transB=int(transposed)),
    ]
    stored = [numpy_helper.from_array(conv, "w"), numpy_helper.from_array(gemm if transposed else gemm.T.copy(), "v")]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize("shape", [(2, 8), (3, 4, 3, 3)])
def test_the_pattern_runs_along_the_input_channels(shape: tuple[int, ...]) -> None:
    weight = sparse(shape)
    assert holds_pattern(weight)
    weight[0, 1] = 1.0
    assert not holds_pattern(weight)


def test_as_many_zeros_elsewhere_are_not_the_pattern() -> None:
    weight = np.ones((4, 8), np.float32)
    weight[:2] = 0.0
    assert not holds_pattern(weight)


@pytest.mark.parametrize("transposed", [True, False])
def test_layers_are_read_the_way_they_are_stored(transposed: bool) -> None:
    conv, fc = layer_sparsity(of_layers(sparse((2, 4, 3, 3)), sparse((3, 8)), transposed=transposed))
    assert (conv.name, conv.weights, conv.zeros, conv.fits, conv.holds) == ("conv", 72, 36, True, True)
    assert (fc.name, fc.zeros, fc.holds) == ("fc", 12, True)


def test_weights_behind_dequantizelinear_are_read_as_codes() -> None:
    model = of_layers(sparse((2, 4, 1, 1)), sparse((3, 8)))
    codes = (sparse((2, 4, 1, 1)) * 127).astype(np.int8)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(codes, "codes"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "scale"))
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["codes", "scale"], ["w"], "dq"))
    assert [layer.holds for layer in layer_sparsity(model)] == [True, True]


def test_weights_that_are_computed_are_left_out() -> None:
    model = of_layers(sparse((2, 4, 1, 1)), sparse((3, 8)))
    model.graph.node[0].input[1] = "x"
    model.graph.node[2].input[1] = "b"
    assert layer_sparsity(model) == []


def test_a_lost_pattern_is_refused_where_it_was_promised() -> None:
    dense = of_layers(np.ones((2, 4, 1, 1), np.float32), sparse((3, 8)))
    with pytest.raises(VerificationError, match=r"layer conv lost the 2:4 pattern"):
        require_pattern(dense, PROMISE)
    with pytest.raises(VerificationError, match="2 layers, such as conv, lost"):
        require_pattern(of_layers(np.ones((2, 4, 1, 1), np.float32), np.ones((3, 8), np.float32)), PROMISE)


@pytest.mark.parametrize("text", ["null", "{", "[]", '{"options": 3}', '{"options": {"sparsity": "none"}}', "[" * 9999])
def test_without_a_promise_nothing_is_required(text: str) -> None:
    require_pattern(of_layers(np.ones((2, 4, 1, 1), np.float32), sparse((3, 8))), {"training_record": text})


def test_three_input_channels_cannot_have_the_pattern_and_need_not() -> None:
    model = of_layers(np.ones((2, 3, 3, 3), np.float32), sparse((3, 8)))
    require_pattern(model, PROMISE)
    assert sparsity_line(layer_sparsity(model)) == "2:4 pattern in 1 of 2 layers, 15.4 % of weights zero; not in conv"


def test_a_model_without_zeros_has_nothing_to_tell() -> None:
    assert (
        sparsity_line(layer_sparsity(of_layers(np.ones((2, 4, 1, 1), np.float32), np.ones((3, 8), np.float32)))) == ""
    )
