"""Shapes: what a model states, and what ONNX's shape inference adds to it. A symbolic batch stays symbolic."""

from __future__ import annotations

import math
from collections.abc import Container

from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import VerificationError, first_line, requires
from googlenet_deploy.graph.graph import all_inputs, copy_model, known_shapes, runtime_inputs, shape_of

with requires("export"):
    from onnx import GraphProto, ModelProto, NodeProto, shape_inference

Shape = list[int | str | None]

# Constants of at most this many elements may say how large other tensors are.
LARGEST_READ = 4096
INFERENCE_ERRORS = (shape_inference.InferenceError, RuntimeError, ValueError)


def infer_shapes(model: ModelProto) -> None:
    """States in ``value_info`` what shape inference finds beyond what the model states, in place.

    Nothing that the model states is changed. A graph that inference cannot read stays as it is.
    """
    inferred = _inferred(model)
    if inferred is None:
        return
    graph = model.graph
    listed = {value.name: value for value in graph.value_info}
    for value in sorted(inferred.graph.value_info, key=lambda value: value.name):
        if value.name in listed:
            listed[value.name].CopyFrom(value)
        else:
            graph.value_info.append(value)
    for own, found in zip(graph.output, inferred.graph.output, strict=True):
        own.CopyFrom(found)


def inferred_shapes(model: ModelProto) -> dict[str, Shape]:
    """Shapes of all tensors that the model states or that inference finds; the model is left as it is."""
    inferred = _inferred(model)
    return known_shapes(model) if inferred is None else known_shapes(inferred)


def _inferred(model: ModelProto) -> ModelProto | None:
    """The graph with what inference finds; None where it fails. Large constants are without their data, for speed."""
    light = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph, own = light.graph, model.graph
    graph.name = own.name or "graph"
    for kind in ("node", "input", "output", "value_info"):
        getattr(graph, kind).extend(getattr(own, kind))
    for tensor in own.initializer:
        if math.prod(tensor.dims) <= LARGEST_READ:
            graph.initializer.append(tensor)
        else:
            graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    try:
        found: ModelProto = shape_inference.infer_shapes(light, data_prop=True)
    except INFERENCE_ERRORS:
        return None
    return found


def fix_input(model: ModelProto, batch: int, preprocessing: Preprocessing | None = None) -> ModelProto:
    """A copy whose input has no open dimension: the batch, and height and width where the preprocessing says them.

    Args:
        model: The model; an input that is fixed already stays as it is.
        batch: Batch size.
        preprocessing: How images are prepared for it.
    """
    copy = copy_model(model)
    opened = False
    for value in runtime_inputs(copy.graph):
        sizes: list[int | None] = [batch, *[None] * (len(shape_of(value)) - 1)]
        if preprocessing is not None and len(sizes) == 4:
            height = 2 if preprocessing.layout == "NCHW" else 1
            sizes[height : height + 2] = preprocessing.crop
        for dimension, have, size in zip(value.type.tensor_type.shape.dim, shape_of(value), sizes, strict=False):
            if not isinstance(have, int) and size is not None:
                dimension.dim_value = size
                opened = True
    if opened:
        _forget_symbols(copy.graph)
    return copy


def _forget_symbols(graph: GraphProto) -> None:
    """Removes what is stated of inner and output shapes, where it is less than inference will find."""
    del graph.value_info[:]
    for value in graph.output:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.HasField("dim_param"):
                dimension.Clear()


def restate_shapes(model: ModelProto) -> None:
    """Throws the stated shapes of intermediate tensors away and infers them anew, in place.

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
    """The first node, in graph order, whose output's shape is not known in full; None where there is none.

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
