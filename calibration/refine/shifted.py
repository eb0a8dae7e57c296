"""Tensors that hold their values minus a constant: moves them, and tells what biases would be without that.

`offset.py` chooses the constants. Moving changes the layers around the tensors so that the FP32 model computes what it
did before; in the quantised model the readers' bias takes the sum of their rounded weights, not of the exact ones:
else the constant times the difference of the sums would be added to every output.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.calibration.refine.channels import LayerEditor, outputs_first, trace_channels
from googlenet_deploy.graph.graph import GraphView, copy_model
from googlenet_deploy.quantization.placement import QUANTIZED_OPERATORS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    from numpy.typing import NDArray

    from googlenet_deploy.quantization.quantized_model import Draft


def shift_tensors(draft: Draft, offsets: Mapping[str, float]) -> Draft:
    """Subtracts constants from tensors.

    Args:
        draft: The draft, with the scales that suit the moved tensors; it is not changed.
        offsets: What is subtracted, by tensor: from all tensors of each family of sources that share one.

    Returns:
        A draft with another FP32 model, and the biases of the quantised layers that read moved tensors.
    """
    model = _moved(draft.model, offsets)
    return replace(draft, model=model, biases={**draft.biases, **_anchored(draft, model, offsets)}, offsets=offsets)


def biases_without_shifts(draft: Draft) -> dict[str, NDArray[np.float32]]:
    """The bias of every layer, float32 (output channels,), as it were if no tensor of the draft was moved."""
    editor = LayerEditor(draft.model)
    subtracted = _subtracted(editor.graph, draft.offsets)
    biases = {}
    for node in editor.graph.nodes:
        if node.op_type not in QUANTIZED_OPERATORS:
            continue
        name = editor.graph.name_of(node)
        bias = np.asarray(draft.biases.get(name, editor.bias(name)), np.float64) + subtracted.get(name, 0.0)
        if node.input[0] in draft.offsets:
            quantised = draft.weights.get(name)
            weight = editor.weight(name) if quantised is None else quantised.dequantize().astype(np.float64)
            bias = bias - draft.offsets[node.input[0]] * _sums(node, weight)
        biases[name] = bias.astype(np.float32)
    return biases


def _subtracted(graph: GraphView, offsets: Mapping[str, float]) -> dict[str, float]:
    """What the layers ahead of a moved tensor's Clip subtract, by layer."""
    return {
        graph.name_of(graph.producers[clip.input[0]]): offsets[clip.output[0]]
        for clip in graph.nodes
        if clip.op_type == "Clip" and clip.output[0] in offsets
    }


def _moved(model: onnx.ModelProto, offsets: Mapping[str, float]) -> onnx.ModelProto:
    """A copy of the model that computes the same with the tensors of `offsets` moved."""
    result = copy_model(model)
    editor = LayerEditor(result)
    channels = trace_channels(GraphView(model))
    for source, layer in channels.layers.items():
        if source in offsets:
            name = channels.graph.name_of(layer)
            editor.set_bias(name, editor.bias(name) - offsets[source])
            activation = editor.graph.producers[source]
            activation.op_type = "Clip"
            activation.input.append(editor.add(f"{source}/lowest", np.float32(-offsets[source])))
    for node in channels.graph.nodes:
        name = channels.graph.name_of(node)
        if node.op_type in QUANTIZED_OPERATORS and node.input[0] in offsets:
            editor.set_bias(name, editor.bias(name) + offsets[node.input[0]] * _sums(node, editor.weight(name)))
    editor.apply()
    return result


def _anchored(draft: Draft, model: onnx.ModelProto, offsets: Mapping[str, float]) -> dict[str, NDArray[np.float32]]:
    """Biases of the layers that read moved tensors, with the sums of the rounded weights."""
    before, after = LayerEditor(draft.model), LayerEditor(model)
    biases = {}
    for planned in draft.plan.nodes:
        offset = offsets.get(planned.input)
        if offset is not None:
            node = before.graph.node(planned.name)
            rounding = draft.weights[planned.name].dequantize() - before.weight(planned.name)
            biases[planned.name] = (after.bias(planned.name) + offset * _sums(node, rounding)).astype(np.float32)
    return biases


def _sums(node: onnx.NodeProto, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each output's weights: what an input that is 1 everywhere gives."""
    turned = outputs_first(node, weight)
    total: NDArray[np.float64] = turned.reshape(len(turned), -1).sum(axis=1)
    return total
