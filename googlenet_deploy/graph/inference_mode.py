"""Models that were exported in training mode: batch normalisation by the batch's own statistics, random dropout.

Such a model's results differ on each run or with each batch. Both operators have an inference form with the same
weights: the form that an export after `model.eval()` would have had.
"""

from __future__ import annotations

from googlenet_deploy.device.onnx_model.training_mode import STATED_DROPOUT, STATED_NORM
from googlenet_deploy.device.text import counted
from googlenet_deploy.errors import requires
from googlenet_deploy.graph.edit import replace_nodes
from googlenet_deploy.graph.graph import DEFAULT_DOMAINS, GraphView, integer, opset_of

with requires("export"):
    from onnx import ModelProto, NodeProto


def to_inference_mode(model: ModelProto) -> list[str]:
    """Converts training-mode BatchNormalization and Dropout to their inference form, in place.

    Returns:
        What was changed, one line for each operator; empty for a model in inference mode.
    """
    graph, opset, index = model.graph, opset_of(model), GraphView(model)
    norms = [node for node in graph.node if _is_operator(node, "BatchNormalization") and _norm_trains(node, opset)]
    drops = [node for node in graph.node if _is_operator(node, "Dropout") and _drop_trains(node, opset, index)]
    for node in norms:
        _drop_statistics(node, index)
    for node in drops:
        del node.input[2:]
    if norms:
        replace_nodes(graph, list(graph.node))
    found = (("BatchNormalization", norms), ("Dropout", drops))
    return [
        f"in training mode: {counted(len(nodes), operator + ' node')} ({nodes[0].name}), changed to compute inference; "
        "export the model with eval() to be sure"
        for operator, nodes in found
        if nodes
    ]


def _is_operator(node: NodeProto, operator: str) -> bool:
    return node.op_type == operator and node.domain in DEFAULT_DOMAINS


def _norm_trains(node: NodeProto, opset: int) -> bool:
    if opset >= STATED_NORM:
        return bool(integer(node, "training_mode", 0))
    return len([name for name in node.output if name]) > 1


def _drop_trains(node: NodeProto, opset: int, index: GraphView) -> bool:
    if opset < STATED_DROPOUT or len(node.input) < 3 or not node.input[2]:
        return False
    return not index.is_constant(node.input[2]) or bool(index.constant(node.input[2]).any())


def _drop_statistics(node: NodeProto, index: GraphView) -> None:
    """Replaces the updated mean and variance by the node's inputs, wherever they are read."""
    for position, name in enumerate(node.output[1:], start=1):
        source = node.input[3] if position in (1, 3) else node.input[4]
        for use in index.consumers.get(name, ()) if name else ():
            use.node.input[use.position] = source
    del node.output[1:]
    kept = [attribute for attribute in node.attribute if attribute.name != "training_mode"]
    copies = [type(attribute).FromString(attribute.SerializeToString()) for attribute in kept]
    del node.attribute[:]
    node.attribute.extend(copies)
