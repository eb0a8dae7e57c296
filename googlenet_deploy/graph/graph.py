"""Reading ONNX graphs: who makes and who reads a tensor, constants, attributes, shapes. `edit` changes them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from googlenet_deploy.device.text import printable
from googlenet_deploy.errors import BadModelError, requires

with requires("export"):
    import onnx
    from onnx import (
        AttributeProto,
        GraphProto,
        ModelProto,
        NodeProto,
        TensorProto,
        ValueInfoProto,
        numpy_helper,
        shape_inference,
    )

if TYPE_CHECKING:
    from numpy.typing import NDArray


Shape = list[int | str | None]

DEFAULT_DOMAINS = ("", "ai.onnx")
# Constants of at most this many elements may define how large other tensors are.
LARGEST_READ = 4096
INFERENCE_ERRORS = (shape_inference.InferenceError, RuntimeError, ValueError)


def opset_of(model: ModelProto) -> int:
    """Version of the default operator set that the model imports; 0 if it imports none."""
    return max((entry.version for entry in model.opset_import if entry.domain in DEFAULT_DOMAINS), default=0)


def integers(node: NodeProto, name: str, default: Iterable[int]) -> list[int]:
    """A node's attribute of the type INTS, or `default` if the node does not have it."""
    for attribute in node.attribute:
        if attribute.name == name and attribute.type == AttributeProto.INTS:
            return list(attribute.ints)
    return list(default)


def integer(node: NodeProto, name: str, default: int) -> int:
    """A node's attribute of the type INT, or `default` if the node does not have it."""
    for attribute in node.attribute:
        if attribute.name == name and attribute.type == AttributeProto.INT:
            return int(attribute.i)
    return default


def text(node: NodeProto, name: str, default: str) -> str:
    """A node's attribute of the type STRING, or `default` if the node does not have it."""
    for attribute in node.attribute:
        if attribute.name == name and attribute.type == AttributeProto.STRING:
            return bytes(attribute.s).decode("utf-8", "replace")
    return default


def all_inputs(node: NodeProto) -> Iterator[str]:
    """Names of the tensors that a node reads, including those that its subgraphs read from outside."""
    yield from (name for name in node.input if name)
    yield from _read_in_subgraphs(node)


def _read_in_subgraphs(node: NodeProto) -> Iterator[str]:
    for graph in subgraphs(node):
        inner = {name for child in graph.node for name in child.output}
        inner.update(tensor.name for tensor in graph.initializer)
        inner.update(value.name for value in graph.input)
        for child in graph.node:
            yield from (name for name in all_inputs(child) if name not in inner)
        yield from (output.name for output in graph.output if output.name not in inner)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs that a control-flow node holds in its attributes."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def runtime_inputs(graph: GraphProto) -> list[ValueInfoProto]:
    """The inputs that a caller provides; before IR version 4 every initializer is listed as an input too."""
    constants = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in constants]


def shape_of(value: ValueInfoProto) -> list[int | str | None]:
    """The dimensions of a tensor: an integer, the name of a symbol, or None if unknown."""
    dimensions: list[int | str | None] = []
    for dimension in value.type.tensor_type.shape.dim:
        if dimension.HasField("dim_value"):
            dimensions.append(int(dimension.dim_value))
        else:
            dimensions.append(dimension.dim_param or None)
    return dimensions


def known_shapes(model: ModelProto) -> dict[str, list[int | str | None]]:
    """Shapes of all tensors whose shape the model states: inputs, outputs, intermediate values, constants."""
    graph = model.graph
    shapes = {
        value.name: shape_of(value)
        for value in [*graph.input, *graph.value_info, *graph.output]
        if value.type.tensor_type.HasField("shape")
    }
    shapes.update({tensor.name: list(tensor.dims) for tensor in graph.initializer})
    return shapes


def tensor_names(graph: GraphProto) -> set[str]:
    """Names of all tensors of a graph, without those of subgraphs."""
    names = {name for node in graph.node for name in [*node.input, *node.output] if name}
    names.update(value.name for value in [*graph.input, *graph.output])
    names.update(tensor.name for tensor in graph.initializer)
    return names


def operator_counts(graph: GraphProto) -> dict[str, int]:
    """How many nodes there are of each operator, the most frequent first."""
    return dict(Counter(node.op_type for node in graph.node).most_common())


def serialize(model: ModelProto) -> bytes:
    """The model's bytes, the same for the same model every time."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


# Operators that pass every value on unchanged, so that quantising before or after them is the same.
SHAPE_OPERATORS = frozenset({"Flatten", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Transpose", "Dropout"})


LRN_CARRIERS = SHAPE_OPERATORS | {"MaxPool", "QuantizeLinear", "DequantizeLinear"}
FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE})


# The position of a read that is inside a subgraph of a node.
IN_SUBGRAPH = -1


class Use(NamedTuple):
    """One place where a tensor is read: input number `position` of `node`, or `IN_SUBGRAPH`."""

    node: onnx.NodeProto
    position: int


class GraphView:
    """Producers, consumers, constants and shapes of a model's main graph.

    Args:
        model: The model; it must not be changed while the view is used.
        path: The model's file, for error messages.

    Attributes:
        model: The model.
        path: The model's file.
        nodes: The nodes in the graph's (topological) order.
        initializers: The constants by name, those of ``Constant`` nodes included.
        inputs: Names of the inputs that are not constants.
        outputs: Names of the outputs.
        producers: The node that makes a tensor; inputs and initializers have none.
        consumers: Every place where a tensor is read, including subgraphs.
    """

    def __init__(self, model: onnx.ModelProto, path: str = "model") -> None:
        graph = model.graph
        self.model, self.path = model, path
        self.nodes = tuple(graph.node)
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.initializers.update(_constants(self.nodes))
        self.inputs = tuple(value.name for value in graph.input if value.name not in self.initializers)
        self.outputs = tuple(value.name for value in graph.output)
        self.producers = {name: node for node in self.nodes for name in node.output if name}
        self.consumers: dict[str, list[Use]] = defaultdict(list)
        for node in self.nodes:
            for index, name in enumerate(node.input):
                if name:
                    self.consumers[name].append(Use(node, index))
            for name in _read_in_subgraphs(node):
                self.consumers[name].append(Use(node, IN_SUBGRAPH))
        self._names = _unique_names(self.nodes)
        self._by_name: dict[str, onnx.NodeProto] = {
            self._names[node.output[0]]: node for node in self.nodes if node.output
        }

    def name_of(self, node: onnx.NodeProto) -> str:
        """The node's name if it has a unique one, else its first output: a key that is unique in the graph."""
        return self._names[node.output[0]]

    def node(self, name: str) -> onnx.NodeProto:
        """The node that `name_of` calls `name`.

        Raises:
            KeyError: There is none.
        """
        found: onnx.NodeProto = self._by_name[name]
        return found

    def constant(self, name: str) -> NDArray[Any]:
        """The value of a constant.

        Raises:
            KeyError: `name` is not a constant.
        """
        array: NDArray[Any] = numpy_helper.to_array(self.initializers[name])
        return array

    def find_constant(self, name: str) -> NDArray[Any] | None:
        """The value of a constant; None if `name` is computed."""
        return self.constant(name) if name in self.initializers else None

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is an initializer or a ``Constant`` node's output."""
        return name in self.initializers

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor, in graph order, each once."""
        found: dict[str, onnx.NodeProto] = {}
        for use in self.consumers.get(name, ()):
            found.setdefault(use.node.output[0], use.node)
        return list(found.values())

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The only node that reads a tensor; None if it is read more than once or not at all, or is also an output."""
        uses = self.consumers.get(name, [])
        return uses[0].node if len(uses) == 1 and name not in self.outputs else None

    def activations(self) -> list[str]:
        """Every tensor that depends on the input, in the order in which they are computed, inputs first."""
        made = (name for node in self.nodes for name in node.output if name)
        return [*self.inputs, *(name for name in made if name not in self.initializers)]

    def is_float(self, name: str) -> bool:
        """Whether a tensor that depends on the input holds floating-point values; False if its type is unknown."""
        return self.element_type(name) in FLOATS

    def element_type(self, name: str) -> int:
        """ONNX's code of a tensor's element type; 0 if it is unknown."""
        return self._element_types.get(name, 0)

    @cached_property
    def _element_types(self) -> dict[str, int]:
        return element_types(inferred(self.model))

    def first_of(self, operators: Iterable[str]) -> onnx.NodeProto | None:
        """The first node whose operator is one of `operators`."""
        wanted = frozenset(operators)
        return next((node for node in self.nodes if node.op_type in wanted), None)


def feeds_lrn(graph: GraphView, name: str) -> bool:
    """Whether an LRN reads a tensor's values, directly or after max-pools and pairs."""
    return any(
        node.op_type == "LRN" or (node.op_type in LRN_CARRIERS and feeds_lrn(graph, node.output[0]))
        for node in graph.readers(name)
    )


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:  # noqa: ANN401 - whatever ONNX holds
    """The value of a node's attribute, or `default` if it is not given."""
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return default


def _constants(nodes: Iterable[onnx.NodeProto]) -> dict[str, onnx.TensorProto]:
    found = {}
    for node in nodes:
        value = attribute(node, "value") if node.op_type == "Constant" else None
        if isinstance(value, onnx.TensorProto):
            found[node.output[0]] = value
    return found


def _unique_names(nodes: Iterable[onnx.NodeProto]) -> dict[str, str]:
    listed = [node for node in nodes if node.output]
    count = Counter(node.name for node in listed)
    return {node.output[0]: node.name if node.name and count[node.name] == 1 else node.output[0] for node in listed}


AVERAGE_POOLS = frozenset({"AveragePool", "GlobalAveragePool"})


def element_type(code: int) -> str:
    """NumPy's name of an ONNX element type, if it has one: 1 is ``float32``."""
    name = TensorProto.DataType.Name(code).lower() if code in TensorProto.DataType.values() else f"type {code}"
    return {"float": "float32", "double": "float64"}.get(name, name)


def describe_value(value: ValueInfoProto) -> str:
    """Name, element type and shape of an input or output: ``input float32 (batch, 3, 224, 224)``."""
    kind = element_type(value.type.tensor_type.elem_type)
    dimensions = ", ".join("?" if size is None else str(size) for size in shape_of(value))
    return f"{printable(value.name)} {kind} ({printable(dimensions)})"


def element_types(model: ModelProto) -> dict[str, int]:
    """ONNX's code of the element type of every tensor that the model states, constants included."""
    graph = model.graph
    types = {
        value.name: int(value.type.tensor_type.elem_type) for value in [*graph.input, *graph.value_info, *graph.output]
    }
    types.update({tensor.name: int(tensor.data_type) for tensor in graph.initializer})
    return types


def inferred(model: ModelProto) -> ModelProto:
    """A copy of a model with the results of shape inference stated; the model itself if inference fails.

    Its large constants have no data, which makes it quick to create: it is only for reading shapes and types.
    """
    light = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph, own = light.graph, model.graph
    graph.name = own.name or "graph"
    for kind in ("node", "input", "output", "value_info"):
        getattr(graph, kind).extend(getattr(own, kind))
    for tensor in own.initializer:
        if math.prod(tensor.dims) <= LARGEST_READ:
            graph.initializer.append(tensor)
        else:
            graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    try:
        found: ModelProto = shape_inference.infer_shapes(light, data_prop=True)
    except INFERENCE_ERRORS:
        return model
    return found


FOREIGN_REMEDY = "pass the model as it was before ONNX Runtime or another tool optimised and fused it"


def refuse_foreign_operators(graph: GraphView) -> None:
    """Refuses operators that are not ONNX's own, such as those that ONNX Runtime's optimiser writes.

    Raises:
        BadModelError: There is one.
    """
    foreign = next((node for node in graph.nodes if node.domain not in DEFAULT_DOMAINS), None)
    if foreign is not None:
        what = f"holds {foreign.op_type} of the domain {foreign.domain} ({graph.name_of(foreign)})"
        raise BadModelError(graph.path, f"{what}, which is not ONNX's: TensorRT does not know it", FOREIGN_REMEDY)
