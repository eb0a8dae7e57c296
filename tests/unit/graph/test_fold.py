from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from googlenet_deploy.graph.edit import copy_model
from googlenet_deploy.graph.fold import LARGEST_GROWTH, fold_constants
from googlenet_deploy.graph.graph import serialize

FLOAT = TensorProto.FLOAT
WEIGHT = np.arange(24, dtype=np.float32).reshape(4, 6) / 10


def graph(nodes: Any, constants: Any, *, opset: int = 17, shape: Any = ("n", 4), listed: bool = False) -> Any:
    """Nodes from x to y; `listed` names the constants as inputs too, as IR version 3 wants it."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    inputs = [helper.make_tensor_value_info("x", FLOAT, shape)]
    if listed:
        inputs += [helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in tensors]
    made = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", FLOAT, ("a", "b"))], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=3 if listed else 8)


def folded(model: Any) -> Any:
    """The model after folding, checked, and its constants by name."""
    copy = copy_model(model)
    assert fold_constants(copy)
    onnx.checker.check_model(copy, full_check=True)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in copy.graph.initializer}
    return copy, [node.op_type for node in copy.graph.node], constants


def answers(model: Any, array: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(serialize(model), options).run(None, {"x": array})[0]


def product(weight: str) -> Any:
    return helper.make_node("MatMul", ["x", weight], ["y"], "product")


BEHIND = {
    "transpose": ([helper.make_node("Transpose", ["c"], ["w"], "t", perm=[1, 0])], {"c": WEIGHT.T.copy()}),
    "reshape": (
        [helper.make_node("Reshape", ["c", "s"], ["w"], "r")],
        {"c": WEIGHT.reshape(-1), "s": np.array([4, -1], np.int64)},
    ),
    "scaled": ([helper.make_node("Mul", ["c", "g"], ["w"], "m")], {"c": WEIGHT / 2, "g": np.float32(2)}),
    "cast": ([helper.make_node("Cast", ["c"], ["w"], "h", to=FLOAT)], {"c": WEIGHT.astype(np.float16)}),
    "constant": ([helper.make_node("Constant", [], ["w"], "c", value=numpy_helper.from_array(WEIGHT))], {}),
    "floats": (
        [
            helper.make_node("Constant", [], ["v"], "v", value_floats=WEIGHT.reshape(-1).tolist()),
            helper.make_node("Constant", [], ["s"], "s", value_ints=[4, 6]),
            helper.make_node("Reshape", ["v", "s"], ["w"], "r"),
        ],
        {},
    ),
    "chain": (
        [
            helper.make_node("Identity", ["c"], ["i"], "i"),
            helper.make_node("Concat", ["i", "d"], ["w"], "cat", axis=1),
        ],
        {"c": WEIGHT[:, :2], "d": WEIGHT[:, 2:]},
    ),
}


@pytest.mark.parametrize("case", BEHIND)
def test_weights_after_nodes_become_initializers(case: str) -> None:
    nodes, constants = BEHIND[case]
    model = graph([*nodes, product("w")], constants)
    changed, operators, values = folded(model)
    assert operators == ["MatMul"]
    assert list(values) == ["w"]
    np.testing.assert_allclose(values["w"], WEIGHT, rtol=1e-3 if case == "cast" else 1e-6)
    batch = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    np.testing.assert_array_equal(answers(changed, batch), answers(model, batch))


def test_generated_weights_and_what_grows_too_far() -> None:
    def model(columns: int) -> Any:
        node = helper.make_node(
            "ConstantOfShape", ["s"], ["w"], "fill", value=numpy_helper.from_array(np.array([3], np.float32))
        )
        return graph([node, product("w")], {"s": np.array([4, columns], np.int64)})

    _, operators, values = folded(model(6))
    assert operators == ["MatMul"]
    np.testing.assert_array_equal(values["w"], np.full((4, 6), 3, np.float32))
    huge = model(LARGEST_GROWTH)
    before = serialize(huge)
    assert not fold_constants(huge)
    assert serialize(huge) == before


def test_initializers_are_no_inputs_any_more() -> None:
    model = graph([product("w")], {"w": WEIGHT}, opset=9, listed=True)
    changed, operators, values = folded(model)
    assert [value.name for value in changed.graph.input] == ["x"]
    assert changed.ir_version == 4
    assert (operators, list(values)) == (["MatMul"], ["w"])


@pytest.mark.parametrize("opset", [9, 13])
def test_static_parts_of_shapes(opset: int) -> None:
    """The columns of the input are known though the batch is not; the size made from the batch stays computed."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], "s"),
        helper.make_node("Gather", ["s", "one"], ["columns"], "columns", axis=0),
        helper.make_node("Cast", ["columns"], ["real"], "real", to=FLOAT),
        helper.make_node("Mul", ["x", "real"], ["y"], "times"),
    ]
    _, operators, values = folded(graph(nodes, {"one": np.int64(1)}, opset=opset))
    assert operators == ["Mul"]
    assert values["real"] == 4.0
    nodes[1] = helper.make_node("Gather", ["s", "zero"], ["columns"], "columns", axis=0)
    model = graph(nodes, {"zero": np.int64(0)}, opset=opset)
    assert not fold_constants(model)
    np.testing.assert_array_equal(answers(model, np.ones((5, 4), np.float32)), np.full((5, 4), 5, np.float32))


@pytest.mark.parametrize("taken", [True, False])
def test_a_decided_branch_takes_the_place_of_the_if(taken: bool) -> None:
    out = [helper.make_tensor_value_info("r", FLOAT, None)]
    then = helper.make_graph(
        [helper.make_node("Mul", ["x", "k"], ["r"])], "then", [], out, [numpy_helper.from_array(np.float32(2), "k")]
    )
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["r"])], "other", [], out)
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "relu"),
        helper.make_node("If", ["c"], ["picked"], "if", then_branch=then, else_branch=other),
        helper.make_node("Add", ["picked", "r"], ["y"], "sum"),
    ]
    model = graph(nodes, {"c": np.array(taken)})
    changed, operators, _ = folded(model)
    assert operators == ["Relu", "Mul" if taken else "Neg", "Identity", "Add"]
    batch = np.array([[1, -2, 3, -4]], np.float32)
    np.testing.assert_array_equal(answers(changed, batch), np.maximum(batch, 0) + (2 * batch if taken else -batch))


def test_quantised_weights_stay_quantised() -> None:
    codes, scale = np.arange(24, dtype=np.int8).reshape(6, 4), np.float32(0.5)
    nodes = [
        helper.make_node("Mul", ["half", "two"], ["scale"], "scale"),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["d"], "dq"),
        helper.make_node("Transpose", ["d"], ["w"], "t", perm=[1, 0]),
        product("w"),
    ]
    constants = {"codes": codes, "half": scale / 2, "two": np.float32(2), "zero": np.int8(0)}
    _, operators, values = folded(graph(nodes, constants))
    assert operators == ["DequantizeLinear", "Transpose", "MatMul"]
    assert values["scale"] == scale
    assert values["codes"].dtype == np.int8
    nodes = [
        helper.make_node("QuantizeLinear", ["f", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], "dq"),
        product("w"),
    ]
    assert not fold_constants(graph(nodes, {"f": WEIGHT, "s": scale, "z": np.int8(0)}))


def test_what_cannot_be_evaluated_or_is_random_or_an_output_stays() -> None:
    foreign = helper.make_node("Secret", ["c"], ["w"], "f", domain="other")
    random = helper.make_node("RandomNormal", [], ["w"], "r", shape=[4, 6])
    for node in (foreign, random):
        model = graph([node, product("w")], {"c": WEIGHT})
        model.opset_import.add(domain="other", version=1)
        assert not fold_constants(model)
    wrong = graph([helper.make_node("Reshape", ["c", "s"], ["w"], "r"), product("w")], {"c": WEIGHT, "s": [5, 5]})
    assert not fold_constants(wrong)
    output = graph(
        [helper.make_node("Neg", ["c"], ["y"], "neg"), helper.make_node("Relu", ["x"], ["z"], "z")], {"c": WEIGHT}
    )
    assert not fold_constants(output)


def test_a_second_time_changes_nothing_and_the_bytes_repeat() -> None:
    nodes, constants = BEHIND["chain"]
    first, second = graph([*nodes, product("w")], constants), graph([*nodes, product("w")], constants)
    assert fold_constants(first)
    assert fold_constants(second)
    assert serialize(first) == serialize(second)
    assert not fold_constants(first)
