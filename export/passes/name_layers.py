"""Gives nodes and tensors the names of the layers that they come from. This is the one place that defines them.

=====================  ==============================================  ==================================
what                   name                                            example
=====================  ==============================================  ==================================
weight, bias           the parameter's path                            ``inception3a/branch2/1/conv/weight``
node of a layer        the layer's path                                ``inception3a/branch2/1/conv``
node of a block        the block's path and the operator               ``inception3a/branch2/1/relu``,
                                                                       ``inception3a/concat``
node of the net        the operator                                    ``flatten``
tensor of a layer      the layer's path                                ``maxpool3``, ``norm1``, ``avgpool``
tensor of a block      the block's path                                ``inception3a/branch2/1``, ``inception3a``
input, output          ``input``; ``logits``, ``probabilities``, ``top_k_values``, ``top_k_indices``
=====================  ==============================================  ==================================

A path is PyTorch's module path with slashes for dots. A layer is a module of ``torch.nn`` or one that is a single
operator; a block is a module that holds others, and its last operator makes the tensor that bears the block's
name. Nodes and tensors each have a namespace of their own, in which every name is unique; where a layer needs several
nodes, the first keeps its name and the others add their operator.

TensorRT names its layers by the nodes, and calibration tables, caches and Q/DQ placement go by the tensors; so
the names are the same for float and uint8 input, every opset, and with and without merged convolutions.
"""

from __future__ import annotations

import ast
from typing import NamedTuple

from googlenet_deploy.errors import requires
from googlenet_deploy.graph.graph import rename_tensors, unique_name

with requires("export"):
    from onnx import GraphProto, ModelProto, NodeProto

_SCOPES = "pkg.torch.onnx.name_scopes"
_CLASSES = "pkg.torch.onnx.class_hierarchy"


class _Origin(NamedTuple):
    """The module that a node comes from: its path with slashes, "" for the net itself, and if it is a layer."""

    path: str
    is_layer: bool


class NameLayers:
    """Renames what torch's exporter made, by the module paths that it leaves in the nodes' metadata."""

    name = "name-layers"
    description = "nodes and tensors named after their layers"
    optional = False

    def run(self, model: ModelProto) -> bool:
        """See the module's docstring; nodes without the exporter's metadata keep their names."""
        graph = model.graph
        if not any(_origin(node) for node in graph.node):
            return False
        tensors = _parameter_names(graph)
        taken = set(tensors.values()) | {value.name for value in [*graph.input, *graph.output]}
        taken_nodes: set[str] = set()
        fixed = {value.name for value in graph.output}
        for node in graph.node:
            origin = _origin(node)
            operator = node.op_type.lower()
            if origin is None:
                node.name = unique_name(node.name or operator, taken_nodes)
                continue
            node.name = unique_name(_node_name(origin, operator, taken_nodes), taken_nodes)
            for output in node.output:
                if output and output not in fixed:
                    tensors[output] = unique_name(origin.path or operator, taken)
        rename_tensors(graph, tensors)
        return True


def _node_name(origin: _Origin, operator: str, taken: set[str]) -> str:
    if not origin.path:
        return operator
    if origin.is_layer and origin.path not in taken:
        return origin.path
    return f"{origin.path}/{operator}"


def _parameter_names(graph: GraphProto) -> dict[str, str]:
    """Parameters keep their path, with slashes; constants of the exporter keep their name."""
    return {tensor.name: tensor.name.replace(".", "/") for tensor in graph.initializer}


def _origin(node: NodeProto) -> _Origin | None:
    properties = {entry.key: entry.value for entry in node.metadata_props}
    try:
        scopes = ast.literal_eval(properties[_SCOPES])
        classes = ast.literal_eval(properties[_CLASSES])
        path, kind = str(scopes[-2]), str(classes[-2])
    except (KeyError, IndexError, ValueError, SyntaxError):
        return None
    is_block = kind.endswith((".ConvBlock", ".Inception", ".AuxiliaryClassifier")) or ".container." in kind
    return _Origin(path.replace(".", "/"), is_layer=not is_block)
