from __future__ import annotations

from typing import Any

import pytest
from onnx import TensorProto, helper

from googlenet_deploy.errors import VerificationError
from googlenet_deploy.graph.graph import serialize
from googlenet_deploy.graph.pass_manager import PassManager, check_model, find_problem

FLOAT = TensorProto.FLOAT


class Edit:
    """A pass that runs a function."""

    name = "edit"
    description = "edited"

    def __init__(self, function: Any, *, optional: Any = False) -> None:
        self.function, self.optional = function, optional

    def run(self, model: Any) -> bool:
        return self.function(model) is not False


def rename_output_of_first_node(model: Any) -> None:
    model.graph.node[0].output[0] = "elsewhere"


def fail(model: Any) -> bool:
    raise VerificationError("could not do it")


def test_a_change_is_recorded_and_the_argument_kept(tiny_classifier: Any) -> None:
    model = tiny_classifier()
    before = serialize(model)

    def drop_relu(edited: Any) -> None:
        del edited.graph.node[1]
        edited.graph.node[1].input[0] = "c"

    manager = PassManager()
    result = manager.run(model, [Edit(drop_relu), Edit(lambda edited: False)])
    assert serialize(model) == before
    assert [(record.changed, record.nodes_before, record.nodes_after) for record in manager.records] == [
        (True, 5, 4),
        (False, 4, 4),
    ]
    assert len(result.graph.node) == 4
    assert {value.name for value in result.graph.value_info} == {"c", "p", "f"}


@pytest.mark.parametrize("broken", [rename_output_of_first_node, fail])
def test_a_required_pass_that_breaks_the_graph_is_an_error(tiny_classifier: Any, broken: Any) -> None:
    with pytest.raises(VerificationError, match="pass edit: "):
        PassManager().run(tiny_classifier(), [Edit(broken)])


@pytest.mark.parametrize("broken", [rename_output_of_first_node, fail])
def test_an_optional_pass_that_breaks_the_graph_is_left_out(tiny_classifier: Any, broken: Any) -> None:
    model = tiny_classifier()
    manager = PassManager()
    result = manager.run(model, [Edit(broken, optional=True)])
    assert serialize(result) == serialize(model)
    assert not manager.records[0].changed
    assert manager.records[0].rejected


def test_verification_sees_both_models_and_can_reject(tiny_classifier: Any) -> None:
    seen = []

    def verify(before: Any, after: Any) -> None:
        seen.append((before.producer_name, after.producer_name))
        raise VerificationError("it computes something else")

    def touch(model: Any) -> None:
        model.producer_name = "edited"

    manager = PassManager(verify)
    result = manager.run(tiny_classifier(), [Edit(touch, optional=True), Edit(lambda model: False)])
    assert seen == [("", "edited")]
    assert result.producer_name == ""
    assert manager.records[0].rejected == "it computes something else"


def test_problems_are_named(model_of: Any) -> None:
    def problem(*nodes: Any, outputs: Any = ("y",)) -> str:
        model = model_of(nodes, [("x", FLOAT, [2])], [(name, FLOAT, [2]) for name in outputs])
        return find_problem(model.graph)

    relu = helper.make_node("Relu", ["x"], ["y"], "a")
    assert problem(relu) == ""
    assert "has no name" in problem(helper.make_node("Relu", ["x"], ["y"]))
    assert "two nodes are called a" in problem(relu, helper.make_node("Relu", ["x"], ["z"], "a"))
    assert "reads q, which nothing" in problem(helper.make_node("Relu", ["q"], ["y"], "a"))
    assert "y is made twice" in problem(relu, helper.make_node("Relu", ["x"], ["y"], "b"))
    assert "nothing makes the output z" in problem(relu, outputs=("z",))
    later = (helper.make_node("Relu", ["z"], ["y"], "a"), helper.make_node("Relu", ["x"], ["z"], "b"))
    assert "reads z, which nothing before it" in problem(*later)


def test_shapes_that_contradict_each_other_are_refused(model_of: Any) -> None:
    nodes = [helper.make_node("Add", ["x", "w"], ["y"], "add")]
    model = model_of(nodes, [("x", FLOAT, [2, 3]), ("w", FLOAT, [2, 4])], [("y", FLOAT, [2, 3])])
    with pytest.raises(VerificationError, match="checker refuses"):
        check_model(model)


def test_constants_read_inside_subgraphs_count_as_read(model_of: Any) -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["inner"], "id")],
        "b",
        [],
        [helper.make_tensor_value_info("inner", FLOAT, [2])],
    )
    node = helper.make_node("If", ["flag"], ["y"], "if", then_branch=branch, else_branch=branch)
    model = model_of([node], [("flag", TensorProto.BOOL, []), ("x", FLOAT, [2])], [("y", FLOAT, [2])])
    check_model(model)
    del model.graph.input[1]
    assert "reads x" in find_problem(model.graph)
