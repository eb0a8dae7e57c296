"""Operators of newer opsets in the terms of older ones: what onnx's version converter has no adapter for.

PyTorch exports in opset 18 at least, and TensorRT on many Jetsons reads 17 at most. Most operators only gained types
between the two; the others are rewritten here as the newer operator's specification defines them
(https://onnx.ai/onnx/operators/). To add an operator is a function and a line in `LOWERINGS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from googlenet_deploy.errors import requires
from googlenet_deploy.graph.edit import copied, to_tensor, unique_name
from googlenet_deploy.graph.graph import GraphView, Shape, attribute, integer, integers, opset_of, tensor_names, text
from googlenet_deploy.graph.shapes import inferred_shapes

with requires("export"):
    from onnx import ModelProto, NodeProto, TensorProto, helper

_FLOATS: dict[int, type[np.generic]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.DOUBLE: np.float64,
}
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")


class OpsetLowering:
    """Rewrites nodes of one model for an older opset; the model itself is not changed.

    Args:
        model: The model.
        opset: The opset of the result, at least 13.

    Attributes:
        constants: The initializers that rewritten nodes read.
    """

    def __init__(self, model: ModelProto, opset: int) -> None:
        self.constants: list[TensorProto] = []
        self._current, self._opset, self._view = opset_of(model), opset, GraphView(model)
        self._taken = tensor_names(model.graph) | {node.name for node in model.graph.node}

    def rewrite(self, node: NodeProto) -> list[NodeProto] | None:
        """Nodes that compute the same outputs in the older opset; None if this module has no form for the node.

        Attributes that the older opset does not know may be left; they no longer say anything.
        """
        lowering = LOWERINGS.get(node.op_type)
        if lowering is None or not self._opset < lowering.since <= self._current:
            return None
        return lowering.rewrite(node, self)

    @cached_property
    def _shapes(self) -> dict[str, Shape]:
        return inferred_shapes(self._view.model)

    def rank(self, name: str) -> int | None:
        """A tensor's rank; None if it is unknown."""
        shape = self._shapes.get(name)
        return None if shape is None else len(shape)

    def size(self, name: str, axis: int) -> int | None:
        """One dimension of a tensor; None if it is open or unknown."""
        shape = self._shapes.get(name)
        found = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
        return found if isinstance(found, int) and found > 0 else None

    def input(self, node: NodeProto, position: int) -> str:
        """The name of an input; "" if it is left out."""
        return node.input[position] if position < len(node.input) else ""

    def value(self, name: str) -> NDArray[Any] | None:
        """The value of a constant; None if `name` is computed."""
        return self._view.find_constant(name)

    def float_type(self, name: str) -> type[np.generic] | None:
        """NumPy's type of a float tensor; None for other types."""
        return _FLOATS.get(self._view.element_type(name) or self._constant_type(name))

    def name(self, wanted: str) -> str:
        """A name that no tensor and no node has."""
        return unique_name(wanted, self._taken)

    def constant(self, array: NDArray[Any], wanted: str) -> str:
        """Adds a constant; returns its name."""
        name = self.name(wanted)
        self.constants.append(to_tensor(array, name))
        return name

    def _constant_type(self, name: str) -> int:
        tensor = self._view.initializers.get(name)
        return 0 if tensor is None else tensor.data_type


@dataclass
class _Chain:
    """Nodes that are computed one after another in place of `node`."""

    node: NodeProto
    lowering: OpsetLowering
    nodes: list[NodeProto] = field(default_factory=list)

    def add(self, operator: str, *inputs: str, last: bool = False, **attributes: Any) -> str:  # noqa: ANN401 - whatever ONNX holds
        """Appends a node; returns its output, which is `node`'s own if it is the last."""
        prefix = self.node.name or self.node.output[0]
        label = f"{prefix}/{operator.lower()}"
        output = self.node.output[0] if last else self.lowering.name(label)
        made = helper.make_node(operator, inputs, [output], prefix if last else output, **attributes)
        self.nodes.append(made)
        return output

    def constant(self, value: Any, kind: type[np.generic]) -> str:  # noqa: ANN401 - whatever NumPy takes
        """A constant of that type; returns its name."""
        return self.lowering.constant(np.asarray(value, kind), f"{self.node.name or self.node.output[0]}/constant")


def _pad(node: NodeProto, lowering: OpsetLowering) -> list[NodeProto] | None:
    """Opset 18 added `axes`, opset 19 the mode "wrap"."""
    if text(node, "mode", "constant") == "wrap":
        return None
    copy, name = copied(node), lowering.input(node, 3)
    del copy.input[3:]
    if not name:
        return [copy]
    axes, pads, rank = lowering.value(name), lowering.value(node.input[1]), lowering.rank(node.input[0])
    if axes is None or pads is None or rank is None:
        return None
    full = np.zeros((2, rank), np.int64)
    full[:, axes.astype(np.int64)] = pads.reshape(2, -1)
    copy.input[1] = lowering.constant(full.reshape(-1), f"{node.input[1]}/all_axes")
    return [copy]


def _split(node: NodeProto, lowering: OpsetLowering) -> list[NodeProto] | None:
    """Opset 18 added `num_outputs`: equal parts, of which the last may be smaller."""
    copy = copied(node)
    if lowering.input(node, 1):
        return [copy]
    size, count = lowering.size(node.input[0], integer(node, "axis", 0)), len(node.output)
    if size is None:
        return None
    if size % count:
        part = math.ceil(size / count)
        sizes = np.array([part] * (count - 1) + [size - part * (count - 1)], np.int64)
        copy.input[1:] = [lowering.constant(sizes, f"{node.output[0]}/sizes")]
    return [copy]


def _reduce(node: NodeProto, lowering: OpsetLowering) -> list[NodeProto] | None:
    """Opset 18 made the attribute `axes` an input, whose absence may also mean that nothing is reduced."""
    name, copy = lowering.input(node, 1), copied(node)
    axes = lowering.value(name) if name else np.zeros(0, np.int64)
    if axes is None:
        return None
    del copy.input[1:]
    if axes.size:
        copy.attribute.append(helper.make_attribute("axes", axes.reshape(-1).tolist()))
    elif integer(node, "noop_with_empty_axes", 0):
        return None  # L2 of nothing is the absolute value, LogSum the logarithm ...: not worth a form
    return [copy]


def _resize(node: NodeProto, lowering: OpsetLowering) -> list[NodeProto] | None:
    """Opset 18 added `axes`, antialiasing and policies of the aspect ratio; only the first has an older form."""
    plain = text(node, "keep_aspect_ratio_policy", "stretch") == "stretch" and not integer(node, "antialias", 0)
    symmetric = text(node, "coordinate_transformation_mode", "half_pixel") == "half_pixel_symmetric"
    axes, rank = integers(node, "axes", ()), lowering.rank(node.input[0])
    if not plain or symmetric or lowering.input(node, 1) or rank is None:
        return None
    copy = copied(node)
    for position, neutral in ((2, [1.0] * rank), (3, [lowering.size(node.input[0], axis) for axis in range(rank)])):
        name = lowering.input(node, position)
        if name and axes:
            given = lowering.value(name)
            if given is None:
                return None
            for axis, value in zip(axes, given.tolist(), strict=True):
                neutral[axis] = value
            if None in neutral:
                return None
            copy.input[position] = lowering.constant(np.array(neutral, given.dtype), f"{name}/all_axes")
    return [copy]


def _average_pool(node: NodeProto, _lowering: OpsetLowering) -> list[NodeProto] | None:
    """Opset 19 added `dilations`."""
    return None if set(integers(node, "dilations", ())) - {1} else [node]


def _gelu(node: NodeProto, lowering: OpsetLowering) -> list[NodeProto] | None:
    """Computes x (1 + erf(x / sqrt 2)) / 2, or with tanh(sqrt(2 / pi) (x + 0.044715 x^3)) in place of erf(...)."""
    kind, x = lowering.float_type(node.input[0]), node.input[0]
    if kind is None:
        return None
    chain = _Chain(node, lowering)
    if text(node, "approximate", "none") == "tanh":
        cube = chain.add("Mul", chain.add("Mul", chain.add("Mul", x, x), x), chain.constant(0.044715, kind))
        scaled = chain.add("Mul", chain.add("Add", x, cube), chain.constant(math.sqrt(2 / math.pi), kind))
        inner = chain.add("Tanh", scaled)
    else:
        inner = chain.add("Erf", chain.add("Div", x, chain.constant(math.sqrt(2), kind)))
    half = chain.add("Mul", x, chain.constant(0.5, kind))
    chain.add("Mul", half, chain.add("Add", inner, chain.constant(1, kind)), last=True)
    return chain.nodes


def _mish(node: NodeProto, lowering: OpsetLowering) -> list[NodeProto] | None:
    """Computes x tanh(softplus(x))."""
    chain = _Chain(node, lowering)
    chain.add("Mul", node.input[0], chain.add("Tanh", chain.add("Softplus", node.input[0])), last=True)
    return chain.nodes


def _swish(node: NodeProto, lowering: OpsetLowering) -> list[NodeProto] | None:
    """Computes x sigmoid(alpha x)."""
    kind, alpha, x = lowering.float_type(node.input[0]), float(attribute(node, "alpha", 1.0)), node.input[0]
    if kind is None:
        return None
    chain = _Chain(node, lowering)
    scaled = x if alpha == 1 else chain.add("Mul", x, chain.constant(alpha, kind))
    chain.add("Mul", x, chain.add("Sigmoid", scaled), last=True)
    return chain.nodes


def _hard_swish(node: NodeProto, lowering: OpsetLowering) -> list[NodeProto] | None:
    """Computes x max(0, min(1, x / 6 + 1/2))."""
    chain = _Chain(node, lowering)
    gate = chain.add("HardSigmoid", node.input[0], alpha=1 / 6, beta=0.5)
    chain.add("Mul", node.input[0], gate, last=True)
    return chain.nodes


def _layer_normalization(node: NodeProto, lowering: OpsetLowering) -> list[NodeProto] | None:
    """(x - mean) / sqrt(variance + epsilon) scale + bias, over the axes from `axis` on."""
    x, kind, rank = node.input[0], lowering.float_type(node.input[0]), lowering.rank(node.input[0])
    if kind is None or rank is None or any(node.output[1:]):
        return None
    axes = list(range(integer(node, "axis", -1) % rank, rank))
    chain = _Chain(node, lowering)
    centred = chain.add("Sub", x, chain.add("ReduceMean", x, axes=axes))
    variance = chain.add("ReduceMean", chain.add("Mul", centred, centred), axes=axes)
    epsilon = chain.constant(float(attribute(node, "epsilon", 1e-5)), kind)
    normal = chain.add("Div", centred, chain.add("Sqrt", chain.add("Add", variance, epsilon)))
    bias = lowering.input(node, 2)
    scaled = chain.add("Mul", normal, node.input[1], last=not bias)
    if bias:
        chain.add("Add", scaled, bias, last=True)
    return chain.nodes


def _group_normalization(node: NodeProto, lowering: OpsetLowering) -> list[NodeProto] | None:
    """InstanceNormalization over groups of channels, then scale and bias per channel (per group before opset 21)."""
    scale, bias, rank = lowering.value(node.input[1]), lowering.value(node.input[2]), lowering.rank(node.input[0])
    kind, groups = lowering.float_type(node.input[0]), integer(node, "num_groups", 1)
    if kind is None or scale is None or bias is None or rank is None:
        return None
    chain, shape = _Chain(node, lowering), (-1, *[1] * (rank - 2))
    grouped = chain.add("Reshape", node.input[0], chain.constant([0, groups, -1], np.int64))
    ones, zeros = chain.constant(np.ones(groups), kind), chain.constant(np.zeros(groups), kind)
    epsilon = float(attribute(node, "epsilon", 1e-5))
    normal = chain.add("InstanceNormalization", grouped, ones, zeros, epsilon=epsilon)
    restored = chain.add("Reshape", normal, chain.add("Shape", node.input[0]))
    scaled = chain.add("Mul", restored, chain.constant(scale.reshape(shape), kind))
    chain.add("Add", scaled, chain.constant(bias.reshape(shape), kind), last=True)
    return chain.nodes


class Lowering(NamedTuple):
    """How an operator is rewritten.

    Attributes:
        since: The opset that introduced the form that is rewritten.
        rewrite: Receives a node and its model; returns None if this node has no older form.
    """

    since: int
    rewrite: Callable[[NodeProto, OpsetLowering], list[NodeProto] | None]


# The one registry of operators that are rewritten.
LOWERINGS = {
    "AveragePool": Lowering(19, _average_pool),
    "Gelu": Lowering(20, _gelu),
    "GroupNormalization": Lowering(21, _group_normalization),
    "HardSwish": Lowering(14, _hard_swish),
    "LayerNormalization": Lowering(17, _layer_normalization),
    "Mish": Lowering(18, _mish),
    "Pad": Lowering(18, _pad),
    **{f"Reduce{name}": Lowering(18, _reduce) for name in _REDUCTIONS},
    "Resize": Lowering(18, _resize),
    "Split": Lowering(18, _split),
    "Swish": Lowering(24, _swish),
}
