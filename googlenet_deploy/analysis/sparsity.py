"""2:4 structured sparsity in a model's weights: whether the pattern is there, and whether it survived.

Of every four consecutive weights along the input channels, at the same output channel and kernel position, at least two
are zero. In this pattern the sparse tensor cores of Ampere and later, including Orin's, skip zeros (Mishra et al. 2021,
"Accelerating Sparse Deep Neural Networks", arXiv:2104.08378, section 3), and TensorRT looks for it if it may use sparse
kernels ("Structured Sparsity" in NVIDIA's TensorRT Developer Guide).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from googlenet_deploy.device.onnx_model.metadata import trained_sparsity
from googlenet_deploy.errors import VerificationError, requires
from googlenet_deploy.graph.graph import GraphView, integer

with requires("export"):
    import numpy as np
    from onnx import ModelProto, NodeProto

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

PATTERN = "2:4"
GROUP, KEPT = 4, 2
WORTH_TELLING = 0.05
SHOWN = 3
_LAYERS = frozenset({"Conv", "Gemm"})
# Operators allowed between a weight and the layer that reads it; each keeps zeros in place, since the zero points that
# `quantize` writes are zero.
_CARRIERS = frozenset({"DequantizeLinear", "QuantizeLinear", "Cast", "Identity"})


@dataclass(frozen=True)
class LayerSparsity:
    """The weights of one layer.

    Attributes:
        name: The node's name.
        weights: Number of weights.
        zeros: Number of weights that are zero.
        fits: Whether the number of input channels is a multiple of four, so that the pattern is possible at all.
        holds: Whether the pattern is there.
    """

    name: str
    weights: int
    zeros: int
    fits: bool
    holds: bool


def fits_pattern(channels: int) -> bool:
    """Whether the number of input channels is a multiple of four."""
    return channels % GROUP == 0


def holds_pattern(weight: npt.NDArray[np.generic]) -> bool:
    """Whether a weight (outputs, inputs, ...) has at least two zeros among every four along its input channels."""
    if not fits_pattern(weight.shape[1]):
        return False
    groups = (weight != 0).reshape(len(weight), weight.shape[1] // GROUP, GROUP, -1)
    return bool((groups.sum(axis=2) <= KEPT).all())


def layer_sparsity(model: ModelProto) -> list[LayerSparsity]:
    """The zeros in the constant weights of all convolutions and Gemms, in float or as INT8 codes."""
    view = GraphView(model)
    return [found for node in model.graph.node if (found := _of_layer(node, view)) is not None]


def require_pattern(model: ModelProto, entries: Mapping[str, str]) -> None:
    """Checks that a model whose training records promise the pattern has it in every layer that allows it.

    Args:
        model: The model, as it is to be written.
        entries: Its metadata under the toolkit's prefix; if it does not promise the pattern, nothing is required.

    Raises:
        VerificationError: A layer lost the pattern; the message names the layer.
    """
    if trained_sparsity(entries) != PATTERN:
        return
    lost = [layer.name for layer in layer_sparsity(model) if layer.fits and not layer.holds]
    if lost:
        which = f"{len(lost)} layers, such as {lost[0]}," if len(lost) > 1 else f"layer {lost[0]}"
        raise VerificationError(f"{which} lost the {PATTERN} pattern of zeros that training gave the weights")


def sparsity_line(layers: Sequence[LayerSparsity]) -> str:
    """A sentence on a model's zeros; empty if it has hardly any."""
    weights, zeros = sum(layer.weights for layer in layers), sum(layer.zeros for layer in layers)
    holding = [layer.name for layer in layers if layer.holds]
    if not holding and zeros <= WORTH_TELLING * weights:
        return ""
    without = [layer.name for layer in layers if not layer.holds]
    rest = f"; not in {', '.join(without[:SHOWN])}{', ...' if len(without) > SHOWN else ''}" if without else ""
    share = f"{100 * zeros / weights:.1f} % of weights zero"
    return f"{PATTERN} pattern in {len(holding)} of {len(layers)} layers, {share}{rest}"


def _of_layer(node: NodeProto, view: GraphView) -> LayerSparsity | None:
    if node.op_type not in _LAYERS or len(node.input) < 2:
        return None
    weight = _stored(node.input[1], view)
    if weight is None or weight.ndim < 2:
        return None
    if node.op_type == "Gemm" and not integer(node, "transB", 0):
        weight = weight.T
    zeros = int(weight.size - np.count_nonzero(weight))
    fits = fits_pattern(weight.shape[1])
    return LayerSparsity(node.name, weight.size, zeros, fits, fits and holds_pattern(weight))


def _stored(tensor: str, view: GraphView) -> npt.NDArray[np.generic] | None:
    """A weight as it is stored in the file, before the operators that pass it on."""
    while (value := view.find_constant(tensor)) is None:
        maker = view.producers.get(tensor)
        if maker is None or maker.op_type not in _CARRIERS:
            return None
        tensor = maker.input[0]
    return value
