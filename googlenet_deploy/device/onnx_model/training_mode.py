"""Detects models exported in training mode, whose answers are random or depend on the rest of the batch."""

from __future__ import annotations

from typing import Iterator, Sequence, Tuple

from googlenet_deploy.device.files import PathLike
from googlenet_deploy.device.onnx_model.header import OnnxFile, every_graph, read_model
from googlenet_deploy.device.onnx_model.messages import Graph, Model, NodeMessage, TensorMessage, values_of
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
    """The nodes that are in training mode, those in functions and subgraphs included."""
    graphs = every_graph(model)
    for node in (node for graph in graphs for node in graph.nodes):
        if (node.operator == "BatchNormalization" and _norm_trains(node, model.opset)) or (
            node.operator == "Dropout" and _drop_trains(node, model, graphs)
        ):
            yield node


def _norm_trains(node: NodeMessage, opset: int) -> bool:
    if opset < STATED_NORM:
        return len([name for name in node.outputs if name]) > 1
    stated = node.attribute("training_mode")
    return stated is not None and any(stated.integers)


def _drop_trains(node: NodeMessage, model: Model, graphs: Sequence[Graph]) -> bool:
    """A mode that is computed counts as training; one that a function is called with is not known here."""
    mode = node.inputs[2] if len(node.inputs) > 2 and model.opset >= STATED_DROPOUT else ""
    if not mode or any(mode in function.inputs for function in model.functions):
        return False
    values = next((values_of(tensor) for name, tensor in _constants(graphs) if name == mode), None)
    return values is None or bool(values.any())


def _constants(graphs: Sequence[Graph]) -> Iterator[Tuple[str, TensorMessage]]:
    for graph in graphs:
        yield from ((tensor.name, tensor) for tensor in graph.initializers)
        for node in graph.nodes:
            if node.operator == "Constant":
                yield from ((node.outputs[0], item.tensors[0]) for item in node.attributes if item.tensors)
