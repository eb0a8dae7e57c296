"""Weight scales with the smallest mean squared error, channel by channel, instead of those of the largest weight.

A channel's largest weight is often an outlier: a smaller scale clips it a little and rounds all the others better.
Source: Nagel et al. 2021, "A White Paper on Neural Network Quantization" (arXiv:2106.08295), section 3.1, "MSE based".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.graph.graph import GraphView
from googlenet_deploy.quantization.weights import float_weight, max_scales, quantize_weight, quantize_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.calibration.images import Batches
    from googlenet_deploy.quantization.quantized_model import QuantizedModel

# Below half the range the clipping error of any real channel has long outgrown what rounding saves.
SHARES = np.linspace(1.0, 0.5, 51)


def choose_weight_scales(quantized: QuantizedModel, _batches: Batches | None = None) -> QuantizedModel:
    """Gives every layer the scales of `mse_scales` and rounds its weights to the nearest; needs no images."""
    graph = GraphView(quantized.model)
    scales = {node.name: mse_scales(float_weight(graph, node), node.axis) for node in quantized.plan.nodes}
    narrowed = sum(int((chosen < quantized.weights[name].scales).sum()) for name, chosen in scales.items())
    note = f"{narrowed} of {sum(map(len, scales.values()))} channels clipped for a smaller mean squared error"
    weights = quantize_weights(graph, quantized.plan, scales)
    return replace(quantized, weights=weights, notes={**quantized.notes, "weight scales": note})


def mse_scales(weight: NDArray[np.float32], axis: int = 0) -> NDArray[np.float32]:
    """The scale per output channel with the smallest squared rounding error, among shares of the largest scale.

    Args:
        weight: float32 weights.
        axis: The axis of the output channels.

    Returns:
        float32, one per output channel, at most the largest absolute weight over 127; 1 for a channel of zeros.
    """
    largest = max_scales(weight, axis)
    best: NDArray[np.float32] = largest.copy()
    smallest = np.full(len(largest), np.inf)
    others = tuple(index for index in range(weight.ndim) if index != axis % weight.ndim)
    for share in SHARES:
        scales = (largest * np.float32(share)).astype(np.float32)
        difference = quantize_weight(weight, scales, axis).dequantize() - weight
        errors = np.square(difference).sum(axis=others, dtype=np.float64)
        better = errors < smallest
        best[better], smallest[better] = scales[better], errors[better]
    return best
