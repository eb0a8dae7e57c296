"""A read-only view of an ONNX graph: who makes a tensor, who reads it, and what is constant."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from googlenet_deploy.errors import requires

with requires("export"):
    import onnx
    from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

# Operators that hand every value on unchanged, so that quantising before or after them is the same.
SHAPE_OPERATORS = frozenset({"Flatten", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Transpose", "Dropout"})


LRN_CARRIERS = SHAPE_OPERATORS | {"MaxPool", "QuantizeLinear", "DequantizeLinear"}
FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE})


class Use(NamedTuple):
    """One place where a tensor is read: input number `position` of `node`."""

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
        consumers: Every place where a tensor is read.
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
        self._names = _unique_names(self.nodes)
        self._by_name: dict[str, onnx.NodeProto] = {
            self._names[node.output[0]]: node for node in self.nodes if node.output
        }

    def name_of(self, node: onnx.NodeProto) -> str:
        """The node's name where it has one of its own, else its first output: a key that is unique in the graph."""
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

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is an initializer or a ``Constant`` node's output."""
        return name in self.initializers

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor, in graph order, each once."""
        found: dict[str, onnx.NodeProto] = {}
        for use in self.consumers.get(name, ()):
            found.setdefault(use.node.output[0], use.node)
        return list(found.values())

    def activations(self) -> list[str]:
        """Every tensor that depends on the input, in the order in which they are computed, inputs first."""
        made = (name for node in self.nodes for name in node.output if name)
        return [*self.inputs, *(name for name in made if name not in self.initializers)]

    def is_float(self, name: str) -> bool:
        """Whether a tensor that depends on the input holds floating-point values; False where its type is unknown."""
        return self._element_types.get(name) in FLOATS

    @cached_property
    def _element_types(self) -> dict[str, int]:
        inferred = onnx.shape_inference.infer_shapes(self.model).graph
        values = [*inferred.input, *inferred.value_info, *inferred.output]
        return {value.name: value.type.tensor_type.elem_type for value in values}

    def first_of(self, operators: Iterable[str]) -> onnx.NodeProto | None:
        """The first node whose operator is one of `operators`."""
        wanted = frozenset(operators)
        return next((node for node in self.nodes if node.op_type in wanted), None)


def feeds_lrn(graph: GraphView, name: str) -> bool:
    """Whether an LRN reads a tensor's values, itself or behind max-pools and pairs."""
    return any(
        node.op_type == "LRN" or (node.op_type in LRN_CARRIERS and feeds_lrn(graph, node.output[0]))
        for node in graph.readers(name)
    )


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:  # noqa: ANN401 - whatever ONNX holds
    """The value of a node's attribute, or `default` where it is not given."""
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return default


def to_tensor(array: NDArray[np.generic], name: str) -> onnx.TensorProto:
    """An array as an initializer."""
    return numpy_helper.from_array(array, name)


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
