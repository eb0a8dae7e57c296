"""Parses ONNX files into plain values, without the onnx package.

Everything on the device that reads ONNX files uses it: the header, the checks, and the editable graph. Field numbers
are those of ``onnx/onnx.proto`` (onnx 1.x; they never change). Weights are not copied: tensors refer to the file's
bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple, Union

import numpy as np

from googlenet_deploy.device.onnx_model.protobuf import FIXED32, FIXED64, Field, fields, integers

if TYPE_CHECKING:
    from numpy.typing import NDArray

# onnx.TensorProto.DataType
DATA_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 16: "bfloat16", 17: "float8_e4m3fn", 22: "int4",
}  # fmt: skip
DEEPEST = 16  # levels of nested subgraphs; real models have two or three
_EXTERNAL = 1  # TensorProto.DataLocation
# AttributeProto.type
FLOAT, INT, INTS = 1, 2, 7
_LISTS = (6, 7, 8, 9, 10, 12, 14)
# AttributeProto's value fields, for the types 1, 2, 3, ... in this order.
_VALUE_FIELDS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 22, 23, 14, 15)
Dimension = Union[int, str, None]


_CONTINUED = bytes(range(0x80, 0x100))  # varint bytes that are followed by another


@dataclass(frozen=True)
class TensorMessage:
    """A TensorProto.

    Attributes:
        name: Its name.
        dims: Its shape, as the file states it.
        data_type: Its type as a number; see `DATA_TYPES`.
        raw: Its values as little-endian bytes; None if they are stored as numbers.
        stored: Its values as ``(field, bytes or values)`` if they are stored as numbers.
        external: The entries (location, offset, length) of external data; None if the values are in this file.
        message: The complete message.
    """

    name: str
    dims: Tuple[int, ...]
    data_type: int
    raw: Optional[memoryview]
    stored: Tuple[Tuple[int, Field], ...]
    external: Optional[Dict[str, str]]
    message: memoryview


@dataclass(frozen=True)
class Attribute:
    """An AttributeProto.

    Attributes:
        name: Its name.
        kind: Its type as a number, such as `FLOAT`, `INT` or `INTS`; 0 if the file does not state it.
        number: Its value if it is a float.
        integers: Its values if they are integers.
        tensors: Its values if they are tensors.
        graphs: Its values if they are graphs.
        message: The complete message.
        present: Numbers of the fields that contain values.
        reference: Name of the function attribute that it refers to; "" if it has a value of its own.
    """

    name: str
    kind: int
    number: float
    integers: Tuple[int, ...]
    tensors: Tuple[TensorMessage, ...]
    graphs: Tuple[Graph, ...]
    message: memoryview
    present: Tuple[int, ...] = ()
    reference: str = ""

    @property
    def is_consistent(self) -> bool:
        """Whether its value has the stated type."""
        if self.reference:
            return not self.present
        if not 1 <= self.kind <= len(_VALUE_FIELDS):
            return False
        number = _VALUE_FIELDS[self.kind - 1]
        return self.present == (number,) or (self.kind in _LISTS and not self.present)

    @property
    def value(self) -> Optional[Union[int, float, Tuple[int, ...]]]:
        """An integer, a float or a list of integers; None for all other types."""
        if self.kind == FLOAT:
            return self.number
        if self.kind == INT:
            return self.integers[-1] if self.integers else 0
        return self.integers if self.kind == INTS else None


@dataclass(frozen=True)
class NodeMessage:
    """A NodeProto; `operator` is prefixed with the domain unless that is the default one."""

    name: str
    operator: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    attributes: Tuple[Attribute, ...]

    def attribute(self, name: str) -> Optional[Attribute]:
        """The attribute of that name."""
        return next((item for item in self.attributes if item.name == name), None)

    @property
    def label(self) -> str:
        """Its name, or its operator if it has no name."""
        return self.name or self.operator


@dataclass(frozen=True)
class Value:
    """An input or output: name, NumPy element type, and shape.

    A dimension is a number of at least 1, the name of an open dimension, or None for an unnamed open dimension.
    `stated` has the numbers as stated in the file; a stated dimension below 1 is open (Paddle, CNTK and MXNet wrote -1
    or 0).
    """

    name: str
    dtype: str
    shape: Tuple[Dimension, ...]
    stated: Tuple[Dimension, ...] = ()


@dataclass(frozen=True)
class Graph:
    """A GraphProto, or the body of a function.

    Attributes:
        nodes: In the file's order.
        initializers: Constants.
        sparse: Sparse constants: shape, values and indices.
        inputs: All inputs, including those that are initializers.
        outputs: Outputs.
        values: Stated types of inner tensors.
        others: All other fields, unchanged.
    """

    nodes: Tuple[NodeMessage, ...] = ()
    initializers: Tuple[TensorMessage, ...] = ()
    sparse: Tuple[Tuple[Tuple[int, ...], TensorMessage, TensorMessage], ...] = ()
    inputs: Tuple[Value, ...] = ()
    outputs: Tuple[Value, ...] = ()
    values: Tuple[Value, ...] = ()
    others: Tuple[Field, ...] = ()


@dataclass(frozen=True)
class Function:
    """A FunctionProto: a model-local operator."""

    operator: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    body: Graph


@dataclass(frozen=True)
class Model:
    """A ModelProto.

    Attributes:
        ir_version: Version of the file format.
        graph: The graph; None if there is none.
        opsets: Each operator set's domain ("" for the default one) and version, in the file's order.
        properties: ``metadata_props``.
        functions: Model-local operators.
        others: All fields except the graph, unchanged.
    """

    ir_version: int
    graph: Optional[Graph]
    opsets: Tuple[Tuple[str, int], ...]
    properties: Dict[str, str]
    functions: Tuple[Function, ...]
    others: Tuple[Field, ...] = field(default=(), repr=False)

    @property
    def opset(self) -> int:
        """Version of the default operator set; 0 if there is none."""
        return next((version for domain, version in reversed(self.opsets) if not domain), 0)


def parse_model(content: Union[bytes, memoryview]) -> Model:
    """Parses a ModelProto.

    Raises:
        ValueError: It is damaged, or not a ModelProto.
    """
    grouped = _grouped(memoryview(content))
    graph = _only(grouped, 7)
    return Model(
        ir_version=_last_integer(grouped, 1),
        graph=None if graph is None else _graph(graph.bytes(), 0),
        opsets=tuple(_opset(item.bytes()) for item in grouped.get(8, [])),
        properties=dict(_texts(item.bytes()) for item in grouped.get(14, [])),
        functions=tuple(_function(item.bytes()) for item in grouped.get(25, [])),
        others=tuple(item for item in fields(memoryview(content)) if item.number != 7),
    )


def values_of(tensor: TensorMessage) -> Optional[NDArray[np.generic]]:
    """A tensor's values in its shape; None if they are external or of a type that NumPy does not have.

    Raises:
        ValueError: Their number does not fit the shape.
    """
    if tensor.external is not None or tensor.data_type not in _NUMPY:
        return None
    dtype = _NUMPY[tensor.data_type]
    if tensor.raw is not None:
        flat: NDArray[np.generic] = np.frombuffer(tensor.raw, dtype)
    else:
        flat = _typed_values(tensor, np.dtype(dtype))
    if tensor.data_type == _BFLOAT16:
        flat = (flat.astype("<u4") << np.uint32(16)).view("<f4")
    return flat.reshape(tensor.dims)


def stored_count(tensor: TensorMessage) -> int:
    """How many values a tensor stores as numbers, not as `raw` bytes."""
    return sum(_count(item) for _, item in tensor.stored)


_BFLOAT16 = 16
_NUMPY = {
    1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 12: "<u4",
    13: "<u8", 16: "<u2",
}  # fmt: skip
_FLOATS, _DOUBLES, _STRINGS = 4, 10, 6
_STORED = (_FLOATS, 5, _STRINGS, 7, _DOUBLES, 11)


def _typed_values(tensor: TensorMessage, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    parts: List[NDArray[np.generic]] = []
    for number, item in tensor.stored:
        if number in (_FLOATS, _DOUBLES):
            plain = "<f4" if number == _FLOATS else "<f8"
            parts.append(np.frombuffer(_packed(item), plain))
        elif number != _STRINGS:
            wide = np.array(list(integers(item)), np.int64)
            # float16 and bfloat16 are stored as integers with their bit patterns.
            parts.append(wide.astype("<u2").view(dtype) if dtype.kind == "f" else wide.astype(dtype))
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)


def _packed(item: Field) -> bytes:
    """Numbers of 32 or 64 bits, packed or single."""
    if item.wire_type in (FIXED32, FIXED64):
        return struct.pack("<I" if item.wire_type == FIXED32 else "<Q", item.value)
    return bytes(item.bytes())


def _count(item: Field) -> int:
    if isinstance(item.value, int) or item.number == _STRINGS:
        return 1
    if item.number in (_FLOATS, _DOUBLES):
        size = 4 if item.number == _FLOATS else 8
        if len(item.value) % size:
            raise ValueError("a list of numbers ends in the middle of one")
        return len(item.value) // size
    # Each varint ends with its only byte below 128.
    return len(bytes(item.value).translate(None, _CONTINUED))


def _grouped(message: memoryview) -> Dict[int, List[Field]]:
    found: Dict[int, List[Field]] = {}
    for item in fields(message):
        found.setdefault(item.number, []).append(item)
    return found


def _only(grouped: Dict[int, List[Field]], number: int) -> Optional[Field]:
    """A submessage that may occur only once; protobuf would merge several, but no writer does that on purpose."""
    found = grouped.get(number, [])
    if len(found) > 1:
        raise ValueError(f"field {number} is there {len(found)} times")
    return found[0] if found else None


def _last_text(grouped: Dict[int, List[Field]], number: int) -> str:
    return grouped[number][-1].text() if number in grouped else ""


def _last_integer(grouped: Dict[int, List[Field]], number: int) -> int:
    return grouped[number][-1].integer() if number in grouped else 0


def _domain(text: str) -> str:
    return "" if text == "ai.onnx" else text


def _opset(message: memoryview) -> Tuple[str, int]:
    grouped = _grouped(message)
    return _domain(_last_text(grouped, 1)), _last_integer(grouped, 2)


def _texts(message: memoryview) -> Tuple[str, str]:
    grouped = _grouped(message)
    return _last_text(grouped, 1), _last_text(grouped, 2)


def _function(message: memoryview) -> Function:
    grouped = _grouped(message)
    names = {number: tuple(item.text() for item in grouped.get(number, [])) for number in (4, 5)}
    nodes = tuple(_node(item.bytes(), 1) for item in grouped.get(7, []))
    operator = _operator(_last_text(grouped, 10), _last_text(grouped, 1))
    return Function(operator, names[4], names[5], Graph(nodes))


def _operator(domain: str, name: str) -> str:
    return f"{domain}:{name}" if _domain(domain) else name


def _graph(message: memoryview, depth: int) -> Graph:
    if depth > DEEPEST:
        raise ValueError(f"subgraphs are nested more than {DEEPEST} deep")
    grouped = _grouped(message)
    inputs, outputs, values = (
        tuple(_value(item.bytes()) for item in grouped.get(number, [])) for number in (11, 12, 13)
    )
    return Graph(
        nodes=tuple(_node(item.bytes(), depth) for item in grouped.get(1, [])),
        initializers=tuple(parse_tensor(item.bytes()) for item in grouped.get(5, [])),
        sparse=tuple(_sparse(item.bytes()) for item in grouped.get(15, [])),
        inputs=inputs,
        outputs=outputs,
        values=values,
        others=tuple(item for item in fields(message) if item.number not in (1, 5)),
    )


def _node(message: memoryview, depth: int) -> NodeMessage:
    grouped = _grouped(message)
    inputs, outputs = (tuple(item.text() for item in grouped.get(number, [])) for number in (1, 2))
    operator = _operator(_last_text(grouped, 7), _last_text(grouped, 4))
    attributes = tuple(_attribute(item.bytes(), depth) for item in grouped.get(5, []))
    return NodeMessage(_last_text(grouped, 3), operator, inputs, outputs, attributes)


def _attribute(message: memoryview, depth: int) -> Attribute:
    grouped = _grouped(message)
    single = [part for part in (_only(grouped, 5), _only(grouped, 6)) if part is not None]
    tensors = [part for part in single if part.number == 5] + grouped.get(10, [])
    graphs = [part for part in single if part.number == 6] + grouped.get(11, [])
    number = 0.0
    if 2 in grouped:
        if grouped[2][-1].wire_type != FIXED32:
            raise ValueError("an attribute's number is stored in another way")
        number = float(struct.unpack("<f", _packed(grouped[2][-1]))[0])
    return Attribute(
        name=_last_text(grouped, 1),
        kind=_last_integer(grouped, 20),
        number=number,
        integers=tuple(value for part in (3, 8) for item in grouped.get(part, []) for value in integers(item)),
        tensors=tuple(parse_tensor(item.bytes()) for item in tensors),
        graphs=tuple(_graph(item.bytes(), depth + 1) for item in graphs),
        message=message,
        present=tuple(number for number in _VALUE_FIELDS if number in grouped),
        reference=_last_text(grouped, 21),
    )


def parse_tensor(message: memoryview) -> TensorMessage:
    """Parses a TensorProto.

    Raises:
        ValueError: It is damaged.
    """
    grouped = _grouped(message)
    external = _last_integer(grouped, 14) == _EXTERNAL
    return TensorMessage(
        name=_last_text(grouped, 8),
        dims=tuple(size for item in grouped.get(1, []) for size in integers(item)),
        data_type=_last_integer(grouped, 2),
        raw=grouped[9][-1].bytes() if 9 in grouped else None,
        stored=tuple((number, item) for number in _STORED for item in grouped.get(number, [])),
        external=dict(_texts(item.bytes()) for item in grouped.get(13, [])) if external else None,
        message=message,
    )


def _sparse(message: memoryview) -> Tuple[Tuple[int, ...], TensorMessage, TensorMessage]:
    grouped = _grouped(message)
    parts = [_only(grouped, number) for number in (1, 2)]
    values, indices = (parse_tensor(memoryview(b"") if item is None else item.bytes()) for item in parts)
    return tuple(size for item in grouped.get(3, []) for size in integers(item)), values, indices


def _value(message: memoryview) -> Value:
    grouped = _grouped(message)
    kind = _only(grouped, 2)
    dtype, stated = ("", ()) if kind is None else _tensor_type(kind.bytes())
    shape = tuple(None if isinstance(size, int) and size < 1 else size for size in stated)
    return Value(_last_text(grouped, 1), dtype, shape, stated)


def _tensor_type(message: memoryview) -> Tuple[str, Tuple[Dimension, ...]]:
    kind = _only(_grouped(message), 1)
    if kind is None:  # a sequence, map or optional, which classifiers do not have
        return "other", ()
    grouped = _grouped(kind.bytes())
    dtype = DATA_TYPES.get(_last_integer(grouped, 1), "other")
    shape = _only(grouped, 2)
    entries = [] if shape is None else _grouped(shape.bytes()).get(1, [])
    return dtype, tuple(_dimension(item.bytes()) for item in entries)


def _dimension(message: memoryview) -> Dimension:
    # A oneof: the last one written counts.
    found: Dimension = None
    for item in fields(message):
        if item.number == 1:
            found = item.integer()
        elif item.number == 2:
            found = item.text() or None
    return found
