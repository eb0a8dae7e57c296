from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from googlenet_deploy.device.onnx_model.axes import along_axis
from googlenet_deploy.graph.edit import (
    add_constant,
    drop_unread_constants,
    drop_unread_nodes,
    rename_tensors,
    replace_nodes,
    set_constant,
    unique_name,
)
from googlenet_deploy.graph.graph import GraphView

FLOAT = TensorProto.FLOAT


def branching() -> Any:
    """An If whose branches read x and the constant k from outside; `dead` and its constant d are read by nothing."""
    out = [helper.make_tensor_value_info("r", FLOAT, ["n", 2])]
    then = helper.make_graph([helper.make_node("Mul", ["x", "k"], ["r"], "m")], "then", [], out)
    other = helper.make_graph([helper.make_node("Sub", ["x", "k"], ["r"], "s")], "other", [], out)
    nodes = [
        helper.make_node("Add", ["x", "d"], ["lost"], "dead"),
        helper.make_node("Neg", ["lost"], ["lost_too"], "dead_too"),
        helper.make_node("ReduceMax", ["x"], ["top"], "top", keepdims=0),
        helper.make_node("Cast", ["top"], ["c"], "cast", to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], "if", then_branch=then, else_branch=other),
    ]
    x, y = (helper.make_tensor_value_info(name, FLOAT, ["n", 2]) for name in ("x", "y"))
    listed = [helper.make_tensor_value_info(name, FLOAT, [2]) for name in ("k", "d")]
    constants = [numpy_helper.from_array(np.array([2, 3], np.float32), name) for name in ("k", "d")]
    graph = helper.make_graph(
        nodes, "g", [x, *listed], [y], constants, value_info=[helper.make_tensor_value_info("lost", FLOAT, ["n", 2])]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_what_nothing_reads_goes_and_what_a_branch_reads_stays() -> None:
    model = branching()
    graph = model.graph
    assert drop_unread_nodes(graph)
    drop_unread_constants(graph)
    onnx.checker.check_model(model, full_check=True)
    assert [node.name for node in graph.node] == ["top", "cast", "if"]
    assert [tensor.name for tensor in graph.initializer] == ["k"]
    assert [value.name for value in graph.input] == ["x", "k"]
    assert not graph.value_info
    assert not drop_unread_nodes(graph)


def test_a_view_knows_readers_in_branches() -> None:
    view = GraphView(branching())
    assert [node.name for node in view.readers("k")] == ["if"]
    assert view.only_reader("k") is None, "both branches read it"
    assert view.only_reader("d") is not None
    assert [node.name for node in view.readers("x")] == ["dead", "top", "if"]
    np.testing.assert_array_equal(view.find_constant("k"), [2, 3])
    assert view.find_constant("top") is None


def test_renaming_reaches_into_branches() -> None:
    graph = branching().graph
    rename_tensors(graph, {"k": "factor"})
    branches = [attribute.g for attribute in graph.node[-1].attribute]
    assert all(branch.node[0].input[1] == "factor" for branch in branches)
    assert [tensor.name for tensor in graph.initializer] == ["factor", "d"]


def test_names_nodes_and_constants() -> None:
    taken = {"w", "w_2"}
    assert [unique_name("w", taken), unique_name("w", taken), unique_name("v", taken)] == ["w_3", "w_4", "v"]
    graph = branching().graph
    replace_nodes(graph, [*graph.node[2:], graph.node[0]])
    assert [node.name for node in graph.node] == ["top", "cast", "if", "dead"]
    assert add_constant(graph, np.int64(7).reshape(()), "seven") == "seven"
    set_constant(graph.initializer[-1], np.array([1.5, 2.5]))
    assert graph.initializer[-1].name == "seven"
    assert numpy_helper.to_array(graph.initializer[-1]).tolist() == [1.5, 2.5]


def test_scales_along_an_axis() -> None:
    scales = np.array([1.0, 10.0, 100.0])
    array = np.ones((2, 3, 2))
    expected = np.stack([np.full((2, 2), scale) for scale in scales], axis=1)
    np.testing.assert_array_equal(array * along_axis(scales, 3, 1), expected)
    np.testing.assert_array_equal(array * along_axis(scales, 3, -2), expected)
    assert along_axis(np.array([4.0]), 3, 0).shape == ()
