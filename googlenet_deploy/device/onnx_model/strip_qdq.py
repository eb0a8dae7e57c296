"""Takes QuantizeLinear and DequantizeLinear out of an ONNX model, for GPUs without INT8.

TensorRT refuses such models there ("Networks with QuantizeLayer/DequantizeLayer layers require hardware with Int8
support"). Works on the file's bytes, since a Jetson has no onnx package; everything that is not about quantisation
stays as it is. Stored INT8 weights become ``(value - zero point) * scale`` (ONNX's definition of DequantizeLinear).
"""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Optional, Set, Tuple

import numpy as np
from numpy.typing import NDArray

from googlenet_deploy.device.onnx_model.header import Node, parse_node, tensor_dims
from googlenet_deploy.device.onnx_model.protobuf import Field, encode, encode_field, fields
from googlenet_deploy.errors import BadModelError

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_GRAPH, _NODE, _INITIALIZER, _OUTPUT, _VALUE_INFO = 7, 1, 5, 12, 13
_NUMPY = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 10: "<f2"}
_FLOAT = 1


class _Parsed(NamedTuple):
    others: List[Field]
    nodes: List[Tuple[Node, Field]]
    initializers: Dict[str, Field]
    outputs: List[str]


def strip_quantization(model: bytes, path: str) -> Tuple[bytes, int]:
    """Removes all Q/DQ.

    Args:
        model: A valid ONNX model.
        path: Its file, for messages.

    Returns:
        The model without them, and how many nodes were removed.

    Raises:
        BadModelError: A quantised constant is stored in a way that this does not read.
    """
    parts: List[bytes] = []
    removed = 0
    for field in fields(memoryview(model)):
        if field.number == _GRAPH:
            graph, removed = _strip_graph(_parse(field.bytes()), path)
            parts.append(encode(_GRAPH, graph))
        else:
            parts.append(encode_field(field))
    return b"".join(parts), removed


def _parse(graph: memoryview) -> _Parsed:
    parsed = _Parsed([], [], {}, [])
    for field in fields(graph):
        if field.number == _NODE:
            parsed.nodes.append((parse_node(field.bytes()), field))
        elif field.number == _INITIALIZER:
            parsed.initializers[_name(field.bytes())] = field
        elif field.number != _VALUE_INFO:  # types and shapes of tensors that may be gone; TensorRT infers them
            parsed.others.append(field)
            if field.number == _OUTPUT:
                parsed.outputs.append(next(part.text() for part in fields(field.bytes()) if part.number == 1))
    return parsed


def _strip_graph(graph: _Parsed, path: str) -> Tuple[bytes, int]:
    producers = {name: node for node, _ in graph.nodes for name in node.outputs}
    renamed: Dict[str, str] = {}
    made: Dict[str, bytes] = {}
    for node, _ in graph.nodes:
        if node.operator == _QUANTIZE:
            renamed[node.outputs[0]] = node.inputs[0]
        elif node.operator == _DEQUANTIZE:
            source = producers.get(node.inputs[0])
            if source is None and node.inputs[0] in graph.initializers:
                made[node.outputs[0]] = _dequantized(node, graph.initializers, path)
            else:
                renamed[node.outputs[0]] = node.inputs[0]
    kept = [(node, field) for node, field in graph.nodes if node.operator not in (_QUANTIZE, _DEQUANTIZE)]
    final = {name: _resolve(name, renamed) for name in renamed}
    parts = [encode(_NODE, _rewire(field.bytes(), final)) for _, field in kept]
    # An output keeps its name, so what was dequantised for it is handed on.
    parts += [encode(_NODE, _identity(final[name], name)) for name in graph.outputs if name in final]
    read = {final.get(name, name) for node, _ in kept for name in node.inputs}
    parts += _initializers(graph, made, read)
    parts += [encode_field(field) for field in graph.others]
    return b"".join(parts), len(graph.nodes) - len(kept)


def _initializers(graph: _Parsed, made: Mapping[str, bytes], read: Set[str]) -> List[bytes]:
    kept = [encode_field(field) for name, field in graph.initializers.items() if name in read or name in graph.outputs]
    return kept + [encode(_INITIALIZER, tensor) for name, tensor in made.items() if name in read]


def _resolve(name: str, renamed: Mapping[str, str]) -> str:
    while name in renamed:
        name = renamed[name]
    return name


def _rewire(node: memoryview, renamed: Mapping[str, str]) -> bytes:
    parts = []
    for field in fields(node):
        if field.number == 1:
            parts.append(encode(1, renamed.get(field.text(), field.text())))
        else:
            parts.append(encode_field(field))
    return b"".join(parts)


def _identity(source: str, output: str) -> bytes:
    return encode(1, source) + encode(2, output) + encode(3, f"{output}/Identity") + encode(4, "Identity")


def _dequantized(node: Node, initializers: Mapping[str, Field], path: str) -> bytes:
    axis = (*node.ints("axis"), 1)[0]  # ONNX's default
    values = _array(initializers, node.inputs[0], path).astype(np.float32)
    scale = _array(initializers, node.inputs[1], path).astype(np.float32)
    if len(node.inputs) > 2 and node.inputs[2]:
        values = values - _along(_array(initializers, node.inputs[2], path).astype(np.float32), values.ndim, axis)
    result = values * _along(scale, values.ndim, axis)
    dims = b"".join(encode(1, size) for size in result.shape)
    return dims + encode(2, _FLOAT) + encode(8, node.outputs[0]) + encode(9, result.astype("<f4").tobytes())


def _along(factor: NDArray[np.float32], rank: int, axis: int) -> NDArray[np.float32]:
    if factor.size == 1:
        return factor.reshape(())
    shape = [1] * rank
    shape[axis % rank] = factor.size
    return factor.reshape(shape)


def _array(initializers: Mapping[str, Field], name: str, path: str) -> NDArray[np.generic]:
    tensor = initializers.get(name)
    raw: Optional[memoryview] = None
    dtype = 0
    if tensor is not None:
        for field in fields(tensor.bytes()):
            if field.number == 2:
                dtype = field.integer()
            elif field.number == 9:
                raw = field.bytes()
    if tensor is None or raw is None or dtype not in _NUMPY:
        raise BadModelError(
            path, f"the quantised constant {name} is stored in an unusual way", "build from the FP32 model instead"
        )
    return np.frombuffer(raw, _NUMPY[dtype]).reshape(tensor_dims(tensor.bytes()))


def _name(tensor: memoryview) -> str:
    return next((field.text() for field in fields(tensor) if field.number == 8), "")
