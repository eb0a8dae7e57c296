"""What the engine builder must know of an ONNX file before TensorRT parses it, read without the onnx package.

Field numbers are those of ``onnx/onnx.proto`` (onnx 1.x; they never change).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple, Union

from googlenet_deploy.device.file_kind import recognise
from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.onnx_model.protobuf import Field, fields, integers
from googlenet_deploy.errors import BadModelError

REMEDY = "export it again, or check the download"
# onnx.TensorProto.DataType
DATA_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 16: "bfloat16", 17: "float8_e4m3fn", 22: "int4",
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        name: Its name; "" where the exporter gave none.
        operator: Its operator, with the domain where that is not the default one.
        inputs: Tensors that it reads.
        outputs: Tensors that it makes.
        integers: Its attributes that are integers or lists of them.
    """

    name: str
    operator: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    integers: Tuple[Tuple[str, Tuple[int, ...]], ...] = ()

    def ints(self, attribute: str) -> Tuple[int, ...]:
        """An attribute's integers; empty where the node does not have it."""
        return next((values for name, values in self.integers if name == attribute), ())


@dataclass(frozen=True)
class Value:
    """An input or output: name, element type as NumPy names it, and shape with None or a name for what is open."""

    name: str
    dtype: str
    shape: Tuple[Union[int, str, None], ...]


@dataclass(frozen=True)
class OnnxHeader:
    """An ONNX model without its weights.

    Attributes:
        opset: Version of the default operator set.
        nodes: All nodes, in the graph's order.
        inputs: Inputs that are no initializers.
        outputs: Outputs.
        initializers: Element type of every initializer, by name.
        metadata: What the toolkit stored in it; empty for models of other tools.
    """

    opset: int
    nodes: Tuple[Node, ...]
    inputs: Tuple[Value, ...]
    outputs: Tuple[Value, ...]
    initializers: Dict[str, str]
    metadata: ModelMetadata

    @property
    def quantized(self) -> bool:
        """Whether it holds QuantizeLinear or DequantizeLinear."""
        return any(node.operator in ("QuantizeLinear", "DequantizeLinear") for node in self.nodes)

    @property
    def float_type(self) -> str:
        """Type of the weights that compute in floating point: "float16" or "bfloat16" where there are some.

        Biases and scales of a quantised model count, since they decide the type that a strongly typed build uses.
        """
        for dtype in ("float16", "bfloat16"):
            if dtype in self.initializers.values():
                return dtype
        return "float32"

    @property
    def dynamic_batch(self) -> bool:
        """Whether the first dimension of the first input is open."""
        return bool(self.inputs) and bool(self.inputs[0].shape) and not isinstance(self.inputs[0].shape[0], int)


def read_onnx(path: PathLike) -> OnnxHeader:
    """Reads an ONNX file.

    Raises:
        BadModelError: It cannot be read, is truncated, or is no ONNX model.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise BadModelError(path, f"cannot be read: {reason(error)}") from error
    return parse_onnx(content, str(path))


def parse_onnx(content: bytes, path: str) -> OnnxHeader:
    """The same from bytes; `path` is for the messages."""
    try:
        header = _parse(memoryview(content), path)
    except (ValueError, UnicodeDecodeError) as error:
        raise _not_onnx(path) from error
    if header is None or not header.nodes or not header.opset:
        raise _not_onnx(path)
    return header


def _not_onnx(path: PathLike) -> BadModelError:
    kind, remedy = recognise(path)
    if kind:
        return BadModelError(path, f"is not an ONNX model but {kind}", remedy)
    return BadModelError(path, "is not an ONNX model, or is truncated", REMEDY)


def _parse(message: memoryview, path: str) -> Optional[OnnxHeader]:
    graph: Optional[memoryview] = None
    opset, properties = 0, {}
    for field in fields(message):
        if field.number == 7:
            graph = field.bytes()
        elif field.number == 8:
            domain, version = _opset(field.bytes())
            opset = version if domain in ("", "ai.onnx") else opset
        elif field.number == 14:
            key, value = _texts(field.bytes())
            properties[key] = value
    if graph is None:
        return None
    nodes: List[Node] = []
    values: Dict[int, List[Value]] = {11: [], 12: []}
    initializers: Dict[str, str] = {}
    for field in fields(graph):
        if field.number == 1:
            nodes.append(parse_node(field.bytes()))
        elif field.number == 5:
            name, dtype = _tensor(field.bytes())
            initializers[name] = dtype
        elif field.number in values:
            values[field.number].append(_value(field.bytes()))
    inputs = tuple(value for value in values[11] if value.name not in initializers)
    metadata = ModelMetadata.from_properties(properties, path)
    return OnnxHeader(opset, tuple(nodes), inputs, tuple(values[12]), initializers, metadata)


def parse_node(message: memoryview) -> Node:
    """A NodeProto; of its attributes, those that are integers.

    Raises:
        ValueError: It is damaged.
    """
    texts: Dict[int, List[str]] = {1: [], 2: [], 3: [], 4: [], 7: []}
    attributes: List[Tuple[str, Tuple[int, ...]]] = []
    for field in fields(message):
        if field.number in texts:
            texts[field.number].append(field.text())
        elif field.number == 5:
            attributes.append(_attribute(field.bytes()))
    name, operator, domain = ("".join(texts[number][-1:]) for number in (3, 4, 7))
    full = f"{domain}:{operator}" if domain not in ("", "ai.onnx") else operator
    return Node(name, full, tuple(texts[1]), tuple(texts[2]), tuple(entry for entry in attributes if entry[1]))


def _attribute(message: memoryview) -> Tuple[str, Tuple[int, ...]]:
    """Name and integers of an AttributeProto: its fields ``i`` (3) and ``ints`` (8)."""
    name, values = "", []  # type: str, List[int]
    for field in fields(message):
        if field.number == 1:
            name = field.text()
        elif field.number in (3, 8):
            values += integers(field)
    return name, tuple(values)


def _opset(message: memoryview) -> Tuple[str, int]:
    domain, version = "", 0
    for field in fields(message):
        if field.number == 1:
            domain = field.text()
        elif field.number == 2:
            version = field.integer()
    return domain, version


def _texts(message: memoryview) -> Tuple[str, str]:
    found = {field.number: field.text() for field in fields(message) if field.number in (1, 2)}
    return found.get(1, ""), found.get(2, "")


def _tensor(message: memoryview) -> Tuple[str, str]:
    name, dtype = "", ""
    for field in fields(message):
        if field.number == 2:
            dtype = DATA_TYPES.get(field.integer(), "other")
        elif field.number == 8:
            name = field.text()
    return name, dtype


def _value(message: memoryview) -> Value:
    name, dtype, shape = "", "", ()  # type: str, str, Tuple[Union[int, str, None], ...]
    for field in fields(message):
        if field.number == 1:
            name = field.text()
        elif field.number == 2:
            dtype, shape = _tensor_type(field)
    return Value(name, dtype, shape)


def _tensor_type(field: Field) -> Tuple[str, Tuple[Union[int, str, None], ...]]:
    dtype, shape = "other", ()  # type: str, Tuple[Union[int, str, None], ...]
    for kind in fields(field.bytes()):
        if kind.number != 1:  # a sequence, map or optional: nothing that TensorRT takes
            continue
        for part in fields(kind.bytes()):
            if part.number == 1:
                dtype = DATA_TYPES.get(part.integer(), "other")
            elif part.number == 2:
                shape = tuple(_dimension(entry.bytes()) for entry in fields(part.bytes()) if entry.number == 1)
    return dtype, shape


def _dimension(message: memoryview) -> Union[int, str, None]:
    for field in fields(message):
        if field.number == 1:
            return field.integer()
        if field.number == 2:
            return field.text()
    return None


def tensor_dims(message: memoryview) -> Tuple[int, ...]:
    """``dims`` of a TensorProto.

    Raises:
        ValueError: It is damaged.
    """
    return tuple(size for field in fields(message) if field.number == 1 for size in integers(field))
