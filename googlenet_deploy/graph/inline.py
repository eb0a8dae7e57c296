"""Turns model-local functions, which PyTorch's newer exporter writes, into nodes of the graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from googlenet_deploy.errors import VerificationError, first_line, requires
from googlenet_deploy.graph.edit import name_nodes
from googlenet_deploy.graph.graph import subgraphs

with requires("export"):
    from onnx import ModelProto, NodeProto, inliner


def inline_functions(model: ModelProto) -> bool:
    """Replaces calls of the model's own functions by their nodes, in place; returns True if there were any.

    Raises:
        VerificationError: A function calls itself, or onnx cannot inline one.
    """
    if not model.functions:
        return False
    check_functions(model)
    try:
        inlined = inliner.inline_local_functions(model)
    except (RuntimeError, ValueError) as error:
        raise VerificationError(f"its functions cannot be inlined: {first_line(error)}") from error
    used = {node.domain for node in _all_nodes(inlined.graph.node)}
    imports = [entry for entry in inlined.opset_import if entry.domain in used or entry.domain in ("", "ai.onnx")]
    model.graph.CopyFrom(inlined.graph)
    del model.functions[:]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    name_nodes(model.graph)
    return True


def check_functions(model: ModelProto) -> None:
    """Checks that no function calls itself, directly or through others: onnx would never finish inlining it.

    Raises:
        VerificationError: A function calls itself.
    """
    functions = {(function.domain, function.name): function for function in model.functions}
    calls = {
        key: {(node.domain, node.op_type) for node in _all_nodes(function.node)} & functions.keys()
        for key, function in functions.items()
    }
    while calls:
        leaves = {key for key, called in calls.items() if not called & calls.keys()}
        if not leaves:
            domain, name = min(calls)
            raise VerificationError(f"its function {domain}:{name} calls itself")
        calls = {key: called for key, called in calls.items() if key not in leaves}


def _all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from _all_nodes(graph.node)
