"""The types that a TensorRT-RTX engine built ahead of time computes in, read from the program inside the engine.

TensorRT-RTX's engine inspector needs a GPU. But the engine contains its program as text: a list of tensors with their
types and sizes, and a list of operations on them, each with the ONNX nodes that it was made from. The kernels are
chosen on the GPU later, but not the types: TensorRT-RTX is strongly typed. The format of the text is undocumented (seen
in TensorRT-RTX 1.7), so nothing is guessed: if any convolution of the model is not found in it, the result is that
nothing is known.
"""

from __future__ import annotations

import math
import re
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from googlenet_deploy.device.engine.layers import EngineLayer

_START, _END = b"header {\n  version = ", b"\nshape_main"
_TENSOR = re.compile(r"\n *(?:sub_)?tensor=\{[^\n]*? dims=\{([^}]*)\}[^\n]*? name=\"([^\"]*)\"[^\n]*? type=(\w+)")
_OPERATION = re.compile(r"\n *(\w+)=\{ *name=([^\n]*? layers=\"([^\"\n]*)\"[^\n]*)")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_WEIGHTS = re.compile(r"\n *tensor=\{[^\n]*? const_payload_size=(\d+)")
# A generated kernel is identified by a hash of its source, so one that serves several operations counts once.
_KERNEL = re.compile(r" fqn=(\S+)")
_MEMORY = re.compile(r"region = \{ name=devmem size=(\d+)")
_TYPES = {"int8": "int8", "half": "fp16", "bf16": "bf16", "float": "fp32"}
# Operations that multiply an input by weights: convolutions, matrix products, and fusions around one of either.
_PRODUCTS = ("corrltn", "fully_connected", "gemm")
_BACKBONES = ("backbone=gemm", "backbone=conv")
# A small matrix product becomes a generated kernel that multiplies and sums.
_SUM_OF_PRODUCTS = re.compile(r"__myl_\w*MulSum\w*_0x")
# Synchronisation, and arithmetic on shapes.
_CONTROL = ("wait", "signal", "shape_call")
_KINDS = {"function": "pointwise", "maxpool": "pooling", "avgpool": "pooling"}


class RtxProgram(NamedTuple):
    """The contents of the program.

    Attributes:
        layers: Its operations in order; multiply-adds for one image, padded channels included.
        memory: Bytes of device memory for activations; None if the program does not state it.
        weights: Bytes of weights and other constants.
        kernels: Number of kernels generated for it; the engine contains the source of each.
    """

    layers: List[EngineLayer]
    memory: Optional[int]
    weights: int
    kernels: int


class _ProgramTensor(NamedTuple):
    dtype: str
    dims: Tuple[int, ...]


def read_program(engine: bytes, products: Iterable[str]) -> Optional[RtxProgram]:
    """Reads the program of an engine.

    Args:
        engine: The serialised engine.
        products: Names of the model's convolutions and matrix products.

    Returns:
        The program; None if there is none, or if it does not state a type for every one of `products`.
    """
    for text in _programs(engine):
        tensors = _tensors(text)
        layers = [
            _layer(operation, body, labels, tensors)
            for operation, body, labels in _OPERATION.findall(text)
            if operation not in _CONTROL
        ]
        told = {node for layer in layers if layer.kind == "convolution" and layer.dtype != "?" for node in layer.nodes}
        if told and told >= set(products):
            memory, weights = _MEMORY.search(text), sum(map(int, _WEIGHTS.findall(text)))
            kernels = len(set(_KERNEL.findall(text)))
            return RtxProgram(layers, int(memory.group(1)) if memory else None, weights, kernels)
    return None


def _programs(engine: bytes) -> Iterator[str]:
    start = engine.find(_START)
    while start >= 0:
        end = engine.find(_END, start)
        if end >= 0:
            yield engine[start:end].decode("latin-1")
        start = engine.find(_START, start + 1)


def _tensors(text: str) -> Dict[str, _ProgramTensor]:
    return {
        name: _ProgramTensor(_TYPES.get(dtype, "?"), tuple(int(size) for size in re.findall(r"-?\d+", dims)))
        for dims, name, dtype in _TENSOR.findall(text)
    }


def _layer(operation: str, body: str, labels: str, tensors: Dict[str, _ProgramTensor]) -> EngineLayer:
    nodes = tuple(dict.fromkeys(_NODE.findall(labels)))
    inputs, outputs = _names(body, "input"), _names(body, "output")
    ports_in, ports_out = ([(name, _of(name, tensors).dtype) for name in names] for names in (inputs, outputs))
    product = operation in _PRODUCTS or any(word in body for word in _BACKBONES) or bool(_SUM_OF_PRODUCTS.search(body))
    return EngineLayer(
        name=" + ".join(nodes) or body.partition(" ")[0].strip('"'),
        kind="convolution" if product else _KINDS.get(operation, operation),
        dtype=_computes_in(ports_in[:2]) if product else next((dtype for _, dtype in ports_in), "?"),
        multiply_adds=_multiply_adds(inputs, outputs, tensors) if product else 0,
        inputs=tuple(ports_in),
        outputs=tuple(ports_out),
        tactic=operation,
        nodes=nodes,
    )


def _names(body: str, role: str) -> List[str]:
    found = re.search(rf" {role}(?:_args)?=\{{([^}}]*)\}}", body)
    return re.findall(r'"([^"]*)"', found.group(1)) if found else []


def _of(name: str, tensors: Dict[str, _ProgramTensor]) -> _ProgramTensor:
    return tensors.get(name, _ProgramTensor("?", ()))


def _computes_in(ports: List[Tuple[str, str]]) -> str:
    """The type of activations and weights if both have the same."""
    types = {dtype for _, dtype in ports}
    return types.pop() if len(types) == 1 else "?"


def _multiply_adds(inputs: List[str], outputs: List[str], tensors: Dict[str, _ProgramTensor]) -> int:
    if len(inputs) < 2 or not outputs:
        return 0
    constant = next((name for name in inputs[:2] if "const" in name), inputs[1])
    weights, sizes = _of(constant, tensors).dims, _of(outputs[0], tensors).dims
    # An open batch is written as more than one number, so the map's size is counted from the end.
    positions = sizes[len(sizes) - max(0, len(weights) - 2) :]
    if not weights or any(size <= 0 for size in (*positions, *weights)):
        return 0
    return math.prod(positions) * math.prod(weights)
