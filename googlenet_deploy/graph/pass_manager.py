"""What a pass is, and the manager that runs passes and checks their results.

A pass edits a model in place and returns whether it changed anything. Before and after each one the manager checks that
the model is well formed: unique node and tensor names, no tensor that is read but never made, and the ONNX
checker with full shape inference. A pass that fails leaves the model as it was before the pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from googlenet_deploy.errors import VerificationError, first_line, requires
from googlenet_deploy.graph.edit import copy_model
from googlenet_deploy.graph.graph import INFERENCE_ERRORS, all_inputs
from googlenet_deploy.graph.shapes import restate_shapes

with requires("export"):
    import onnx
    from onnx import GraphProto, ModelProto


class Pass(Protocol):
    """A transformation of a whole model, in which the shapes of all tensors are stated as far as they are known.

    Attributes:
        name: Short name, for the summary and the metadata.
        description: What it does, as a phrase that follows the name.
        optional: An improvement that may be left out: if its result fails a check, the model is kept as it was
            and this is reported. A required pass that fails is an error.
    """

    name: str
    description: str
    optional: bool

    def run(self, model: ModelProto) -> bool:
        """Edits the model in place; returns True if it changed anything."""
        ...


@dataclass(frozen=True)
class PassRecord:
    """The result of one pass.

    Attributes:
        name: The pass.
        description: What it does.
        changed: It changed the model and its result was kept.
        nodes_before: Number of nodes before it.
        nodes_after: Number of nodes after it.
        rejected: Why its result was discarded; empty if it was not.
    """

    name: str
    description: str
    changed: bool
    nodes_before: int
    nodes_after: int
    rejected: str = ""


class PassManager:
    """Runs passes one after another and records what each did.

    Args:
        verify: Compares the model before a pass with the model after it and raises `VerificationError` if they
            differ; called for every pass that changed something.
    """

    def __init__(self, verify: Callable[[ModelProto, ModelProto], None] | None = None) -> None:
        self._verify = verify
        self.records: list[PassRecord] = []

    def run(self, model: ModelProto, passes: Sequence[Pass]) -> ModelProto:
        """The model after all `passes`; the argument is left as it is.

        Raises:
            VerificationError: A required pass returned a model that is damaged or computes something else.
        """
        check_model(model)
        model = copy_model(model)
        restate_shapes(model)
        for step in passes:
            model = self._run_one(model, step)
        return model

    def _run_one(self, model: ModelProto, step: Pass) -> ModelProto:
        edited = copy_model(model)
        before = len(model.graph.node)
        rejected = ""
        try:
            changed = step.run(edited)
            if changed:
                restate_shapes(edited)
                check_model(edited)
                if self._verify is not None:
                    self._verify(model, edited)
        except VerificationError as error:
            if not step.optional:
                raise VerificationError(f"pass {step.name}: {error.message}", error.remedy) from error
            changed, rejected = False, error.message
        result = edited if changed else model
        self.records.append(
            PassRecord(step.name, step.description, changed, before, len(result.graph.node), rejected=rejected)
        )
        return result


def check_model(model: ModelProto) -> None:
    """Checks that a model is well formed.

    Raises:
        VerificationError: It is not; the message explains why.
    """
    problem = find_problem(model.graph)
    if problem:
        raise VerificationError(f"the graph is damaged: {problem}")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, TypeError, *INFERENCE_ERRORS) as error:
        raise VerificationError(f"the ONNX checker refuses the graph: {first_line(error)}") from error


def find_problem(graph: GraphProto) -> str:
    """The first problem with a graph's names and edges; empty if there is none."""
    node_names = [node.name for node in graph.node]
    if not all(node_names):
        return f"a {graph.node[node_names.index('')].op_type} node has no name"
    doubled = next((name for name in node_names if node_names.count(name) > 1), None)
    if doubled:
        return f"two nodes are called {doubled}"
    made = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        missing = next((name for name in all_inputs(node) if name not in made), None)
        if missing is not None:
            return f"node {node.name} reads {missing}, which nothing before it makes"
        again = next((name for name in node.output if name and name in made), None)
        if again is not None:
            return f"tensor {again} is made twice"
        made.update(name for name in node.output if name)
    unmade = next((output.name for output in graph.output if output.name not in made), None)
    return f"nothing makes the output {unmade}" if unmade else ""
