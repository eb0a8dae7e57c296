"""Weights in INT8: symmetric, one scale per output channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.onnx_model.axes import along_axis
from googlenet_deploy.quantization.linear_layers import read_weight

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from googlenet_deploy.calibration.placement import QuantizationPlan, QuantizedNode
    from googlenet_deploy.graph.graph import GraphView

# TensorRT quantises symmetrically and limits weights to -127..127, so that -x has a code whenever x has one.
LARGEST_CODE = 127
SMALLEST_SCALE = float(np.finfo(np.float32).tiny) * LARGEST_CODE


@dataclass(frozen=True)
class QuantizedWeight:
    """One layer's weights as integers.

    Attributes:
        values: int8 in -127..127, shaped as the float weights.
        scales: float32, one per output channel, all above 0.
        axis: The axis of the output channels.
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float32]
    axis: int = 0

    def dequantize(self) -> NDArray[np.float32]:
        """The float32 weights that the integers represent."""
        restored: NDArray[np.float32] = self.values.astype(np.float32) * along_axis(
            self.scales, self.values.ndim, self.axis
        )
        return restored


def max_scales(weight: NDArray[np.float32], axis: int = 0) -> NDArray[np.float32]:
    """Per output channel the largest absolute weight, divided by 127; 1 for a channel that is all zeros."""
    others = tuple(index for index in range(weight.ndim) if index != axis % weight.ndim)
    amax = np.abs(weight).max(axis=others).astype(np.float32)
    scales: NDArray[np.float32] = (amax / np.float32(LARGEST_CODE)).astype(np.float32)
    scales[scales < SMALLEST_SCALE] = 1.0
    return scales


def quantize_weight(
    weight: NDArray[np.float32], scales: NDArray[np.float32] | None = None, axis: int = 0
) -> QuantizedWeight:
    """Rounds weights to the nearest code, halves to even as ONNX does.

    Args:
        weight: float32 weights.
        scales: float32, one per output channel; None uses those of `max_scales`.
        axis: The axis of the output channels.
    """
    chosen = max_scales(weight, axis) if scales is None else np.asarray(scales, np.float32)
    codes = np.rint(weight / along_axis(chosen, weight.ndim, axis))
    values = np.clip(codes, -LARGEST_CODE, LARGEST_CODE).astype(np.int8)
    return QuantizedWeight(values, chosen, axis)


def float_weight(graph: GraphView, node: QuantizedNode) -> NDArray[np.float32]:
    """The float32 weights of a node of the plan."""
    return read_weight(graph, node.name)


def quantize_weights(
    graph: GraphView, plan: QuantizationPlan, scales: Mapping[str, NDArray[np.float32]] | None = None
) -> dict[str, QuantizedWeight]:
    """The weights of every quantised node, by the node's name.

    Args:
        graph: The FP32 model.
        plan: Which nodes are quantised.
        scales: Scales of the channels by node, if they are not those of `max_scales`.
    """
    given = scales or {}
    return {
        node.name: quantize_weight(float_weight(graph, node), given.get(node.name), node.axis) for node in plan.nodes
    }
