"""Sibling 1x1 convolutions on the same tensor become one convolution and a Split.

In an Inception module branch1 and the reductions of branch2 and branch3 are 1x1 convolutions on the module's input. One
convolution with all their filters reads that input once instead of three times, and one larger matrix product fills
a GPU better than three small ones; the Split costs a copy where the runtime cannot write to its parts directly. Every
filter still sees the same numbers, so the result is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from googlenet_deploy.errors import requires
from googlenet_deploy.graph.graph import (
    DEFAULT_DOMAINS,
    GraphIndex,
    integer,
    integers,
    opset_of,
    replace_nodes,
    tensor_names,
    text,
    unique_name,
)

with requires("export"):
    import numpy as np
    import numpy.typing as npt
    from onnx import ModelProto, NodeProto, helper, numpy_helper


@dataclass(frozen=True)
class _Sibling:
    """One 1x1 convolution and the ReLU that alone reads it."""

    conv: NodeProto
    relu: NodeProto
    weight: npt.NDArray[np.generic]
    bias: npt.NDArray[np.generic]


class Merge1x1:
    """Merges every group of two or more such convolutions; the tensors behind the ReLUs keep their names."""

    name = "merge-1x1"
    description = "sibling 1x1 convolutions merged"
    optional = True

    def run(self, model: ModelProto) -> bool:
        """See the class and the module's docstring."""
        graph = model.graph
        index = GraphIndex(graph)
        tensors = tensor_names(graph)
        node_names = {node.name for node in graph.node}
        merged: dict[str, list[NodeProto]] = {}
        dropped: set[str] = set()
        for source, group in _groups(index, graph.node).items():
            nodes = self._merge(model, source, group, tensors, node_names)
            merged[group[0].conv.name] = nodes
            dropped.update(name for sibling in group for name in (sibling.conv.name, sibling.relu.name))
        if not merged:
            return False
        kept: list[NodeProto] = []
        for node in graph.node:
            kept.extend(merged.get(node.name, []))
            if node.name not in dropped:
                kept.append(node)
        replace_nodes(graph, kept)
        _remove_constants(model)
        return True

    def _merge(
        self, model: ModelProto, source: str, group: list[_Sibling], tensors: set[str], node_names: set[str]
    ) -> list[NodeProto]:
        """Convolution, ReLU and Split that replace a group; the constants are added to the model."""
        prefix = _common_path([sibling.conv.name for sibling in group])
        path = unique_name(f"{prefix}/merged_1x1" if prefix else "merged_1x1", set(tensors))
        weight, bias = f"{path}/conv/weight", f"{path}/conv/bias"
        sizes = [len(sibling.weight) for sibling in group]
        for name, values in (
            (weight, np.concatenate([sibling.weight for sibling in group])),
            (bias, np.concatenate([sibling.bias for sibling in group])),
        ):
            model.graph.initializer.append(numpy_helper.from_array(values, name))
        tensors.update((path, weight, bias))
        conv = helper.make_node(
            "Conv",
            [source, weight, bias],
            [f"{path}/conv"],
            unique_name(f"{path}/conv", node_names),
            dilations=[1, 1],
            group=1,
            kernel_shape=[1, 1],
            pads=[0, 0, 0, 0],
            strides=[1, 1],
        )
        relu = helper.make_node("Relu", [f"{path}/conv"], [path], unique_name(f"{path}/relu", node_names))
        outputs = [sibling.relu.output[0] for sibling in group]
        split = helper.make_node("Split", [path], outputs, unique_name(f"{path}/split", node_names), axis=1)
        if opset_of(model) < 13:
            split.attribute.append(helper.make_attribute("split", sizes))
        else:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(sizes, np.int64), f"{path}/split/sizes"))
            split.input.append(f"{path}/split/sizes")
        return [conv, relu, split]


def _groups(index: GraphIndex, nodes: Iterable[NodeProto]) -> dict[str, list[_Sibling]]:
    """Mergeable convolutions by the tensor that they read, groups of one left out."""
    groups: dict[str, list[_Sibling]] = {}
    for node in nodes:
        sibling = _sibling(node, index)
        if sibling is not None:
            groups.setdefault(node.input[0], []).append(sibling)
    return {source: group for source, group in groups.items() if len(group) > 1}


def _sibling(node: NodeProto, index: GraphIndex) -> _Sibling | None:
    """The node as a candidate; None where it is no plain 1x1 convolution with constant weights and a ReLU."""
    if node.op_type != "Conv" or node.domain not in DEFAULT_DOMAINS:
        return None
    weight = index.constants.get(node.input[1])
    if weight is None or list(weight.dims[2:]) != [1, 1]:
        return None
    plain = (
        integer(node, "group", 1) == 1
        and set(integers(node, "strides", [1])) == {1}
        and set(integers(node, "pads", [0])) == {0}
        and text(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    )
    relu = index.only_consumer(node.output[0])
    if not plain or relu is None or relu.op_type != "Relu":
        return None
    values = numpy_helper.to_array(weight)
    if len(node.input) < 3 or not node.input[2]:
        return _Sibling(node, relu, values, np.zeros(len(values), values.dtype))
    bias = index.constants.get(node.input[2])
    return None if bias is None else _Sibling(node, relu, values, numpy_helper.to_array(bias))


def _common_path(names: list[str]) -> str:
    """The leading parts that all names share: ``inception3a`` for its branches."""
    shared = []
    for parts in zip(*(name.split("/")[:-1] for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared)


def _remove_constants(model: ModelProto) -> None:
    """Takes out the initializers that nothing reads any more."""
    used = GraphIndex(model.graph).consumers.keys() | {output.name for output in model.graph.output}
    for position in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[position].name not in used:
            del model.graph.initializer[position]
