"""Shapes: those that a model states, and those that ONNX's shape inference adds. A symbolic batch stays symbolic."""

from __future__ import annotations

from collections.abc import Container

from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import VerificationError, first_line, requires
from googlenet_deploy.graph.edit import copy_model
from googlenet_deploy.graph.graph import (
    INFERENCE_ERRORS,
    Shape,
    all_inputs,
    inferred,
    known_shapes,
    runtime_inputs,
    shape_of,
)

with requires("export"):
    from onnx import GraphProto, ModelProto, NodeProto, shape_inference


def infer_shapes(model: ModelProto) -> None:
    """Adds to ``value_info``, in place, the shapes that inference finds and the model does not state.

    Nothing that the model states is changed. A graph that inference cannot read stays as it is.
    """
    graph, found_graph = model.graph, inferred(model).graph
    listed = {value.name: value for value in graph.value_info}
    for value in sorted(found_graph.value_info, key=lambda value: value.name):
        if value.name in listed:
            listed[value.name].CopyFrom(value)
        else:
            graph.value_info.append(value)
    for own, found in zip(graph.output, found_graph.output, strict=True):
        own.CopyFrom(found)


def inferred_shapes(model: ModelProto) -> dict[str, Shape]:
    """Shapes of all tensors that the model states or that inference finds; the model is left as it is."""
    return known_shapes(inferred(model))


def fix_input(model: ModelProto, batch: int, preprocessing: Preprocessing | None = None) -> ModelProto:
    """A copy whose input has no open dimension: batch, and height and width if the preprocessing states them.

    Args:
        model: The model; an input that is fixed already stays as it is.
        batch: Batch size.
        preprocessing: How images are prepared for it.
    """
    copy = copy_model(model)
    opened = False
    for value in runtime_inputs(copy.graph):
        rank = len(shape_of(value))
        known = preprocessing is not None and rank == 4
        sizes: list[int | None] = [
            batch,
            *(preprocessing.input_shape if known and preprocessing else [None] * (rank - 1)),
        ]
        for dimension, have, size in zip(value.type.tensor_type.shape.dim, shape_of(value), sizes, strict=False):
            if not isinstance(have, int) and size is not None:
                dimension.dim_value = size
                opened = True
    if opened:
        _forget_symbols(copy.graph)
    return copy


def _forget_symbols(graph: GraphProto) -> None:
    """Removes stated inner and output shapes that hold less than inference will find."""
    del graph.value_info[:]
    inputs = {value.name: value for value in graph.input}
    for value in graph.output:
        if value.name in inputs:
            value.CopyFrom(inputs[value.name])
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.HasField("dim_param"):
                dimension.Clear()


def restate_shapes(model: ModelProto) -> None:
    """Discards the stated shapes of intermediate tensors and infers them again, in place.

    Raises:
        VerificationError: The graph's shapes contradict each other.
    """
    made = {name for node in model.graph.node for name in node.output if name}
    del model.graph.value_info[:]
    try:
        inferred = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except INFERENCE_ERRORS as error:
        raise VerificationError(f"shape inference fails: {first_line(error)}") from error
    model.graph.value_info.extend(
        sorted((value for value in inferred.graph.value_info if value.name in made), key=lambda v: v.name)
    )


def first_unknown(model: ModelProto, skipped: Container[str] = ()) -> NodeProto | None:
    """The first node, in graph order, whose output's shape is not known in full; None without such a node.

    Further outputs that nothing reads, such as the mask of a Dropout, do not count.

    Args:
        model: The model, its shapes inferred.
        skipped: Tensors that do not matter.
    """
    shapes, graph = known_shapes(model), model.graph
    read = {name for node in graph.node for name in all_inputs(node)} | {value.name for value in graph.output}
    for node in graph.node:
        made = [*node.output[:1], *(name for name in node.output[1:] if name in read)]
        for name in made:
            sizes = shapes.get(name)
            if name and name not in skipped and (sizes is None or not all(isinstance(size, int) for size in sizes)):
                return node
    return None
