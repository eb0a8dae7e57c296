"""Where quantise/dequantise pairs go so that TensorRT runs the graph in INT8, and nowhere else.

The rules are those of NVIDIA's "Working with Quantized Types" (TensorRT documentation, sections "Explicit
Quantization" and "Q/DQ Layer-Placement Recommendations"):

* the inputs of Conv, ConvTranspose, Gemm and MatMul with constant weights are quantised, their outputs are not, so
  that the ReLU fuses with the convolution and the next pair's quantisation with both;
* a tensor has one pair, which all its quantised consumers share;
* MaxPool commutes with a pair, so both its sides have one scale and it runs in INT8, unless something after it is kept
  in float;
* a pair after a Concat gives all its branches one scale, so their convolutions write INT8 straight into it;
* an average pool is quantised on both sides or on neither;
* LRN has no INT8 form, and quantising what it reads ruins the result.

Consumers that stay in float read the original tensor, not the output of a pair: a layer kept in float for its
sensitivity reads exactly what the analysis measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from googlenet_deploy.calibration.options import PlacementOptions
from googlenet_deploy.device.targets.target import Target
from googlenet_deploy.errors import BadModelError, UsageError, requires
from googlenet_deploy.graph.graph import (
    AVERAGE_POOLS,
    SHAPE_OPERATORS,
    GraphView,
    all_inputs,
    attribute,
    feeds_lrn,
    refuse_foreign_operators,
    subgraphs,
)

with requires("export"):
    import onnx

if TYPE_CHECKING:
    from collections.abc import Iterable


ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh"})
QUANTIZED_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# They multiply and add too, but TensorRT does not run them in INT8 from Q/DQ pairs.
FLOAT_OPERATORS = frozenset({"Einsum", "LSTM", "GRU", "RNN", "DeformConv", "Attention"})
QUANTIZATION_OPERATORS = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class QuantizedNode:
    """A layer that runs in INT8.

    The names of constants are those of the model that the plan was made for.

    Attributes:
        name: Key of the node, as `GraphView.name_of` returns it.
        operator: One of `QUANTIZED_OPERATORS`.
        input: Name of its activation tensor.
        weight: Name of its weight initializer.
        bias: Name of its bias initializer, or None.
        axis: Axis of the weight's output channels: 0 of a Conv, and of a Gemm with transB=1; else 1.
    """

    name: str
    operator: str
    input: str
    weight: str
    bias: str | None
    axis: int


@dataclass(frozen=True)
class ScaleGroup:
    """Tensors that share one scale.

    Attributes:
        members: The tensors, in graph order.
        observed: The tensors that calibration watches. The others hold only values of these: a MaxPool's output
            holds values of its input, a Concat's inputs hold values of its output.
    """

    members: tuple[str, ...]
    observed: tuple[str, ...]


@dataclass(frozen=True)
class QuantizationPlan:
    """Which tensors get a pair, which share a scale, and what each node does.

    Attributes:
        tensors: Activation tensors that get a Q/DQ pair, in graph order.
        groups: A partition of `tensors` into sets of one scale, in graph order.
        nodes: The layers that run in INT8, in graph order.
        readers: Per tensor the keys of the nodes that read its dequantised value; all other nodes, and the
            graph's outputs, read the tensor itself.
        skipped: Why a layer that multiplies and adds stays in float, by node.
        options: The options that the plan was made with.
    """

    tensors: tuple[str, ...]
    groups: tuple[ScaleGroup, ...]
    nodes: tuple[QuantizedNode, ...]
    readers: Mapping[str, frozenset[str]]
    skipped: Mapping[str, str]
    options: PlacementOptions = field(default_factory=PlacementOptions)

    @property
    def observed(self) -> tuple[str, ...]:
        """The tensors that calibration watches."""
        return tuple(name for group in self.groups for name in group.observed)

    def group_of(self, tensor: str) -> ScaleGroup:
        """The group that `tensor` belongs to.

        Raises:
            KeyError: The tensor gets no pair.
        """
        for group in self.groups:
            if tensor in group.members:
                return group
        raise KeyError(tensor)


def place(graph: GraphView, options: PlacementOptions | None = None) -> QuantizationPlan:
    """Decides which tensors and nodes are quantised.

    Raises:
        BadModelError: The graph already holds quantisation operators, or nothing in it can be quantised.
        UsageError: `options` excludes a node that the graph does not have.
    """
    chosen = options or PlacementOptions()
    _check_graph(graph, chosen)
    nodes, skipped = _quantized_nodes(graph, chosen)
    if not nodes:
        reasons = (
            "; ".join(f"{name}: {why}" for name, why in list(skipped.items())[:3])
            or "it has no Conv or Gemm, nor another layer with weights"
        )
        raise BadModelError(graph.path, f"nothing in it can be quantised ({reasons})")
    needed = {node.input for node in nodes}
    readers: dict[str, set[str]] = {}
    for node in nodes:
        readers.setdefault(node.input, set()).add(node.name)
    _Propagation(graph, chosen, needed, readers).run()
    order = [name for name in graph.activations() if name in needed]
    groups = _scale_groups(graph, order, chosen)
    frozen = {name: frozenset(readers.get(name, ())) for name in order}
    return QuantizationPlan(tuple(order), groups, tuple(nodes), frozen, skipped, chosen)


def _check_graph(graph: GraphView, options: PlacementOptions) -> None:
    quantised = graph.first_of(QUANTIZATION_OPERATORS)
    if quantised is not None:
        raise BadModelError(
            graph.path,
            f"is already quantised: it contains {quantised.op_type} ({graph.name_of(quantised)})",
            "pass the FP32 model that `export` wrote",
        )
    refuse_foreign_operators(graph)
    half = [tensor.name for tensor in graph.initializers.values() if tensor.data_type == onnx.TensorProto.FLOAT16]
    if half:
        raise BadModelError(
            graph.path, f"contains FP16 constants ({half[0]})", "pass the FP32 model that `export` wrote"
        )
    known = {graph.name_of(node) for node in graph.nodes}
    unknown = sorted(set(options.excluded) - known)
    if unknown:
        raise UsageError(f"{graph.path}: there is no node named {unknown[0]!r} to leave in float")


def _quantized_nodes(graph: GraphView, options: PlacementOptions) -> tuple[list[QuantizedNode], dict[str, str]]:
    nodes, skipped = [], {}
    classifiers = set() if options.quantize_classifier else _classifiers(graph)
    for node in graph.nodes:
        name = graph.name_of(node) if node.output else ""
        reason = _reason_for_float(graph, node, name, options) or (
            "the classifier is not quantised" if name in classifiers else ""
        )
        if reason:
            skipped[name] = reason
        elif node.op_type in QUANTIZED_OPERATORS:
            bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
            nodes.append(QuantizedNode(name, node.op_type, node.input[0], node.input[1], bias, output_axis(node)))
    return nodes, skipped


def output_axis(node: onnx.NodeProto) -> int:
    """Axis of the output channels in a layer's weights, along which TensorRT expects scales."""
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 0 if node.op_type == "Conv" else 1


def _classifiers(graph: GraphView) -> set[str]:
    """The Gemm layers, and each MatMul with constant weights that no other layer follows."""
    found, open_names, seen = set[str](), list(graph.outputs), set[str]()
    while open_names:
        name = open_names.pop()
        node = graph.producers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type not in QUANTIZED_OPERATORS:
            open_names += all_inputs(node)
        elif node.op_type == "MatMul" and graph.is_constant(node.input[1]):
            found.add(graph.name_of(node))
    return found | {graph.name_of(node) for node in graph.nodes if node.op_type == "Gemm"}


def _reason_for_float(graph: GraphView, node: onnx.NodeProto, name: str, options: PlacementOptions) -> str:
    """Why a node that multiplies and adds stays in float; empty for quantised nodes and for all other nodes."""
    if node.op_type in FLOAT_OPERATORS:
        return f"TensorRT has no INT8 form of {node.op_type}"
    if any(child.op_type in QUANTIZED_OPERATORS for inner in subgraphs(node) for child in inner.node):
        return f"its layers are inside a branch of {node.op_type}"
    if node.op_type not in QUANTIZED_OPERATORS:
        return ""
    data, weight = node.input[0], node.input[1]
    is_gemm, is_matmul = node.op_type == "Gemm", node.op_type == "MatMul"
    computed = "it multiplies two computed tensors" if is_matmul else "its weights are not constant"
    turned = "its weights are its first input" if is_matmul else "its input is constant"
    rank = len(graph.initializers[weight].dims) if graph.is_constant(weight) else 0
    tests = (
        (name in options.excluded, "excluded by name"),
        (graph.is_constant(data), turned),
        (not rank, computed),
        (is_matmul and rank != 2, f"its weights have {rank} dimensions; TensorRT requires 2"),
        (not options.quantize_input and is_image(graph, data), "the network's input is not quantised"),
        (is_gemm and is_scaled_gemm(node), "a Gemm with alpha, beta or transA is not a linear layer"),
        (
            node.op_type == "ConvTranspose" and attribute(node, "group", 1) != 1,
            "a ConvTranspose with groups has no scale per output channel",
        ),
    )
    return next((reason for fails, reason in tests if fails), "")


def is_image(graph: GraphView, name: str) -> bool:
    """Whether a tensor is the image: no layer comes before it, at most its normalisation."""
    maker = graph.producers.get(name)
    if maker is None or maker.op_type in QUANTIZED_OPERATORS:
        return maker is None
    return all(is_image(graph, source) for source in maker.input if source)


def is_scaled_gemm(node: onnx.NodeProto) -> bool:
    """Whether a Gemm does more than a linear layer: it scales, or transposes its data."""
    scaled = attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0
    return bool(scaled or attribute(node, "transA", 0))


class _Propagation:
    """Adds the pairs that pooling, concatenation and the accelerator need, besides those of Conv and Gemm."""

    def __init__(
        self, graph: GraphView, options: PlacementOptions, needed: set[str], readers: dict[str, set[str]]
    ) -> None:
        self.graph, self.options, self.needed, self.readers = graph, options, needed, readers

    def run(self) -> None:
        if self.options.dla:
            self._add_every_tensor()
        for node in reversed(self.graph.nodes):  # a pool or Concat needs a pair on its input, never on its output
            self._visit(node)

    def _visit(self, node: onnx.NodeProto) -> None:
        name = self.graph.name_of(node)
        if name in self.options.excluded or node.op_type in QUANTIZED_OPERATORS | {"LRN"}:
            return
        if self.options.dla:
            self._read(name, node.input)
        elif self._asks_for_pair(node):
            self.needed.add(node.input[0])
            self._read(name, node.input)

    def _asks_for_pair(self, node: onnx.NodeProto) -> bool:
        """Whether a pool's input gets a pair: its output has one, and the input is not an LRN's output."""
        if node.op_type not in AVERAGE_POOLS | {"MaxPool"} or not self._is_quantised_behind(node.output[0]):
            return False
        source = node.input[0]
        maker = self.graph.producers.get(source)
        return source in self.needed or (maker is not None and maker.op_type != "LRN")

    def _is_quantised_behind(self, name: str) -> bool:
        """Whether all readers of a tensor, through operators that keep values, read the output of a pair."""
        readers = self.graph.readers(name)
        if name in self.needed:
            served = self.readers.get(name, set())
            return name not in self.graph.outputs and all(self.graph.name_of(node) in served for node in readers)
        return bool(readers) and all(
            node.op_type in SHAPE_OPERATORS and self._is_quantised_behind(node.output[0]) for node in readers
        )

    def _add_every_tensor(self) -> None:
        for name in self.graph.activations():
            if self._may_have_pair(name):
                self.needed.add(name)

    def _may_have_pair(self, name: str) -> bool:
        if name in self.graph.outputs or not self.graph.is_float(name) or feeds_lrn(self.graph, name):
            return False
        maker = self.graph.producers.get(name)
        if maker is None:
            return name in self.needed
        readers = self.graph.readers(name)
        if maker.op_type == "LRN" or maker.op_type in SHAPE_OPERATORS:
            return name in self.needed
        return bool(readers) and not any(node.op_type in ACTIVATIONS for node in readers)

    def _read(self, reader: str, names: Iterable[str]) -> None:
        for name in names:
            if name in self.needed:
                self.readers.setdefault(name, set()).add(reader)


def _scale_groups(graph: GraphView, order: list[str], options: PlacementOptions) -> tuple[ScaleGroup, ...]:
    """Joins the two sides of each MaxPool and, for the accelerator, the inputs and output of each Concat."""
    parent = {name: name for name in order}
    derived: set[str] = set()

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph.nodes:
        for whole, part in _same_values(node, options):
            if whole in parent and part in parent:
                parent[root(part)] = root(whole)
                derived.add(part)
    return _collect(order, {name: root(name) for name in order}, derived)


def _same_values(node: onnx.NodeProto, options: PlacementOptions) -> list[tuple[str, str]]:
    """Pairs of tensors that must have one scale; the second holds only values of the first."""
    if node.op_type == "MaxPool" or node.op_type in SHAPE_OPERATORS:
        return [(node.input[0], node.output[0])]
    if node.op_type == "Concat" and options.dla:
        return [(node.output[0], name) for name in node.input]
    return []


def _collect(order: Iterable[str], roots: Mapping[str, str], derived: set[str]) -> tuple[ScaleGroup, ...]:
    members: dict[str, list[str]] = {}
    for name in order:
        members.setdefault(roots[name], []).append(name)
    return tuple(
        ScaleGroup(tuple(names), tuple(name for name in names if name not in derived)) for names in members.values()
    )


# First TensorRT whose DLA reads INT8 ranges from Q/DQ pairs rather than from a calibration cache.
DLA_WITH_PAIRS = (11, 4)


def check_target(target: Target, opset: int, *, dla: bool) -> list[str]:
    """Checks a quantisation against the target.

    Args:
        target: Where the model is to run.
        opset: Opset of the model.
        dla: Whether pairs are placed for a deep learning accelerator.

    Returns:
        What the user should know.

    Raises:
        UsageError: The target cannot run the result.
    """
    if target.has_int8 is False:
        raise UsageError(
            f"{target.title} has no INT8, so a quantised model is of no use there",
            "build the FP32 model with --precision fp16",
        )
    if opset > target.largest_opset:
        raise UsageError(
            f"the model has opset {opset}; {target.reader} of {target.name} reads up to {target.largest_opset}",
            f"export it with --target {target.name}",
        )
    module = target.module
    if dla and module is not None and not module.dla_cores:
        raise UsageError(f"{target.title} has no DLA", "leave --dla out")
    if module is None or not module.dla_cores:
        return []
    if not dla:
        return [f"{target.title} has {module.dla_cores} DLA cores; --dla places pairs as they require them"]
    if target.tensorrt[0] < DLA_WITH_PAIRS:
        return [f"the DLA of {target.reader} accepts INT8 only from a calibration cache: write one with --cache"]
    return []
