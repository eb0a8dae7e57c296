"""Refines a quantised model's layers one by one, each on the outputs of the refined layers before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.progress import progress
from googlenet_deploy.quantization.linear_layers import may_have_bias, outputs_first, read_bias
from googlenet_deploy.quantization.refine.activation_store import Frontier
from googlenet_deploy.quantization.refine.im2col import (
    LayerOutputs,
    LayerRows,
    can_sample,
    sample_outputs,
    sample_rows,
)
from googlenet_deploy.quantization.weights import QuantizedWeight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.calibration.images import Batches
    from googlenet_deploy.calibration.placement import QuantizedNode
    from googlenet_deploy.quantization.quantized_model import QuantizedModel

SEED = 0


@dataclass(frozen=True)
class Fitted:
    """A layer's weights and bias.

    Attributes:
        codes: (outputs, K) in -127..127, K over input channels and then the kernel.
        scales: float32 (outputs,).
        bias: float32 (outputs,).
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]

    @property
    def weight(self) -> NDArray[np.float32]:
        """The weights that the codes represent, float32 (outputs, K)."""
        return self.codes.astype(np.float32) * self.scales[:, None]


Fit = Callable[[LayerRows, Fitted], Fitted]
FitBias = Callable[[LayerOutputs, "NDArray[np.float32] | None"], "NDArray[np.float32]"]


def refine_layers(
    quantized: QuantizedModel,
    batches: Batches,
    fit: Fit,
    fit_bias: FitBias,
    *,
    images: int,
    title: str,
    threads: int | None = None,
    quiet: bool = False,
) -> tuple[QuantizedModel, int, int]:
    """Walks through a quantised model and refines every layer with `fit`, from its rows and its current weights.

    Layers whose rows cannot be sampled (groups, dilation, transposed convolutions) are run by themselves and only get a
    new bias.

    Args:
        quantized: The quantised model; it is not changed.
        batches: Prepared images.
        fit: Refines a layer.
        fit_bias: Refines the bias of a layer whose rows cannot be sampled.
        images: The largest number of images to use.
        title: Title of the progress display.
        threads: ONNX Runtime threads; None uses one per core.
        quiet: Show no progress.

    Returns:
        The refined quantised model, how many layers were refined, and on how many images.

    Raises:
        InputError: There are no images.
        BadModelError: ONNX Runtime cannot run the model.
    """
    refined = 0
    with progress(title, len(quantized.plan.nodes), quiet=quiet) as advance:
        frontier = Frontier(quantized, batches, images, threads)
        while ready := frontier.ready():
            weights, biases = {}, {}
            for planned in ready:
                weights[planned.name], bias = _refine(frontier, planned, fit, fit_bias)
                if bias is not None:
                    biases[planned.name] = bias
                refined += bias is not None
                advance(1)
            frontier.refine(weights, biases)
    return frontier.quantized, refined, frontier.images


def _refine(
    frontier: Frontier, planned: QuantizedNode, fit: Fit, fit_bias: FitBias
) -> tuple[QuantizedWeight, NDArray[np.float32] | None]:
    """A layer's refined weights, and its bias; None if it cannot have one."""
    node, present = frontier.graph.node(planned.name), frontier.quantized.weights[planned.name]
    if not may_have_bias(frontier.graph, node):
        return present, None
    bias = frontier.quantized.biases.get(planned.name, read_bias(frontier.graph, planned.name))
    if not can_sample(frontier.graph, node):
        return present, fit_bias(sample_outputs(frontier, planned, present.dequantize(), SEED), bias)
    turned = outputs_first(node, present.values)
    rows = sample_rows(frontier, planned, SEED)
    fitted = fit(rows, Fitted(turned.reshape(len(turned), -1), present.scales, bias))
    values = np.ascontiguousarray(outputs_first(node, fitted.codes.reshape(turned.shape)))
    return QuantizedWeight(values, fitted.scales, present.axis), fitted.bias
