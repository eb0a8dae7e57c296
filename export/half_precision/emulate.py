"""A float32 graph that rounds where a 16-bit graph would, to verify what the 16-bit graph computes.

ONNX Runtime on the CPU cannot do this: it has no BF16 convolutions, and runs FP16 ones in float32 without the casts
between them, so that nothing is rounded and nothing overflows. In the emulation, every tensor that is FP16 or BF16 in
the model is cast to that type and back; beyond the type's range it becomes infinite, as on the device. Sums inside a
layer are float32 in both.
"""

from __future__ import annotations

from googlenet_deploy.errors import requires
from googlenet_deploy.export.half_precision.types import HALF_TYPES, HalfType
from googlenet_deploy.graph.edit import copy_model, replace_nodes, set_constant, unique_name
from googlenet_deploy.graph.graph import element_types, tensor_names

with requires("export"):
    from onnx import ModelProto, NodeProto, TensorProto, helper

# These only pass on values that are rounded already.
_SELECTING = ("Relu", "MaxPool", "GlobalMaxPool", "Concat", "Flatten", "Reshape", "Transpose", "Identity", "Squeeze",
    "Unsqueeze", "Dropout", "Slice", "Gather", "Split", "TopK")  # fmt: skip


def stand_in(model: ModelProto) -> ModelProto:
    """The float32 model that rounds like `model`; a copy of it if nothing in it has 16 bits.

    Args:
        model: With the types of its tensors stated; inputs and outputs not of 16 bits.
    """
    copy = copy_model(model)
    codes = {kind.code: kind for kind in HALF_TYPES.values()}
    types = element_types(copy)
    half = {name: codes[code] for name, code in types.items() if code in codes}
    taken = tensor_names(copy.graph) | {node.name for node in copy.graph.node}
    for tensor in copy.graph.initializer:
        if tensor.name in half:
            set_constant(tensor, half[tensor.name].from_tensor(tensor))
    nodes: list[NodeProto] = []
    for node in copy.graph.node:
        nodes += _rounding(node, half, taken)
    replace_nodes(copy.graph, nodes)
    del copy.graph.value_info[:]
    return copy


def _rounding(node: NodeProto, half: dict[str, HalfType], taken: set[str]) -> list[NodeProto]:
    """A node in float32, and the nodes that round its results."""
    if node.op_type == "Cast":
        for attribute in node.attribute:
            if attribute.name == "to" and node.output[0] in half:
                attribute.i = TensorProto.FLOAT
    nodes = [node]
    for position, name in enumerate(node.output):
        if name not in half or node.op_type in _SELECTING:
            continue
        exact, rounded = unique_name(f"{name}/exact", taken), unique_name(f"{name}/rounded", taken)
        node.output[position] = exact
        nodes.append(helper.make_node("Cast", [exact], [rounded], rounded, to=half[name].code))
        nodes.append(helper.make_node("Cast", [rounded], [name], unique_name(f"{name}/widened", taken), to=1))
    return nodes
