"""Changing ONNX graphs: names, nodes, constants. Every pass, and the Q/DQ writer, edits with these."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from googlenet_deploy.errors import requires
from googlenet_deploy.graph.graph import all_inputs, subgraphs

with requires("export"):
    import numpy as np
    from google.protobuf.message import Message
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
    from numpy.typing import NDArray

_Message = TypeVar("_Message", bound=Message)


def copied(message: _Message) -> _Message:
    """An independent copy of a model, graph, node or tensor."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def copy_model(model: ModelProto) -> ModelProto:
    """An independent copy of a model."""
    return copied(model)


def replace_entries(entries: RepeatedCompositeFieldContainer[_Message], kept: Iterable[_Message]) -> None:
    """Replaces a graph's list by these entries, in this order; they may be the list's own entries."""
    copies = [copied(entry) for entry in kept]
    del entries[:]
    entries.extend(copies)


def replace_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Replaces a graph's nodes by these, in this order; they may be the graph's own nodes."""
    replace_entries(graph.node, nodes)


def rename_tensors(graph: GraphProto, names: dict[str, str]) -> None:
    """Renames tensors wherever they are made, read, stated or exported; subgraphs included."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for subgraph in subgraphs(node):
            rename_tensors(subgraph, names)
    for entries in (graph.input, graph.output, graph.value_info, graph.initializer):
        for entry in entries:
            entry.name = names.get(entry.name, entry.name)


def unique_name(wanted: str, taken: set[str]) -> str:
    """`wanted`, or `wanted_2`, `wanted_3`, ... if it is taken; the result is added to `taken`."""
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    taken.add(name)
    return name


def name_nodes(graph: GraphProto) -> None:
    """Names nameless nodes after their output, and makes duplicate names unique by a number."""
    taken: set[str] = set()
    for node in graph.node:
        made = next((name for name in node.output if name), "")
        node.name = unique_name(node.name or made or node.op_type.lower(), taken)


def to_tensor(array: NDArray[np.generic], name: str) -> TensorProto:
    """An array as an initializer."""
    return numpy_helper.from_array(array, name)


def add_constant(graph: GraphProto, array: NDArray[np.generic], name: str) -> str:
    """Adds an initializer, whose name must be free and is returned."""
    graph.initializer.append(to_tensor(array, name))
    return name


def set_constant(tensor: TensorProto, array: NDArray[np.generic]) -> None:
    """Replaces an initializer's value, shape and type, under the same name."""
    tensor.CopyFrom(to_tensor(array, tensor.name))


def drop_unread_nodes(graph: GraphProto) -> bool:
    """Removes nodes without any output that is read; returns True if there were any."""
    read = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not read.isdisjoint(node.output):
            kept.append(node)
            read.update(all_inputs(node))
    if len(kept) == len(graph.node):
        return False
    replace_nodes(graph, reversed(kept))
    return True


def drop_unread_constants(graph: GraphProto) -> None:
    """Removes initializers that nothing reads, also from the inputs, and stated types of tensors that are gone."""
    read = {name for node in graph.node for name in all_inputs(node)} | {value.name for value in graph.output}
    dropped = {tensor.name for tensor in graph.initializer} - read
    _keep(graph.initializer, read)
    _keep(graph.input, {value.name for value in graph.input} - dropped)
    _keep(graph.value_info, read | {name for node in graph.node for name in node.output})


def _keep(entries: RepeatedCompositeFieldContainer[_Message], names: set[str]) -> None:
    for position in reversed(range(len(entries))):
        if entries[position].name not in names:  # type: ignore[attr-defined]
            del entries[position]
