"""Detects models exported in training mode, whose answers are random or depend on the rest of the batch."""

from __future__ import annotations

from typing import Iterator

from googlenet_deploy.device.files import PathLike
from googlenet_deploy.device.onnx_model.header import OnnxFile, read_model
from googlenet_deploy.device.onnx_model.messages import Graph, Model, NodeMessage, values_of
from googlenet_deploy.device.text import printable
from googlenet_deploy.errors import BadModelError

# From these opsets on training mode is explicit: an attribute of BatchNormalization, the third input of Dropout.
STATED_NORM, STATED_DROPOUT = 14, 12
_REMEDY = "export the model after model.eval(), or let `export --onnx` write its inference form"


def read_inference_model(path: PathLike) -> OnnxFile:
    """Reads an ONNX file for running or building; see `read_model`.

    Raises:
        BadModelError: As for `read_model`; or the model was exported in training mode.
    """
    file = read_model(path)
    node = next(training_nodes(file.model), None)
    if node is not None:
        why = f"was exported in training mode ({node.operator} {printable(node.label)}): it would answer "
        how = "at random" if node.operator == "Dropout" else "by the statistics of the batch"
        raise BadModelError(path, why + how, _REMEDY)
    return file


def training_nodes(model: Model) -> Iterator[NodeMessage]:
    """The nodes that are in training mode."""
    graph = model.graph
    for node in () if graph is None else graph.nodes:
        if node.operator == "BatchNormalization" and _norm_trains(node, model.opset):
            yield node
        if node.operator == "Dropout" and graph is not None and _drop_trains(node, model.opset, graph):
            yield node


def _norm_trains(node: NodeMessage, opset: int) -> bool:
    if opset < STATED_NORM:
        return len([name for name in node.outputs if name]) > 1
    stated = node.attribute("training_mode")
    return stated is not None and any(stated.integers)


def _drop_trains(node: NodeMessage, opset: int, graph: Graph) -> bool:
    if opset < STATED_DROPOUT or len(node.inputs) < 3 or not node.inputs[2]:
        return False
    constants = {tensor.name: tensor for tensor in graph.initializers}
    for maker in graph.nodes:
        if maker.operator == "Constant":
            constants.update((maker.outputs[0], item.tensors[0]) for item in maker.attributes if item.tensors)
    tensor = constants.get(node.inputs[2])
    values = None if tensor is None else values_of(tensor)
    return values is None or bool(values.any())
