"""Scales and zero points of quantised operators, checked before anything computes with them.

A scale of 0 causes a division by zero, and a scale whose shape does not fit the channels is applied to another axis:
libraries and rewritings handle such files differently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from googlenet_deploy.device.onnx_model.messages import DATA_TYPES, Graph, Model, NodeMessage, TensorMessage, values_of
from googlenet_deploy.device.onnx_model.weights import LARGEST_WEIGHT, hand_on
from googlenet_deploy.device.text import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
# Indices of scale inputs, each followed by its zero point; for both domains that have such operators.
_SCALES = {
    QUANTIZE: (1,),
    DEQUANTIZE: (1,),
    "QLinearConv": (1, 4, 6),
    "QLinearMatMul": (1, 4, 6),
    "QLinearAdd": (1, 4, 6),
    "QLinearMul": (1, 4, 6),
    "QGemm": (1, 4, 7),
    "QLinearGlobalAveragePool": (1, 3),
    "QLinearAveragePool": (1, 3),
    "QLinearLeakyRelu": (1, 3),
    "QLinearSigmoid": (1, 3),
}
Dims = Tuple[int, ...]
_FLOATS = (1, 10, 16)
# Types of values that the operators do not take (ONNX operator specification, type constraints). float64 passes, since
# such models are read and then converted.
_NOT_TAKEN = {QUANTIZE: (2, 3, 4, 5, 7, 8, 9), DEQUANTIZE: (1, 7, 8, 9, 10, 11, 16)}
# First opsets with float16 and bfloat16 scales; with one scale per block; with scales of another type than the values.
_FIRST_HALF, _FIRST_BLOCKED, _FIRST_MIXED = 19, 21, 23


class ScaleProblem(NamedTuple):
    """An invalid scale or zero point.

    Attributes:
        node: The node that reads it.
        tensor: Its name.
        problem: What is wrong, as in "is 0".
        zero: Whether the scale's only fault is that it is 0, which `quantize --repair` fixes.
    """

    node: str
    tensor: str
    problem: str
    zero: bool = False

    def __str__(self) -> str:
        """The problem in one line."""
        return f"node {printable(self.node)}: its scale {printable(self.tensor)} {self.problem}"


def scale_problems(model: Model) -> Iterator[ScaleProblem]:
    """Lists all problems of constant scales and zero points, in the graph's order.

    Raises:
        ValueError: A constant is damaged; see `checks.check_structure`.
    """
    if model.graph is not None:
        yield from _problems(model.graph, {}, {}, model.opset)
    for function in model.functions:
        yield from _problems(function.body, {}, {}, model.opset)


def check_scales(model: Model) -> None:
    """Rejects a model with an invalid scale or zero point.

    Raises:
        ValueError: It has one; the message names the first.
    """
    problem = next(scale_problems(model), None)
    if problem is not None:
        raise ValueError(str(problem))


def _problems(
    graph: Graph, outer: Dict[str, TensorMessage], outer_sources: Dict[str, TensorMessage], opset: int
) -> Iterator[ScaleProblem]:
    """Lists a graph's problems; a source is the constant that a tensor comes from, through Q and DQ only."""
    own = {tensor.name: tensor for tensor in graph.initializers}
    constants, sources = {**outer, **own}, {**outer_sources, **own}
    for node in graph.nodes:
        for index in _SCALES.get(node.operator.rpartition(":")[2], ()):
            yield from _scale_problems(node, index, constants, sources, opset)
        for attribute in node.attributes:
            for inner in attribute.graphs:
                yield from _problems(inner, constants, sources, opset)
        hand_on(node, constants, ())
        hand_on(node, sources, (QUANTIZE, DEQUANTIZE))


def _scale_problems(
    node: NodeMessage, index: int, constants: Dict[str, TensorMessage], sources: Dict[str, TensorMessage], opset: int
) -> Iterator[ScaleProblem]:
    tensor = constants.get(node.inputs[index]) if index < len(node.inputs) else None
    scale = None if tensor is None else values_of(tensor)
    if tensor is None or scale is None:
        return
    problem = _type_problem(node, index, tensor, constants, opset) or value_problem(scale)
    zero = problem.startswith(_ZERO)
    if not problem or zero:
        source = sources.get(node.inputs[index - 1])
        shape = _shape_problem(node, index, tensor, constants, None if source is None else source.dims, opset)
        problem, zero = (shape, False) if shape else (problem, zero)
    if problem:
        yield ScaleProblem(node.label, tensor.name or node.inputs[index], problem + (_REPAIR if zero else ""), zero)


def _type_problem(
    node: NodeMessage, index: int, scale: TensorMessage, constants: Dict[str, TensorMessage], opset: int
) -> str:
    """Checks that scales are float32, or from opset 19 the values' type, and zero points of the codes' type."""
    if scale.data_type not in (_FLOATS if opset >= _FIRST_HALF else _FLOATS[:1]):
        return f"is of type {DATA_TYPES.get(scale.data_type, 'unknown')}"
    values = constants.get(node.inputs[index - 1])
    zero_point = constants.get(node.inputs[index + 1]) if index + 1 < len(node.inputs) else None
    if values is None:
        return ""
    if node.operator == QUANTIZE and _FIRST_HALF <= opset < _FIRST_MIXED and values.data_type != scale.data_type:
        return "is of another type than the values"
    if values.data_type in _NOT_TAKEN.get(node.operator, ()):
        return f"is for values of type {DATA_TYPES[values.data_type]}, which {node.operator} does not take"
    if node.operator == DEQUANTIZE and zero_point is not None and zero_point.data_type != values.data_type:
        return "has a zero point of another type than the codes"
    return ""


_ZERO = "is 0"
_REPAIR = " (quantize --repair replaces it where the channel contains only zeros)"


def value_problem(scale: NDArray[np.generic]) -> str:
    """What is wrong with the values of a scale, as in "is negative"; empty if nothing is."""
    numbers = scale.astype(np.float64).reshape(-1)
    if not np.isfinite(numbers).all():
        return "is not finite"
    if (numbers >= LARGEST_WEIGHT).any():
        return f"is {numbers.max():.1e}; no scale is as large"
    if (numbers < 0).any():
        return "is negative"
    zeros = np.flatnonzero(numbers == 0)
    if zeros.size:
        return _ZERO + (f" for channel {zeros[0]}" if numbers.size > 1 else "")
    return "" if numbers.size else "is empty"


def pair_problem(
    scale: Dims,
    zero_point: Optional[Dims],
    values: Optional[Sequence[object]],
    *,
    axis: int,
    block: int = 0,
    opset: int = _FIRST_BLOCKED,
) -> str:
    """What is wrong with the shapes of a QuantizeLinear or DequantizeLinear; empty if nothing is.

    Source: ONNX operator specification, QuantizeLinear-21.

    Args:
        scale: Shape of the scale.
        zero_point: Shape of the zero point; None without one.
        values: Shape of the quantised tensor, with anything but a number for what is unknown; None if all is unknown.
        axis: The attribute "axis".
        block: The attribute "block_size"; 0 without one.
        opset: Of the model.
    """
    size = int(np.prod(scale))
    if zero_point is not None and zero_point != scale and not (size == 1 and zero_point in ((), (1,))):
        return f"has the shape {scale}, and its zero point {zero_point}"
    if block:
        fits = opset >= _FIRST_BLOCKED and block > 0 and (values is None or len(scale) == len(values))
        return "" if fits else f"has the shape {scale}, which its block size does not fit"
    if len(scale) > 1:
        return f"has the shape {scale}; one value, or one per channel, is right"
    if size == 1 or values is None:
        return ""
    if not -len(values) <= axis < len(values):
        return f"is for axis {axis} of a tensor of {len(values)} dimensions"
    channels = values[axis]
    unlike = isinstance(channels, int) and channels != size
    return f"has {size} values, and axis {axis} has {channels} channels" if unlike else ""


def _shape_problem(
    node: NodeMessage,
    index: int,
    scale: TensorMessage,
    constants: Dict[str, TensorMessage],
    shape: Optional[Dims],
    opset: int,
) -> str:
    zero_point = constants.get(node.inputs[index + 1]) if index + 1 < len(node.inputs) else None
    dims = None if zero_point is None else zero_point.dims
    if node.operator in (QUANTIZE, DEQUANTIZE):
        axis, block = _integer(node, "axis", 1), _integer(node, "block_size", 0)
        return pair_problem(scale.dims, dims, shape, axis=axis, block=block, opset=opset)
    problem = pair_problem(scale.dims, dims, None, axis=0)
    size = int(np.prod(scale.dims))
    # Among QLinearConv's inputs only the weights have a scale per channel; their axis is the first.
    unlike = node.operator == "QLinearConv" and (index != 4 or (shape is not None and shape[:1] != (size,)))
    return problem or (f"has {size} values, which its channels do not have" if size != 1 and unlike else "")


def _integer(node: NodeMessage, name: str, default: int) -> int:
    stated = node.attribute(name)
    return default if stated is None or not stated.integers else stated.integers[0]
