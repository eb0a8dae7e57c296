"""Edits an ONNX graph without the onnx package: nodes and constants can be read, replaced and added.

Everything that is not changed keeps its bytes. Field numbers are those of ``onnx/onnx.proto`` (onnx 1.x).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Dict, Iterable, List, Mapping, Optional, Tuple, Union

import numpy as np

from googlenet_deploy.device.onnx_model.messages import (
    FLOAT,
    INT,
    INTS,
    Attribute,
    Graph,
    Model,
    NodeMessage,
    TensorMessage,
    parse_model,
    values_of,
)
from googlenet_deploy.device.onnx_model.protobuf import BYTES, Field, encode, encode_field

if TYPE_CHECKING:
    from numpy.typing import NDArray

AttributeValue = Union[int, float, Tuple[int, ...]]

_GRAPH, _NODE, _INITIALIZER, _OUTPUT, _VALUE_INFO = 7, 1, 5, 12, 13
_CODES = {"<f4": 1, "|u1": 2, "|i1": 3, "<i4": 6, "<i8": 7, "<f2": 10}


@dataclass
class EditableNode:
    """A node; its attributes are kept as they are in the file."""

    operator: str
    inputs: List[str]
    outputs: List[str]
    name: str = ""
    parts: List[Attribute] = field(default_factory=list)

    def attribute(self, name: str, default: AttributeValue) -> AttributeValue:
        """The value of an attribute that is an integer, a float or a list of integers."""
        value = next((part.value for part in self.parts if part.name == name), None)
        return default if value is None else value

    def attributes(self) -> List[Attribute]:
        """The serialised attributes, for another node."""
        return list(self.parts)

    def all_inputs(self) -> List[str]:
        """The tensors that it reads, including the outer tensors that its subgraphs read."""
        return [*self.inputs, *(name for part in self.parts for graph in part.graphs for name in _read_in(graph))]


class EditableGraph:
    """The graph of an ONNX model.

    Args:
        model: A valid ONNX model, as bytes or parsed.

    Attributes:
        nodes: The nodes in execution order.
        opset: Version of the default operator set.
        outputs: Names of the graph's outputs.
        external: Whether constants are in other files, so that the model's bytes are incomplete.

    Raises:
        ValueError: It is damaged.
    """

    def __init__(self, model: Union[bytes, Model]) -> None:
        parsed = model if isinstance(model, Model) else parse_model(model)
        graph = parsed.graph or Graph()
        self._outer, self.opset = parsed.others, parsed.opset
        self._others = [part for part in graph.others if part.number != _VALUE_INFO]
        self._constants: Dict[str, TensorMessage] = {tensor.name: tensor for tensor in graph.initializers}
        self._added: Dict[str, NDArray[np.generic]] = {}
        self.nodes = [_editable(item) for item in graph.nodes]
        self.outputs = [value.name for value in graph.outputs]
        self.external = any(tensor.external is not None for tensor in graph.initializers)

    def constant(self, name: str) -> Optional[NDArray[np.generic]]:
        """The value of an initializer; None if there is none of that name, or it is stored in another way."""
        if name in self._added:
            return self._added[name]
        tensor = self._constants.get(name)
        return None if tensor is None else values_of(tensor)

    def is_constant(self, name: str) -> bool:
        """Whether an initializer has that name."""
        return name in self._added or name in self._constants

    def constant_shape(self, name: str) -> Tuple[int, ...]:
        """The shape of an initializer; () if there is none of that name."""
        if name in self._added:
            return self._added[name].shape
        tensor = self._constants.get(name)
        return () if tensor is None else tensor.dims

    def add_constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Adds an initializer, or replaces the one of that name; returns the name."""
        self._added[name] = value
        return name

    def producers(self) -> Dict[str, EditableNode]:
        """The node that produces each tensor."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    def consumers(self) -> Dict[str, List[EditableNode]]:
        """The nodes that read each tensor, in the graph's order; a node that reads it twice is listed twice."""
        found: Dict[str, List[EditableNode]] = {}
        for node in self.nodes:
            for name in node.all_inputs():
                found.setdefault(name, []).append(node)
        return found

    def add_output(self, name: str) -> None:
        """Makes a tensor an additional output; its type is left to inference."""
        self._others.append(Field(_OUTPUT, BYTES, memoryview(encode(1, name))))
        self.outputs.append(name)

    def serialize(self) -> bytes:
        """Serialises the changed model, without unused constants and without the types of inner tensors."""
        read = {name for node in self.nodes for name in node.all_inputs()} | set(self.outputs)
        parts = [encode(_NODE, _write_node(node)) for node in self.nodes]
        parts += [encode_field(part) for part in self._others]
        for name, tensor in self._constants.items():
            if name in read and name not in self._added:
                parts.append(encode(_INITIALIZER, tensor.message))
        for name, value in self._added.items():
            if name in read:
                parts.append(encode(_INITIALIZER, write_tensor(name, value)))
        return b"".join([encode_field(part) for part in self._outer] + [encode(_GRAPH, b"".join(parts))])


def node(
    operator: str,
    inputs: Iterable[str],
    outputs: Iterable[str],
    attributes: Optional[Mapping[str, AttributeValue]] = None,
) -> EditableNode:
    """Makes a new node, named after its first output."""
    made = list(outputs)
    parts = [_new_attribute(name, value) for name, value in (attributes or {}).items()]
    return EditableNode(operator, list(inputs), made, f"{made[0]}/{operator}", parts)


def write_tensor(name: str, value: NDArray[np.generic]) -> bytes:
    """Serialises an array as a TensorProto."""
    dims = b"".join(encode(1, size) for size in value.shape)
    plain = np.ascontiguousarray(value, np.dtype(value.dtype).newbyteorder("<"))
    return dims + encode(2, _CODES[plain.dtype.str]) + encode(8, name) + encode(9, plain.tobytes())


def _editable(item: NodeMessage) -> EditableNode:
    return EditableNode(item.operator, list(item.inputs), list(item.outputs), item.name, list(item.attributes))


def _read_in(graph: Graph) -> List[str]:
    """Everything that a subgraph and those inside it read; names defined inside are included, which is harmless."""
    found = [value.name for value in graph.outputs]
    for item in graph.nodes:
        found += item.inputs
        found += [name for part in item.attributes for inner in part.graphs for name in _read_in(inner)]
    return found


def _write_node(item: EditableNode) -> bytes:
    domain, _, operator = item.operator.rpartition(":")
    parts = [encode(1, name) for name in item.inputs] + [encode(2, name) for name in item.outputs]
    parts += [encode(3, item.name), encode(4, operator)] + [encode(5, part.message) for part in item.parts]
    return b"".join(parts + ([encode(7, domain)] if domain else []))


def _new_attribute(name: str, value: AttributeValue) -> Attribute:
    if isinstance(value, float):
        message = encode(1, name) + b"\x15" + struct.pack("<f", value) + encode(20, FLOAT)
        return Attribute(name, FLOAT, value, (), (), (), memoryview(message))
    if isinstance(value, int):
        message = encode(1, name) + encode(3, value) + encode(20, INT)
        return Attribute(name, INT, 0.0, (value,), (), (), memoryview(message))
    message = encode(1, name) + b"".join(encode(8, number) for number in value) + encode(20, INTS)
    return Attribute(name, INTS, 0.0, value, (), (), memoryview(message))
