from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from googlenet_deploy.export.verify import run
from googlenet_deploy.graph.graph import serialize
from googlenet_deploy.graph.pass_manager import check_model
from googlenet_deploy.graph.tidy import Tidy

FLOAT = TensorProto.FLOAT


def cluttered(model_of: Any) -> Any:
    """A dead branch, an unused constant, notes, a Constant node, an unused import, a constant listed as input."""
    constant = numpy_helper.from_array(np.array([2.0], np.float32))
    nodes = [
        helper.make_node("Constant", [], ["two"], "k", value=constant),
        helper.make_node("Mul", ["x", "two"], ["m"], "mul", doc_string="File /home/somebody/model.py"),
        helper.make_node("Relu", ["x"], ["dead"], "dead"),
        helper.make_node("Add", ["m", "b"], ["y"], ""),
    ]
    constants = {"unused": np.zeros(3, np.float32), "b": np.ones(1, np.float32)}
    model = model_of(nodes, [("x", FLOAT, [2]), ("b", FLOAT, [1])], [("y", FLOAT, [2])], constants, 9, 3)
    model.graph.node[1].metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/somebody")
    model.opset_import.add(domain="com.example", version=1)
    return model


def test_clutter_goes_and_the_result_stays(model_of: Any) -> None:
    model = cluttered(model_of)
    assert Tidy().run(model)
    check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Mul", "Add"]
    assert [node.name for node in model.graph.node] == ["mul", "y"]
    assert [tensor.name for tensor in model.graph.initializer] == ["two", "b"]
    assert [value.name for value in model.graph.input] == ["x"]
    assert [entry.domain for entry in model.opset_import] == [""]
    assert model.ir_version == 4
    assert b"somebody" not in serialize(model)


def test_a_second_run_changes_nothing(model_of: Any, captured_of: Any, architecture: str) -> None:
    for model in (cluttered(model_of), captured_of(architecture)):
        Tidy().run(model)
        before = serialize(model)
        assert not Tidy().run(model)
        assert serialize(model) == before


def test_it_does_not_change_what_is_computed(captured_of: Any, samples_of: Any, architecture: str) -> None:
    model = captured_of(architecture)
    before = run(model, samples_of(architecture))["logits"]
    Tidy().run(model)
    assert np.array_equal(run(model, samples_of(architecture))["logits"], before)
