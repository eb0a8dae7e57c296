"""Changing an ONNX graph without the onnx package: nodes and constants can be read, replaced and added.

Everything that is not changed keeps its bytes. Field numbers are those of ``onnx/onnx.proto`` (onnx 1.x).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Mapping, Optional, Tuple, Union

import numpy as np
from numpy.typing import NDArray

from googlenet_deploy.device.onnx_model.header import parse_node, tensor_dims
from googlenet_deploy.device.onnx_model.protobuf import Field, encode, encode_field, fields, integers

Attribute = Union[int, float, Tuple[int, ...]]

_GRAPH, _OPSET = 7, 8
_NODE, _INITIALIZER, _VALUE_INFO, _OUTPUT = 1, 5, 13, 12
_NUMPY = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 10: "<f2"}
_CODES = {np.dtype(text).str: code for code, text in _NUMPY.items()}
_EXTERNAL = 1  # TensorProto.DataLocation
# AttributeProto.type
_FLOAT, _INT, _INTS = 1, 2, 7


@dataclass
class EditableNode:
    """A node; its attributes are kept as bytes, and parsed when asked for."""

    operator: str
    inputs: List[str]
    outputs: List[str]
    name: str = ""
    raw: List[bytes] = field(default_factory=list)

    def attribute(self, name: str, default: Attribute) -> Attribute:
        """An attribute that is an integer, a number, or a list of integers."""
        for part in self.raw:
            value = _read_attribute(memoryview(part), name)
            if value is not None:
                return value
        return default

    def attributes(self) -> List[bytes]:
        """The attributes alone, to be given to another node."""
        return list(self.raw)


class EditableGraph:
    """The graph of an ONNX model.

    Args:
        model: A valid ONNX model.

    Attributes:
        nodes: In an order in which they can be executed.
        opset: Version of the default operator set.
        outputs: Names of the graph's outputs.
        external: Whether constants lie in other files, so that the model's bytes are not all of it.

    Raises:
        ValueError: It is damaged.
    """

    def __init__(self, model: bytes) -> None:
        self._outer: List[Field] = []
        self._others: List[Field] = []
        self._constants: Dict[str, memoryview] = {}
        self._added: Dict[str, NDArray[np.generic]] = {}
        self.nodes: List[EditableNode] = []
        self.outputs: List[str] = []
        self.opset, self.external = 0, False
        for part in fields(memoryview(model)):
            if part.number == _GRAPH:
                self._read_graph(part.bytes())
            else:
                self._outer.append(part)
                if part.number == _OPSET:
                    self._read_opset(part.bytes())

    def constant(self, name: str) -> Optional[NDArray[np.generic]]:
        """The value of an initializer; None where there is none of that name, or it is stored in another way."""
        if name in self._added:
            return self._added[name]
        message = self._constants.get(name)
        return None if message is None else _read_tensor(message)

    def is_constant(self, name: str) -> bool:
        """Whether an initializer has that name."""
        return name in self._added or name in self._constants

    def constant_shape(self, name: str) -> Tuple[int, ...]:
        """The shape of an initializer; () where there is none of that name."""
        if name in self._added:
            return self._added[name].shape
        message = self._constants.get(name)
        return () if message is None else tensor_dims(message)

    def add_constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Adds an initializer, or replaces the one of that name; gives the name."""
        self._added[name] = value
        return name

    def producers(self) -> Dict[str, EditableNode]:
        """Each tensor's node."""
        return {name: node for node in self.nodes for name in node.outputs}

    def consumers(self) -> Dict[str, List[EditableNode]]:
        """Each tensor's readers, in the graph's order; a node that reads it twice is there twice."""
        found: Dict[str, List[EditableNode]] = {}
        for node in self.nodes:
            for name in node.inputs:
                found.setdefault(name, []).append(node)
        return found

    def serialize(self) -> bytes:
        """The changed model; constants that nothing reads are left out, and so are types of inner tensors."""
        read = {name for node in self.nodes for name in node.inputs} | set(self.outputs)
        parts = [encode(_NODE, _write_node(node)) for node in self.nodes]
        parts += [encode_field(part) for part in self._others]
        for name, message in self._constants.items():
            if name in read and name not in self._added:
                parts.append(encode(_INITIALIZER, message))
        for name, value in self._added.items():
            if name in read:
                parts.append(encode(_INITIALIZER, write_tensor(name, value)))
        return b"".join([encode_field(part) for part in self._outer] + [encode(_GRAPH, b"".join(parts))])

    def _read_graph(self, graph: memoryview) -> None:
        for part in fields(graph):
            if part.number == _NODE:
                self.nodes.append(_read_node(part.bytes()))
            elif part.number == _INITIALIZER:
                name, external = _describe_tensor(part.bytes())
                self._constants[name] = part.bytes()
                self.external = self.external or external
            elif part.number != _VALUE_INFO:
                self._others.append(part)
                if part.number == _OUTPUT:
                    self.outputs.append(_value_name(part.bytes()))

    def _read_opset(self, message: memoryview) -> None:
        parts = {part.number: part for part in fields(message)}
        if 2 in parts and (1 not in parts or parts[1].text() in ("", "ai.onnx")):
            self.opset = parts[2].integer()


def node(
    operator: str, inputs: Iterable[str], outputs: Iterable[str], attributes: Optional[Mapping[str, Attribute]] = None
) -> EditableNode:
    """A new node, named after its first output."""
    made = list(outputs)
    raw = [_write_attribute(name, value) for name, value in (attributes or {}).items()]
    return EditableNode(operator, list(inputs), made, f"{made[0]}/{operator}", raw)


def write_tensor(name: str, value: NDArray[np.generic]) -> bytes:
    """A TensorProto."""
    dims = b"".join(encode(1, size) for size in value.shape)
    plain = np.ascontiguousarray(value, np.dtype(value.dtype).newbyteorder("<"))
    return dims + encode(2, _CODES[plain.dtype.str]) + encode(8, name) + encode(9, plain.tobytes())


def _read_node(message: memoryview) -> EditableNode:
    header = parse_node(message)
    raw = [bytes(part.bytes()) for part in fields(message) if part.number == 5]
    return EditableNode(header.operator, list(header.inputs), list(header.outputs), header.name, raw)


def _write_node(item: EditableNode) -> bytes:
    domain, _, operator = item.operator.rpartition(":")
    parts = [encode(1, name) for name in item.inputs] + [encode(2, name) for name in item.outputs]
    parts += [encode(3, item.name), encode(4, operator)] + [encode(5, part) for part in item.raw]
    return b"".join(parts + ([encode(7, domain)] if domain else []))


def _read_attribute(message: memoryview, wanted: str) -> Optional[Attribute]:
    parts: Dict[int, List[Field]] = {}
    for part in fields(message):
        parts.setdefault(part.number, []).append(part)
    if 1 not in parts or parts[1][0].text() != wanted:
        return None
    kind = parts[20][0].integer() if 20 in parts else 0
    if kind == _FLOAT and 2 in parts:
        bits = parts[2][0].value
        return float(struct.unpack("<f", struct.pack("<I", bits))[0]) if isinstance(bits, int) else None
    if kind == _INT:
        return parts[3][0].integer() if 3 in parts else 0
    if kind == _INTS:
        return tuple(number for part in parts.get(8, []) for number in integers(part))
    return None


def _write_attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, float):
        return encode(1, name) + b"\x15" + struct.pack("<f", value) + encode(20, _FLOAT)
    if isinstance(value, int):
        return encode(1, name) + encode(3, value) + encode(20, _INT)
    return encode(1, name) + b"".join(encode(8, number) for number in value) + encode(20, _INTS)


def _value_name(message: memoryview) -> str:
    return next((item.text() for item in fields(message) if item.number == 1), "")


def _describe_tensor(message: memoryview) -> Tuple[str, bool]:
    name, external = "", False
    for part in fields(message):
        if part.number == 8:
            name = part.text()
        elif part.number == 14:
            external = part.integer() == _EXTERNAL
    return name, external


def _read_tensor(message: memoryview) -> Optional[NDArray[np.generic]]:
    dtype, raw, packed = 0, None, None  # type: int, Optional[memoryview], Optional[memoryview]
    numbers: List[int] = []
    for part in fields(message):
        if part.number == 2:
            dtype = part.integer()
        elif part.number == 9:
            raw = part.bytes()
        elif part.number == 4 and not isinstance(part.value, int):
            packed = part.bytes()
        elif part.number in (5, 7):
            numbers.extend(integers(part))
    shape = tensor_dims(message)
    if dtype not in _NUMPY:
        return None
    if raw is None and packed is not None and dtype == 1:
        raw = packed
    if raw is not None:
        return np.frombuffer(raw, _NUMPY[dtype]).reshape(shape)
    if numbers:
        return np.array(numbers).astype(_NUMPY[dtype]).reshape(shape)
    return np.zeros(shape, _NUMPY[dtype]) if not int(np.prod(shape)) else None
