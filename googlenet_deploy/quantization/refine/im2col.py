"""A layer's inputs as the rows of a matrix: a sample of all positions of all images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from googlenet_deploy.errors import requires
from googlenet_deploy.graph.edit import to_tensor
from googlenet_deploy.graph.graph import GraphView, attribute
from googlenet_deploy.graph.session import open_session, run_session
from googlenet_deploy.quantization.linear_layers import find_bias, outputs_first, read_bias, read_weight
from googlenet_deploy.quantization.refine.channels import is_plain_layer

with requires("export"):
    import onnx

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.calibration.placement import QuantizedNode
    from googlenet_deploy.quantization.refine.activation_store import Frontier

# Enough for GoogLeNet's widest layer, of 1728 inputs; twice as many change the result less than another sample does.
ROWS = 8192


class Bounds(NamedTuple):
    """Smallest and largest value after a layer's activation function."""

    low: float
    high: float = math.inf


@dataclass(frozen=True)
class LayerRows:
    """A layer's inputs and the outputs that it should have.

    Attributes:
        given: float32 (rows, K): inputs in the quantised model. K runs over input channels, then the kernel.
        wanted: float32 (rows, outputs): the FP32 layer's outputs on the FP32 model's inputs, before the activation.
        weight: float32 (outputs, K).
        bias: float32 (outputs,), of the FP32 layer.
        bounds: Bounds of the layer's ReLU or Clip; None if neither follows.
    """

    given: NDArray[np.float32]
    wanted: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    bounds: Bounds | None


@dataclass(frozen=True)
class LayerOutputs:
    """A layer's outputs without their bias, at the same positions.

    Attributes:
        products: float32 (rows, outputs): quantised weights on the quantised model's inputs.
        wanted: float32 (rows, outputs): the FP32 layer's outputs on the FP32 model's inputs, with its bias.
        bounds: Bounds of the layer's ReLU or Clip; None if neither follows.
    """

    products: NDArray[np.float32]
    wanted: NDArray[np.float32]
    bounds: Bounds | None


def can_sample(graph: GraphView, node: onnx.NodeProto) -> bool:
    """Whether a layer is of a kind whose rows can be sampled: 2-D, no groups, no dilation, explicit padding."""
    if node.op_type == "MatMul":
        return graph.constant(node.input[1]).ndim == 2
    if not is_plain_layer(graph, node):
        return False
    if node.op_type == "Gemm":
        return not attribute(node, "transA", 0)
    plain = all(each == 1 for each in attribute(node, "dilations", []))
    return plain and graph.constant(node.input[1]).ndim == 4 and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"


def sample_rows(frontier: Frontier, planned: QuantizedNode, seed: int, rows: int = ROWS) -> LayerRows:
    """Takes a seeded sample of positions, the same number from each image; all of them if there are few.

    Args:
        frontier: The state of the walk, in which the layer's input is known.
        planned: The layer.
        seed: Seed of the sample.
        rows: The smallest total number of rows.
    """
    graph = frontier.graph
    node = graph.node(planned.name)
    weight = outputs_first(node, read_weight(graph, planned.name))
    weight = np.ascontiguousarray(weight.reshape(len(weight), -1))
    bias = read_bias(graph, planned.name)
    window = _Window(node, graph) if node.op_type == "Conv" else None
    per_image = -(-rows // frontier.images)
    random = np.random.default_rng(seed)
    given, wanted = [], []
    for index in range(len(frontier.sizes)):
        pair = frontier.batch(planned.input, index)
        if window is not None:
            pair = window.rows(*pair, per_image, random)
        elif pair[0].ndim > 2:
            pair = _positions(*pair, per_image, random)
        given.append(pair[0])
        wanted.append(pair[1] @ weight.T + bias)
    return LayerRows(np.concatenate(given), np.concatenate(wanted), weight, bias, bounds_of(graph, node))


def sample_outputs(
    frontier: Frontier, planned: QuantizedNode, weight: NDArray[np.float32], seed: int, rows: int = ROWS
) -> LayerOutputs:
    """Runs a layer of any kind by itself, with its FP32 weights and with quantised ones, and samples positions.

    Args:
        frontier: The state of the walk, in which the layer's input is known.
        planned: The layer.
        weight: Its quantised weights, float32, shaped as they are stored.
        seed: Seed of the sample.
        rows: The smallest total number of rows.
    """
    graph = frontier.graph
    node = graph.node(planned.name)
    bias = read_bias(graph, planned.name)
    exact = _Layer(graph, node, read_weight(graph, planned.name), frontier.threads)
    rounded = _Layer(graph, node, weight, frontier.threads)
    per_image = -(-rows // frontier.images)
    random = np.random.default_rng(seed)
    products, wanted = [], []
    for index in range(len(frontier.sizes)):
        inputs = frontier.batch(planned.input, index)
        outputs = [np.moveaxis(layer.run(each), 1, -1) for layer, each in zip((rounded, exact), inputs, strict=True)]
        pair = _positions(outputs[0], outputs[1], per_image, random)
        products.append(pair[0])
        wanted.append(pair[1] + bias)
    return LayerOutputs(np.concatenate(products), np.concatenate(wanted), bounds_of(graph, node))


def bounds_of(graph: GraphView, node: onnx.NodeProto) -> Bounds | None:
    """Bounds of the ReLU, or the Clip with constant bounds, that alone follows a layer and its bias; else None."""
    place = find_bias(graph, node)
    output = node.output[0] if place is None else place[0].output[0]
    readers = graph.readers(output)
    if len(readers) != 1 or output in graph.outputs:
        return None
    if readers[0].op_type == "Relu":
        return Bounds(0.0)
    if readers[0].op_type != "Clip":
        return None
    stated = [attribute(readers[0], name) for name in ("min", "max")]  # before opset 11
    limits = [-math.inf, math.inf]
    for position, name in enumerate([*readers[0].input[1:3], "", ""][:2]):
        if name and not graph.is_constant(name):
            return None
        value = stated[position] if not name else float(graph.constant(name))
        limits[position] = limits[position] if value is None else value
    return Bounds(*limits)


class _Layer:
    """One layer without its bias, run by ONNX Runtime."""

    def __init__(
        self, graph: GraphView, node: onnx.NodeProto, weight: NDArray[np.float32], threads: int | None
    ) -> None:
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        del copy.input[:]
        copy.input.extend(["data", "weight"])
        del copy.output[:]
        copy.output.extend(["result"])
        data = onnx.helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, None)
        result = onnx.ValueInfoProto(name="result")
        part = onnx.helper.make_graph([copy], "layer", [data], [result], [to_tensor(weight, "weight")])
        model = graph.model
        whole = onnx.helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
        self._session = open_session(whole.SerializeToString(), threads)

    def run(self, data: NDArray[np.float32]) -> NDArray[np.float32]:
        """The layer's output."""
        return np.asarray(run_session(self._session, ["result"], {"data": data})[0], np.float32)


def _positions(
    given: NDArray[np.float32], wanted: NDArray[np.float32], per_image: int, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows of both at the same positions: (N, ..., K) each to float32 (images x positions, K)."""
    flat = [each.reshape(len(each), -1, each.shape[-1]) for each in (given, wanted)]
    picked = [random.permutation(flat[0].shape[1])[:per_image] for _ in range(len(given))]
    first, second = (np.concatenate([each[i, at] for i, at in enumerate(picked)]) for each in flat)
    return first, second


class _Window:
    """Where a convolution's kernel is applied."""

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
