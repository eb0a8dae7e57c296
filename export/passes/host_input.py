"""Undoes the fixed normalisation of a host inside the graph, so that the network sees what it was trained on.

The host passes ``x = (pixel * s - m) / d`` per channel; the network expects ``y = (pixel * S - M) / D``. With the pixel
eliminated this is ``y = a * x + b``, ``a = (d * S) / (s * D)`` and ``b = (m * S / s - M) / D``. The parts in the graph:

* The channel order is folded into the first convolution: a permutation of the weights' input channels multiplies the
  same pairs of numbers.
* The scale `a` is folded into the first convolution: it is linear in its input. Its weights are rounded once more.
* The shift `b` is folded into the bias only if that convolution pads nothing. It pads zeros to the network's own
  input; with the shift in the bias it would pad ``y = b`` instead, and every pixel at the border would come out
  differently. Otherwise ``Add`` of ``b / a`` comes before the convolution and so before its padding.

If the first reader of the input is not a plain convolution with constant weights (for instance a Q/DQ pair), Gather,
Mul and Add are put in front of it instead; they compute the same.
"""

from __future__ import annotations

from googlenet_deploy.device.hosts import HostNormalization
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import VerificationError, requires
from googlenet_deploy.graph.edit import add_constant, replace_nodes, set_constant, unique_name
from googlenet_deploy.graph.graph import GraphView, integer, integers, runtime_inputs, shape_of, tensor_names, text

with requires("export"):
    import numpy as np
    import numpy.typing as npt
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

_Values = npt.NDArray[np.float64]


class HostInput:
    """Makes the model accept what a host computes; the module's docstring explains how.

    Args:
        preprocessing: What the network expects.
        host: What the host computes.
    """

    name = "host-input"
    optional = False

    def __init__(self, preprocessing: Preprocessing, host: HostNormalization) -> None:
        self.preprocessing, self.host = preprocessing, host
        self.description = "a host's fixed normalisation undone in the graph"

    def run(self, model: ModelProto) -> bool:
        """See the class.

        Raises:
            VerificationError: The input is not float32 NCHW with the host's number of channels.
        """
        graph = model.graph
        source = runtime_inputs(graph)[0]
        shape = shape_of(source)
        is_float = source.type.tensor_type.elem_type == TensorProto.FLOAT
        fits = is_float and len(shape) == 4 and shape[1] == len(self.host.channels)
        if not fits or self.preprocessing.layout != "NCHW" or self.preprocessing.dtype != "float32":
            raise VerificationError(
                f"a host that gives {self.host.channels} images needs a float32 NCHW input of that many channels",
                "export it without --uint8-input",
            )
        factors, shifts = affine(self.preprocessing, self.host)
        swapped = self.preprocessing.channels != self.host.channels
        if not swapped and (factors == 1).all() and (shifts == 0).all():
            return False
        first = _foldable_convolution(model, source.name)
        nodes = _Nodes(graph, source.name)
        if first is None:
            nodes.add_gather(swapped)
            nodes.add_elementwise("Mul", "scale", factors, 1.0)
            nodes.add_elementwise("Add", "shift", shifts, 0.0)
        elif _pads(first):
            nodes.add_elementwise("Add", "shift", _in_host_order(shifts / factors, swapped), 0.0)
            _fold(graph, first, factors, np.zeros_like(shifts), swapped=swapped)
        else:
            _fold(graph, first, factors, shifts, swapped=swapped)
        nodes.insert()
        return True


def affine(preprocessing: Preprocessing, host: HostNormalization) -> tuple[_Values, _Values]:
    """The map from a host's values to the network's: (factor, shift) per channel, in the network's order, float64."""
    order = [host.channels.index(channel) for channel in preprocessing.channels]
    mean, std = np.asarray(host.mean)[order], np.asarray(host.std)[order]
    wanted_mean, wanted_std = np.asarray(preprocessing.mean), np.asarray(preprocessing.std)
    factors = std * preprocessing.scale / (host.scale * wanted_std)
    shifts = (mean * preprocessing.scale / host.scale - wanted_mean) / wanted_std
    return factors, shifts


class _Nodes:
    """The nodes that are put between the input and its readers."""

    def __init__(self, graph: GraphProto, source: str) -> None:
        self.graph, self.source = graph, source
        self.taken = tensor_names(graph) | {node.name for node in graph.node}
        self.nodes: list[NodeProto] = []

    @property
    def last(self) -> str:
        return self.nodes[-1].output[0] if self.nodes else self.source

    def add_gather(self, swapped: bool) -> None:
        if swapped:
            self._add("Gather", "channels", np.asarray([2, 1, 0], np.int64))
            self.nodes[-1].attribute.append(helper.make_attribute("axis", 1))

    def add_elementwise(self, operator: str, leaf: str, values: _Values, neutral: float) -> None:
        if (values != neutral).any():
            self._add(operator, leaf, np.asarray(values, np.float32).reshape(1, -1, 1, 1))

    def _add(self, operator: str, leaf: str, constant: npt.NDArray[np.generic]) -> None:
        name = unique_name(f"{self.source}/host/{leaf}", self.taken)
        tensor = unique_name(f"{name}/value", self.taken)
        add_constant(self.graph, constant, tensor)
        self.nodes.append(helper.make_node(operator, [self.last, tensor], [name], name))

    def insert(self) -> None:
        if not self.nodes:
            return
        for node in self.graph.node:
            node.input[:] = [self.last if name == self.source else name for name in node.input]
        replace_nodes(self.graph, [*self.nodes, *self.graph.node])


def _in_host_order(values: _Values, swapped: bool) -> _Values:
    return values[::-1] if swapped else values


def _foldable_convolution(model: ModelProto, source: str) -> NodeProto | None:
    """The only reader of the input, if it is a convolution that shares its constants with no other node; else None."""
    view, stored = GraphView(model), {tensor.name: tensor for tensor in model.graph.initializer}
    node = view.only_reader(source)
    if node is None or node.op_type != "Conv" or node.domain or integer(node, "group", 1) != 1:
        return None
    own = all(
        name in stored and stored[name].data_type == TensorProto.FLOAT and view.only_reader(name) is not None
        for name in node.input[1:]
        if name
    )
    return node if own else None


def _pads(node: NodeProto) -> bool:
    automatic = text(node, "auto_pad", "NOTSET")
    return automatic in ("SAME_UPPER", "SAME_LOWER") or any(integers(node, "pads", ()))


def _fold(graph: GraphProto, node: NodeProto, factors: _Values, shifts: _Values, *, swapped: bool) -> None:
    """Folds factor, shift and order of the channels into a convolution."""
    weights = next(tensor for tensor in graph.initializer if tensor.name == node.input[1])
    values = numpy_helper.to_array(weights).astype(np.float64)
    if (shifts != 0).any():
        _add_to_bias(graph, node, values.reshape(*values.shape[:2], -1).sum(axis=2) @ shifts)
    scaled = values * factors.reshape(1, -1, *[1] * (values.ndim - 2))
    ordered = scaled[:, ::-1] if swapped else scaled
    set_constant(weights, np.ascontiguousarray(ordered, np.float32))


def _add_to_bias(graph: GraphProto, node: NodeProto, added: _Values) -> None:
    present = next((tensor for tensor in graph.initializer if list(node.input[2:]) == [tensor.name]), None)
    if present is not None:
        values = numpy_helper.to_array(present).astype(np.float64) + added
        set_constant(present, np.asarray(values, np.float32))
        return
    name = unique_name(f"{node.name}/bias", tensor_names(graph))
    add_constant(graph, np.asarray(added, np.float32), name)
    node.input[:] = [*node.input[:2], name]
