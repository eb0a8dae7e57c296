"""What a layer computes its outputs from, as the rows of a matrix: a sample of all positions of all images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from googlenet_deploy.graph.graph import GraphView, attribute
from googlenet_deploy.quantization.refine.channels import is_plain_layer, outputs_first

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from googlenet_deploy.calibration.placement import QuantizedNode
    from googlenet_deploy.quantization.refine.activation_store import Frontier

# Enough for GoogLeNet's widest layer, of 1728 inputs; twice as many change less than another draw of them does.
ROWS = 8192


@dataclass(frozen=True)
class LayerRows:
    """A layer's inputs and the outputs that it should have.

    Attributes:
        given: float32 (rows, K): inputs in the quantised model. K runs over input channels, then the kernel.
        wanted: float32 (rows, outputs): what the FP32 layer makes of the FP32 model's inputs, ahead of the ReLU.
        weight: float32 (outputs, K).
        bias: float32 (outputs,), of the FP32 layer.
        floor: The smallest value behind the layer's ReLU or Clip; None where neither follows.
    """

    given: NDArray[np.float32]
    wanted: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    floor: float | None


def can_sample(graph: GraphView, node: onnx.NodeProto) -> bool:
    """Whether a layer is of the kind whose rows can be taken: 2-D, no groups, no dilation, explicit padding."""
    if not is_plain_layer(graph, node):
        return False
    if node.op_type == "Gemm":
        return not attribute(node, "transA", 0)
    plain = all(each == 1 for each in attribute(node, "dilations", []))
    return plain and graph.constant(node.input[1]).ndim == 4 and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"


def sample_rows(frontier: Frontier, planned: QuantizedNode, seed: int, rows: int = ROWS) -> LayerRows:
    """Takes a seeded sample of positions, the same number from each image, all of them where there are few.

    Args:
        frontier: Where the walk stands; the layer's input is known there.
        planned: The layer.
        seed: Of the positions.
        rows: At least so many are wanted in all.
    """
    graph = frontier.graph
    node = graph.node(planned.name)
    weight = np.asarray(outputs_first(node, graph.constant(planned.weight)), np.float32)
    weight = np.ascontiguousarray(weight.reshape(len(weight), -1))
    bias = np.zeros(len(weight), np.float32) if planned.bias is None else graph.constant(planned.bias)
    window = _Window(node, graph) if node.op_type == "Conv" else None
    per_image = -(-rows // frontier.images)
    random = np.random.default_rng(seed)
    given, wanted = [], []
    for index in range(len(frontier.sizes)):
        pair = frontier.batch(planned.input, index)
        if window is not None:
            pair = window.rows(*pair, per_image, random)
        given.append(pair[0])
        wanted.append(pair[1] @ weight.T + bias)
    return LayerRows(np.concatenate(given), np.concatenate(wanted), weight, np.asarray(bias), floor_of(graph, node))


def floor_of(graph: GraphView, node: onnx.NodeProto) -> float | None:
    """Where what follows a layer clips from below; None where it does not, or not only."""
    readers = graph.readers(node.output[0])
    if len(readers) != 1 or node.output[0] in graph.outputs:
        return None
    if readers[0].op_type == "Relu":
        return 0.0
    lower, *upper = readers[0].input[1:] or [""]
    if readers[0].op_type != "Clip" or any(upper) or not graph.is_constant(lower):
        return None
    return float(graph.constant(lower))


class _Window:
    """Where a convolution's kernel lies."""

    def __init__(self, node: onnx.NodeProto, graph: GraphView) -> None:
        self.kernel: tuple[int, ...] = graph.constant(node.input[1]).shape[2:]
        self.strides: list[int] = attribute(node, "strides", [1, 1])
        top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])
        self.pads = ((0, 0), (0, 0), (top, bottom), (left, right))

    def rows(
        self, given: NDArray[np.float32], wanted: NDArray[np.float32], per_image: int, random: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The windows of both at the same positions, float32 (images x positions, channels x kernel)."""
        views = [
            sliding_window_view(np.pad(each, self.pads), self.kernel, axis=(2, 3))[
                :, :, :: self.strides[0], :: self.strides[1]
            ]
            for each in (given, wanted)
        ]
        count, _, height, width = views[0].shape[:4]
        picked = [random.permutation(height * width)[:per_image] for _ in range(count)]
        first, second = (
            np.concatenate([view[i, :, at // width, at % width].reshape(len(at), -1) for i, at in enumerate(picked)])
            for view in views
        )
        return first, second
