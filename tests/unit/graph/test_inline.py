from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from googlenet_deploy.errors import BadModelError, VerificationError
from googlenet_deploy.graph.files import load_model
from googlenet_deploy.graph.graph import serialize
from googlenet_deploy.graph.inline import check_functions, inline_functions

OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]


def function(name: str, *nodes: Any) -> Any:
    return helper.make_function("own", name, ["a"], ["b"], list(nodes), OPSETS)


def calling(*functions: Any) -> Any:
    nodes = [helper.make_node(functions[0].name, ["x"], ["y"], "call", domain="own")]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y")]
    made = helper.make_graph(nodes, "g", values[:1], values[1:])
    return helper.make_model(made, opset_imports=OPSETS, functions=list(functions), ir_version=8)


def test_nested_functions_become_nodes() -> None:
    inner = function("double", helper.make_node("Add", ["a", "a"], ["b"]))
    outer = function(
        "outer",
        helper.make_node("double", ["a"], ["t"], domain="own"),
        helper.make_node("Relu", ["t"], ["b"]),
    )
    model = calling(outer, inner)
    assert inline_functions(model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Add", "Relu"]
    assert all(node.name for node in model.graph.node)
    assert not model.functions
    assert [entry.domain for entry in model.opset_import] == [""]
    batch = np.array([[1, -2, 3]], np.float32)
    session = onnxruntime.InferenceSession(serialize(model))
    np.testing.assert_array_equal(session.run(None, {"x": batch})[0], [[2, 0, 6]])
    assert not inline_functions(model)


def test_functions_that_call_themselves_are_refused(tmp_path: Any) -> None:
    itself = function("again", helper.make_node("again", ["a"], ["b"], domain="own"))
    first = function("first", helper.make_node("second", ["a"], ["b"], domain="own"))
    second = function("second", helper.make_node("first", ["a"], ["b"], domain="own"))
    for functions in ([itself], [first, second]):
        with pytest.raises(VerificationError, match="calls itself"):
            check_functions(calling(*functions))
        path = tmp_path / "model.onnx"
        path.write_bytes(serialize(calling(*functions)))
        with pytest.raises(BadModelError, match="calls itself"):
            load_model(path)
