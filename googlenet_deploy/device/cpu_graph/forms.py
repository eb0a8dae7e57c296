"""Rewrites a model into the form that a CPU runtime executes fastest."""

from __future__ import annotations

from typing import Callable, List, NamedTuple, Optional, Union

import numpy as np

from googlenet_deploy.device.cpu_graph.lrn import decompose_lrn
from googlenet_deploy.device.cpu_graph.move_quantize import move_quantize
from googlenet_deploy.device.cpu_graph.qlinear import fuse_convolutions
from googlenet_deploy.device.cpu_graph.weights import fold_weights, scalar_scale
from googlenet_deploy.device.onnx_model.edit import EditableGraph
from googlenet_deploy.device.onnx_model.messages import Model

ZERO_POINT = 128
_NAME = "unsigned/zero_point"


def make_activations_unsigned(graph: EditableGraph) -> int:
    """Changes every per-tensor Q/DQ pair that does not belong to a constant; returns the number of nodes."""
    producers = graph.producers()
    graph.add_constant(_NAME, np.array(ZERO_POINT, np.uint8))
    changed = 0
    for item in graph.nodes:
        if item.operator not in ("QuantizeLinear", "DequantizeLinear") or graph.is_constant(item.inputs[0]):
            continue
        source = producers.get(item.inputs[0])
        weights = source is not None and source.operator == "QuantizeLinear" and graph.is_constant(source.inputs[0])
        if not weights and scalar_scale(graph, item) is not None:
            item.inputs[2] = _NAME
            changed += 1
    return changed


OLDEST_OPSET = 13  # the first with per-channel Q/DQ; Clip and MaxPool accept uint8 from 12 on


class Form(NamedTuple):
    """A changed model.

    Attributes:
        model: Its bytes.
        changes: Human-readable description of the changes.
    """

    model: bytes
    changes: str


def onnxruntime_form(model: Union[bytes, Model]) -> Optional[Form]:
    """For ONNX Runtime's CPU provider: INT8 convolutions as QLinearConv, weights ready, LRN without ``pow``.

    Returns:
        None if there is nothing to change, the model is too old, or its constants are in other files.

    Raises:
        ValueError: The model is damaged.
    """
    return _form(model, _for_onnxruntime)


def openvino_form(model: Union[bytes, Model]) -> Optional[Form]:
    """For OpenVINO: unsigned activations; see `onnxruntime_form`."""
    return _form(model, _for_openvino)


def _form(model: Union[bytes, Model], change: Callable[[EditableGraph], List[str]]) -> Optional[Form]:
    try:
        graph = EditableGraph(model)
        if graph.external or graph.opset < OLDEST_OPSET:
            return None
        changes = change(graph)
        return Form(graph.serialize(), "; ".join(changes)) if changes else None
    except (LookupError, TypeError, OverflowError) as error:  # cannot happen with a valid model
        raise ValueError(f"is damaged: {error}") from error


def _for_onnxruntime(graph: EditableGraph) -> List[str]:
    changes = []
    if any(item.operator == "QuantizeLinear" for item in graph.nodes):
        move_quantize(graph)
        fused = fuse_convolutions(graph)
        fold_weights(graph)
        if fused:
            changes.append(f"{fused} convolutions as QLinearConv with unsigned activations")
    normalised = decompose_lrn(graph)
    return changes + ([f"{normalised} LRN as elementary operators"] if normalised else [])


def _for_openvino(graph: EditableGraph) -> List[str]:
    changed = make_activations_unsigned(graph)
    return [f"{changed} Q/DQ with unsigned activations"] if changed else []
