"""Biases that compensate for the change that quantisation makes to a layer's mean output.

Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv:1906.04721), section 4.2, which compares means before the ReLU. Here they are compared after it: most outputs of
a GoogLeNet layer are below zero, and a mean over those reveals nothing about the values that are passed on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.text import counted
from googlenet_deploy.quantization.refine.im2col import LayerOutputs
from googlenet_deploy.quantization.refine.layerwise import refine_layers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.calibration.images import Batches
    from googlenet_deploy.quantization.quantized_model import QuantizedModel
    from googlenet_deploy.quantization.refine.im2col import LayerRows
    from googlenet_deploy.quantization.refine.layerwise import Fitted

IMAGES = 128
ROUNDS = 3
# The bias of a channel that is hardly ever active moves by at most 20 times the gap of its means per round.
SMALLEST_SHARE = 0.05


def correct_biases(
    quantized: QuantizedModel, batches: Batches, *, threads: int | None = None, quiet: bool = False
) -> QuantizedModel:
    """Corrects the bias of every layer, in graph order; see `refine_layers` for arguments and errors."""

    def fit(rows: LayerRows, present: Fitted) -> Fitted:
        return replace(present, bias=fit_bias(outputs_of(rows, present.weight), present.bias))

    result, layers, images = refine_layers(
        quantized, batches, fit, fit_bias, images=IMAGES, title="biases", threads=threads, quiet=quiet
    )
    return replace(
        result, notes={**result.notes, "bias correction": f"{counted(layers, 'layer')}, on {counted(images, 'image')}"}
    )


def outputs_of(rows: LayerRows, weight: NDArray[np.float32]) -> LayerOutputs:
    """A layer's outputs for its rows with quantised weights, float32 (outputs, K)."""
    return LayerOutputs(rows.given @ weight.T, rows.wanted, rows.bounds)


def fit_bias(outputs: LayerOutputs, start: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """The bias with which quantised weights on quantised inputs match the FP32 layer's mean output after its ReLU.

    After a ReLU there is no closed form: each round moves a channel's bias by the gap of the means over the share of
    its outputs that are active, which is the mean's derivative.

    Args:
        outputs: The layer's outputs without their bias, and the wanted ones.
        start: The initial bias, float32 (outputs,); None starts with the one that matches the means before the ReLU.

    Returns:
        float32 (outputs,).
    """
    products, bounds = outputs.products, outputs.bounds
    if bounds is None or start is None:
        matched: NDArray[np.float32] = (outputs.wanted - products).mean(axis=0, dtype=np.float64).astype(np.float32)
        if bounds is None:
            return matched
        start = matched
    target = np.clip(outputs.wanted, *bounds).mean(axis=0, dtype=np.float64)
    bias = start.astype(np.float64)
    for _ in range(ROUNDS):
        moved = products + bias.astype(np.float32)
        active = np.maximum(((moved > bounds.low) & (moved < bounds.high)).mean(axis=0), SMALLEST_SHARE)
        bias += (target - np.clip(moved, *bounds).mean(axis=0, dtype=np.float64)) / active
    return bias.astype(np.float32)
