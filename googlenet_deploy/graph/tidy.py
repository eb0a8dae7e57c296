"""Brings a model into the form in which it is written: nothing unused, nothing accidental, fixed order."""

from __future__ import annotations

from googlenet_deploy.errors import requires
from googlenet_deploy.graph.edit import drop_unread_nodes, name_nodes, replace_entries, replace_nodes
from googlenet_deploy.graph.graph import DEFAULT_DOMAINS, all_inputs, serialize

with requires("export"):
    from onnx import GraphProto, ModelProto


class Tidy:
    """Removes dead nodes and constants, exporters' notes (paths of the machine among them) and unused imports.

    Constant nodes become initializers, nodes without a name get one, attributes are sorted, and initializers are in
    the order in which the nodes read them. They are no longer listed as inputs, which only IR version 3 requires, so
    the version becomes at least 4.
    """

    name = "tidy"
    description = "dead nodes, unused constants and exporters' notes removed"
    optional = False

    def run(self, model: ModelProto) -> bool:
        """See the class."""
        before = serialize(model)
        graph = model.graph
        _constants_to_initializers(graph)
        drop_unread_nodes(graph)
        _order_initializers(graph)
        model.ir_version = max(model.ir_version, 4)
        name_nodes(graph)
        _remove_notes(model)
        used = {node.domain for node in graph.node} | {
            node.domain for function in model.functions for node in function.node
        }
        imports = [entry for entry in model.opset_import if entry.domain in DEFAULT_DOMAINS or entry.domain in used]
        versions = sorted(("" if entry.domain in DEFAULT_DOMAINS else entry.domain, entry.version) for entry in imports)
        del model.opset_import[:]
        for domain, version in versions:
            model.opset_import.add(domain=domain, version=version)
        return serialize(model) != before


def _constants_to_initializers(graph: GraphProto) -> None:
    """Turns Constant nodes that hold a tensor into initializers, the only form that every tool accepts as a weight."""
    kept = []
    for node in graph.node:
        values = [attribute.t for attribute in node.attribute if attribute.name == "value"]
        if node.op_type == "Constant" and node.domain in DEFAULT_DOMAINS and values:
            tensor = graph.initializer.add()
            tensor.CopyFrom(values[0])
            tensor.name = node.output[0]
        else:
            kept.append(node)
    if len(kept) != len(graph.node):
        replace_nodes(graph, kept)


def _order_initializers(graph: GraphProto) -> None:
    """Keeps the initializers that something reads, in the order of their first reader."""
    order: dict[str, None] = {}
    for node in graph.node:
        order.update(dict.fromkeys(all_inputs(node)))
    order.update(dict.fromkeys(output.name for output in graph.output))
    constants = {tensor.name: tensor for tensor in graph.initializer}
    replace_entries(graph.initializer, [constants[name] for name in order if name in constants])
    replace_entries(graph.input, [value for value in graph.input if value.name not in constants])


def _remove_notes(model: ModelProto) -> None:
    """Removes doc strings and metadata of nodes and tensors: stack traces with local paths, exporters' scopes."""
    graph = model.graph
    for entries in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        for entry in entries:
            entry.ClearField("doc_string")
            del entry.metadata_props[:]
    for node in graph.node:
        replace_entries(node.attribute, sorted(node.attribute, key=lambda attribute: attribute.name))
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
    graph.ClearField("doc_string")
    del graph.metadata_props[:]
