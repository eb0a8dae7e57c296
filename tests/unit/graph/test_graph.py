"""The view of a graph: makers, readers, constants, and a name for every node."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from googlenet_deploy.graph.graph import GraphView, attribute


def test_makers_and_readers(mini: Callable[..., onnx.ModelProto]) -> None:
    graph = GraphView(mini())
    assert graph.inputs == ("input",)
    assert graph.outputs == ("logits",)
    assert graph.producers["norm1"].op_type == "LRN"
    assert [node.name for node in graph.readers("inception3a")] == ["maxpool3"]
    assert graph.readers("logits") == []
    assert graph.activations()[0] == "input"
    assert graph.activations()[-1] == "logits"
    assert graph.is_constant("fc.weight")
    assert not graph.is_constant("flatten")
    first = graph.first_of({"LRN", "Gemm"})
    assert first is not None
    assert first.name == "norm1"
    assert graph.first_of({"Softmax"}) is None
    assert attribute(first, "size") == 5
    assert attribute(first, "axis", 7) == 7


def test_a_node_that_reads_a_tensor_twice_is_one_reader() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", [value], [result])
    view = GraphView(helper.make_model(graph))
    assert len(view.readers("x")) == 1
    assert [use.position for use in view.consumers["x"]] == [0, 1]


def test_nodes_without_a_name_of_their_own_go_by_their_output() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "same"),
        helper.make_node("Relu", ["a"], ["b"], "same"),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"], "own"),
    ]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    view = GraphView(helper.make_model(helper.make_graph(nodes, "g", [value], [result])))
    assert [view.name_of(node) for node in view.nodes] == ["a", "b", "c", "own"]
    assert view.node("b").output[0] == "b"
    with pytest.raises(KeyError):
        view.node("same")


def test_constant_nodes_and_listed_initializers_are_constants() -> None:
    array = np.arange(3, dtype=np.float32)
    nodes = [
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(array, "k")),
        helper.make_node("Add", ["x", "k"], ["s"]),
        helper.make_node("Add", ["s", "w"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("x", "w", "y")]
    # Before IR version 4 initializers are listed as inputs too.
    graph = helper.make_graph(nodes, "g", values[:2], values[2:], [numpy_helper.from_array(array, "w")])
    view = GraphView(helper.make_model(graph, ir_version=3))
    assert view.inputs == ("x",)
    assert np.array_equal(view.constant("k"), array)
    assert view.activations() == ["x", "s", "y"]
    with pytest.raises(KeyError):
        view.constant("s")
