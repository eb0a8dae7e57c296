"""Names nodes and tensors after the layers that they come from. This is the only place that defines the names.

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

A path is PyTorch's qualified module name with slashes for dots, whatever the network; weights of the network
itself keep their own name. A layer is a module without submodules that make nodes; a block is a module with such
submodules. The last operator of a layer or block makes the tensor with its name; tensors before it append their
operator, such as ``layer1/0/add`` before the ReLU that makes ``layer1/0``. Nodes and tensors have separate namespaces,
in which every name is unique; if a layer needs several nodes, the first has its name and the others append their
operator.

TensorRT names its layers after the nodes, and calibration tables, caches and Q/DQ placement use the tensors' names; so
the names are the same for float and uint8 input and for every opset.
"""

from __future__ import annotations

import ast

from googlenet_deploy.errors import requires
from googlenet_deploy.graph.edit import rename_tensors, unique_name

with requires("export"):
    from onnx import GraphProto, ModelProto, NodeProto

_SCOPES = "pkg.torch.onnx.name_scopes"
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_CONSTANTS = frozenset({"Constant", "ConstantOfShape", "Shape"})


class NameLayers:
    """Renames what torch's exporters made, by the module paths that they leave in the nodes."""

    name = "name-layers"
    description = "nodes and tensors named after their layers"
    optional = False

    def run(self, model: ModelProto) -> bool:
        """See the module's docstring; nodes without the exporter's metadata keep their names."""
        graph = model.graph
        paths = _paths(model)
        if all(path is None for path in paths):
            return False
        tensors = _parameter_names(graph)
        taken = set(tensors.values()) | {value.name for value in [*graph.input, *graph.output]}
        taken_nodes: set[str] = set()
        fixed = {value.name for value in graph.output}
        layers, last = _layers(paths), _last_nodes(graph, paths)
        for index, (node, path) in enumerate(zip(graph.node, paths, strict=True)):
            operator = node.op_type.lower()
            if path is None:
                node.name = unique_name(node.name or operator, taken_nodes)
                continue
            node.name = unique_name(_node_name(path, operator, path in layers, taken_nodes), taken_nodes)
            for output in node.output:
                if output and output not in fixed:
                    name = path if index == last[path] else f"{path}/{operator}"
                    tensors[output] = unique_name(name if path else operator, taken)
        rename_tensors(graph, tensors)
        return True


class NameWeights:
    """Names weights made by simplification (such as by folding BatchNorm into a convolution) after their layer."""

    name = "name-weights"
    description = "folded weights named after their layers"
    optional = False

    def run(self, model: ModelProto) -> bool:
        """Changes the constants of convolutions and linear layers whose names have no path."""
        graph = model.graph
        taken = {tensor.name for tensor in graph.initializer} | {name for node in graph.node for name in node.output}
        nameless = {tensor.name for tensor in graph.initializer if "/" not in tensor.name}
        renamed: dict[str, str] = {}
        for node in graph.node:
            if node.op_type in _WEIGHTED and node.name:
                for name, kind in zip(node.input[1:3], ("weight", "bias"), strict=False):
                    if name in nameless and name not in renamed:
                        renamed[name] = unique_name(f"{node.name}/{kind}", taken)
        rename_tensors(graph, renamed)
        return bool(renamed)


def _node_name(path: str, operator: str, is_layer: bool, taken: set[str]) -> str:
    if not path:
        return operator
    return path if is_layer and path not in taken else f"{path}/{operator}"


def _parameter_names(graph: GraphProto) -> dict[str, str]:
    """New names: parameters keep their path, with slashes; constants of the exporter keep their name."""
    return {tensor.name: tensor.name.replace(".", "/") for tensor in graph.initializer}


def _layers(paths: list[str | None]) -> set[str]:
    """The paths below which no other path has nodes."""
    known = {path for path in paths if path}
    blocks = {"/".join(parts[:end]) for parts in (path.split("/") for path in known) for end in range(1, len(parts))}
    return known - blocks


def _last_nodes(graph: GraphProto, paths: list[str | None]) -> dict[str, int]:
    """The position of the last node of each path that computes something."""
    last: dict[str, int] = {}
    for index, (node, path) in enumerate(zip(graph.node, paths, strict=True)):
        if path is not None and (path not in last or node.op_type not in _CONSTANTS):
            last[path] = index
    return last


def _paths(model: ModelProto) -> list[str | None]:
    """The path of the module of each node, "" for the network itself; None if that is not known."""
    from_scopes = [_scope(node) for node in model.graph.node]
    if any(path is not None for path in from_scopes) or model.producer_name != "pytorch":
        return from_scopes
    return [_path_in_name(node.name) for node in model.graph.node]


def _scope(node: NodeProto) -> str | None:
    """For the dynamo exporter, whose metadata holds the qualified names of all modules around the node."""
    properties = {entry.key: entry.value for entry in node.metadata_props}
    try:
        return str(ast.literal_eval(properties[_SCOPES])[-2]).replace(".", "/")
    except (KeyError, IndexError, ValueError, SyntaxError):
        return None


def _path_in_name(name: str) -> str | None:
    """For the TorchScript exporter, which names nodes ``/layer1/layer1.0/conv1/Conv``.

    A part that begins with the one before it and a dot is an item of a container, whose own name is what follows.
    """
    if not name.startswith("/"):
        return None
    path: list[str] = []
    previous = ""
    for part in name.strip("/").split("/")[:-1]:
        path.append(part.removeprefix(f"{previous}.") if previous else part)
        previous = part
    return "/".join(path).replace(".", "/")
