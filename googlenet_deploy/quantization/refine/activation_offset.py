"""Offset activations: after a ReLU, the codes below zero are put to use.

Symmetric INT8 has 255 codes, but after a ReLU no value is negative, so half of them are never used. If all readers of
a tensor are linear and pad nothing, the tensor may hold its values minus a constant c instead: the layers that make it
get the bias b - c, and ``Clip(min=-c)`` instead of the ReLU; the layers that read it get the bias
b + c * sum(weights). In FP32 nothing changes. In INT8 the range 0..A becomes -c..A-c, so that with c = 128/255 A all
codes from -128 to 127 are used and the step is halved. The zero point stays 0, the only one that TensorRT accepts.

A tensor may be offset when it is read by max-pools (which pad with minus infinity), average pools that leave
their padding out, Concats whose other inputs are offset alike, layers of any kernel without zero padding, and the
classifier. A 3x3 convolution with padding does not qualify: it would pad with c.

c must be a whole number of steps, or the many zeros would all be rounded to the same side. In FP16 values around -c
are c / 2048 apart, a sixteenth of an INT8 step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.calibration.placement import QUANTIZED_OPERATORS
from googlenet_deploy.calibration.table import LARGEST_CODE, SMALLEST_CODE
from googlenet_deploy.errors import UsageError
from googlenet_deploy.graph.edit import copy_model
from googlenet_deploy.graph.graph import AVERAGE_POOLS, GraphView, attribute, known_shapes
from googlenet_deploy.quantization.linear_layers import outputs_first
from googlenet_deploy.quantization.quantized_model import QuantizedModel
from googlenet_deploy.quantization.refine.channels import (
    Channels,
    LayerEditor,
    is_plain_layer,
    trace_channels,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import onnx
    from numpy.typing import NDArray

    from googlenet_deploy.calibration.images import Batches
    from googlenet_deploy.calibration.table import CalibrationTable


def shift_tensors(quantized: QuantizedModel, offsets: Mapping[str, float]) -> QuantizedModel:
    """Subtracts constants from tensors.

    Args:
        quantized: The quantised model, with scales for the moved tensors; it is not changed.
        offsets: What is subtracted, by tensor; always from all tensors of a family, see `Channels.families`.

    Returns:
        A quantised model with another FP32 model, and the biases of the quantised layers that read moved tensors.
    """
    model = _moved(quantized.model, offsets)
    return replace(
        quantized, model=model, biases={**quantized.biases, **_anchored(quantized, model, offsets)}, offsets=offsets
    )


def biases_without_shifts(quantized: QuantizedModel) -> dict[str, NDArray[np.float32]]:
    """The bias of every layer, float32 (output channels,), as it would be if no tensor had been moved."""
    editor = LayerEditor(quantized.model)
    subtracted = _subtracted(editor.graph, quantized.offsets)
    biases = {}
    for node in editor.graph.nodes:
        name = editor.graph.name_of(node)
        if not is_plain_layer(editor.graph, node) and name not in quantized.weights:
            continue
        bias = np.asarray(quantized.biases.get(name, editor.bias(name)), np.float64) + subtracted.get(name, 0.0)
        if node.input[0] in quantized.offsets:
            quantised = quantized.weights.get(name)
            weight = editor.weight(name) if quantised is None else quantised.dequantize().astype(np.float64)
            bias = bias - quantized.offsets[node.input[0]] * _sums(node, weight)
        biases[name] = bias.astype(np.float32)
    return biases


def _subtracted(graph: GraphView, offsets: Mapping[str, float]) -> dict[str, float]:
    """What the layers before a moved tensor's Clip subtract, by layer."""
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


def _anchored(
    quantized: QuantizedModel, model: onnx.ModelProto, offsets: Mapping[str, float]
) -> dict[str, NDArray[np.float32]]:
    """Biases of the layers that read moved tensors, with the sums of the rounded weights."""
    before, after = LayerEditor(quantized.model), LayerEditor(model)
    biases = {}
    for planned in quantized.plan.nodes:
        offset = offsets.get(planned.input)
        if offset is not None:
            node = before.graph.node(planned.name)
            rounding = quantized.weights[planned.name].dequantize() - before.weight(planned.name)
            biases[planned.name] = (after.bias(planned.name) + offset * _sums(node, rounding)).astype(np.float32)
    return biases


def _sums(node: onnx.NodeProto, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of each output's weights: its value for an input that is 1 everywhere."""
    turned = outputs_first(node, weight)
    total: NDArray[np.float64] = turned.reshape(len(turned), -1).sum(axis=1)
    return total


# A family of tensors is left as it is unless the rounding error falls to this share.
WORTHWHILE = 0.9


@dataclass(frozen=True)
class Shift:
    """What is subtracted from a family of tensors.

    Attributes:
        offset: c, a float32 above 0.
        scales: The new scale of each of its quantised tensors; c is a whole multiple of each.
    """

    offset: float
    scales: Mapping[str, float]


def offset_activations(quantized: QuantizedModel, _batches: Batches | None = None) -> QuantizedModel:
    """Offsets every family of tensors that allows it and benefits from it.

    The table's records keep their meaning: they describe the original model.

    Args:
        quantized: The quantised model; it is not changed. Its weights may have been refined, its biases must not.

    Returns:
        A quantised model with another FP32 model that computes the same, with new scales for the tensors that moved
        and new biases for the layers that read them.

    Raises:
        UsageError: The quantised model's biases were refined already.
    """
    if quantized.biases:
        raise UsageError("activations are offset before biases are refined, not after")
    graph = GraphView(quantized.model)
    channels = trace_channels(graph)
    shifts: dict[str, Shift] = {}  # by source
    for family in channels.families():
        tensors = [name for name, parts in channels.parts.items() if parts[0] in family]
        if _may_move(channels, tensors):
            shift = _choose(channels, tensors, quantized)
            shifts.update(dict.fromkeys(family, shift) if shift else {})
    if not shifts:
        return replace(quantized, notes={**quantized.notes, "offset activations": "no tensor allows it"})
    offsets = {name: shifts[parts[0]].offset for name, parts in channels.parts.items() if parts[0] in shifts}
    scales = dict(quantized.scales)
    for shift in shifts.values():
        scales.update(shift.scales)
    moved = sum(name in offsets for name in quantized.plan.tensors)
    note = f"{moved} of {len(quantized.plan.tensors)} quantised tensors"
    shifted = shift_tensors(replace(quantized, scales=scales), offsets)
    return replace(shifted, notes={**quantized.notes, "offset activations": note})


def _may_move(channels: Channels, tensors: Iterable[str]) -> bool:
    return all(
        name not in channels.graph.outputs and all(_allows(channels, node) for node in channels.graph.readers(name))
        for name in tensors
    )


def _allows(channels: Channels, node: onnx.NodeProto) -> bool:
    """Whether a reader's result moves by a constant that can be compensated."""
    if node.op_type == "AveragePool" and attribute(node, "count_include_pad", 0):
        return not any(attribute(node, "pads", [])) and channels.carries(node)
    if channels.carries(node):
        return True
    if node.op_type not in QUANTIZED_OPERATORS or not is_plain_layer(channels.graph, node):
        return False
    padded = any(attribute(node, "pads", [])) or attribute(node, "auto_pad", b"NOTSET") not in {b"NOTSET", b"VALID"}
    return not padded


def _choose(channels: Channels, tensors: list[str], quantized: QuantizedModel) -> Shift | None:
    """The offset with the smallest error over a family's quantised tensors; None if it is not worthwhile."""
    groups = [group for group in quantized.plan.groups if group.observed[0] in tensors]
    largest = {group.observed[0]: quantized.scales[group.observed[0]] * LARGEST_CODE for group in groups}
    if not groups or any(_is_zero(quantized.table, name) for name in largest):
        return None
    weights = _averaging(channels, quantized.model, largest)
    candidates = [
        float(np.float32(amax * -SMALLEST_CODE / (LARGEST_CODE - SMALLEST_CODE))) for amax in largest.values()
    ]

    def error(offset: float) -> float:
        return sum(weights[name] * (_scale(offset, amax) * LARGEST_CODE / amax) ** 2 for name, amax in largest.items())

    best = min(candidates, key=error)
    if error(best) > WORTHWHILE * sum(weights.values()):
        return None
    scales = {name: _scale(best, largest[group.observed[0]]) for group in groups for name in group.members}
    return Shift(best, scales)


def _scale(offset: float, amax: float) -> float:
    """The smallest scale that represents -offset exactly and reaches up to amax - offset, float32."""
    wanted = max(offset / -SMALLEST_CODE, (amax - offset) / LARGEST_CODE)
    steps = max(1, min(-SMALLEST_CODE, int(offset / wanted * (1 + 1e-6))))
    return float(np.float32(offset / steps))


def _is_zero(table: CalibrationTable, name: str) -> bool:
    record = table.record_of(name)
    return record is not None and record.zero


def _averaging(channels: Channels, model: onnx.ModelProto, names: Iterable[str]) -> dict[str, float]:
    """How much a tensor's error counts: independent errors shrink with the number of values that are averaged."""
    shapes = known_shapes(model)
    weights = {}
    for name in names:
        readers = channels.graph.readers(name)
        pools = [node for node in readers if node.op_type in AVERAGE_POOLS]
        averaged = [_window(node, shapes.get(name, [])) for node in pools] if len(pools) == len(readers) else []
        weights[name] = 1.0 / max(1, min(averaged, default=1))
    return weights


def _window(node: onnx.NodeProto, shape: list[int | str | None]) -> int:
    sizes = attribute(node, "kernel_shape") or shape[2:]
    return int(np.prod([size for size in sizes if isinstance(size, int)]))
