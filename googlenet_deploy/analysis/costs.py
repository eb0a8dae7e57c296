"""What each node of an ONNX graph costs: parameters, multiply-adds, bytes of activations, live memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from googlenet_deploy.device.files import PathLike
from googlenet_deploy.errors import BadModelError, VerificationError, requires
from googlenet_deploy.graph.files import read_metadata
from googlenet_deploy.graph.fold import fold_constants
from googlenet_deploy.graph.graph import (
    GraphView,
    Shape,
    all_inputs,
    describe_value,
    integer,
    known_shapes,
    refuse_foreign_operators,
    runtime_inputs,
)
from googlenet_deploy.graph.inline import inline_functions
from googlenet_deploy.graph.shapes import first_unknown, fix_input, infer_shapes

with requires("export"):
    from onnx import ModelProto, NodeProto, TensorProto

# Nodes that pass a constant on, so that their output counts as a weight.
_CONSTANT_CARRIERS = ("DequantizeLinear", "QuantizeLinear", "Cast", "Identity", "Transpose", "Reshape")
_ELEMENT_BITS: dict[int, int] = {
    TensorProto.FLOAT: 32, TensorProto.FLOAT16: 16, TensorProto.BFLOAT16: 16, TensorProto.DOUBLE: 64,
    TensorProto.INT8: 8, TensorProto.UINT8: 8, TensorProto.INT16: 16, TensorProto.UINT16: 16,
    TensorProto.INT32: 32, TensorProto.UINT32: 32, TensorProto.INT64: 64, TensorProto.UINT64: 64,
    TensorProto.BOOL: 8, TensorProto.INT4: 4, TensorProto.UINT4: 4,
}  # fmt: skip
_DEFAULT_BITS = 8  # the 8-bit floating-point types


@dataclass(frozen=True)
class NodeCost:
    """One node.

    Attributes:
        name: The node's name.
        operator: Its operator, with the domain if that is not the default one.
        shape: Shape of its first output; None if it is not known.
        element_type: ONNX code of its first output's element type; 0 if it is not known.
        parameters: Values in the weights and biases that it reads.
        multiply_adds: Multiply-adds of convolutions and matrix products; 0 for all others.
        output_bytes: Bytes of all its outputs.
        quantized: It computes on dequantised INT8 input and weights, so TensorRT runs it in INT8.
    """

    name: str
    operator: str
    shape: tuple[int | str | None, ...] | None
    element_type: int
    parameters: int
    multiply_adds: int
    output_bytes: int
    quantized: bool


class CostModel:
    """Folds constants, infers all shapes for one batch size and computes the costs of nodes from them.

    Args:
        model: The model; it is left as it is. If it leaves height and width open, the preprocessing in its metadata
            sets them.
        batch: Batch size that replaces a symbolic first dimension of the inputs.
        path: The model's file, for error messages.

    Raises:
        BadModelError: The shape of a layer cannot be inferred, so its cost cannot be computed.
    """

    def __init__(self, model: ModelProto, batch: int = 1, path: PathLike = "model") -> None:
        self.model = fix_input(model, batch, read_metadata(path, model).preprocessing)
        try:
            inline_functions(self.model)
        except VerificationError as error:
            raise BadModelError(path, error.message) from error
        fold_constants(self.model)
        infer_shapes(self.model)
        self.view = GraphView(self.model, str(path))
        self.shapes: dict[str, Shape] = known_shapes(self.model)
        graph = self.model.graph
        self.element_types = {
            value.name: int(value.type.tensor_type.elem_type)
            for value in [*graph.input, *graph.value_info, *graph.output]
        }
        self.constants = self._constant_sizes()
        self._require_shapes(path)

    def nodes(self) -> list[NodeCost]:
        """The cost of every node, except for nodes that only prepare constants."""
        return [self._cost(node) for node in self.model.graph.node if not self._is_constant(node)]

    def peak_bytes(self) -> tuple[int, str]:
        """Largest number of bytes live at once, without weights and constants, and the node at which this occurs.

        A tensor lives from the node that makes it to the last one that reads it; inputs live from the start, outputs
        to the end. Nodes run in the graph's order, and none overwrites its input.
        """
        nodes = [node for node in self.model.graph.node if not self._is_constant(node)]
        last_use = {name: position for position, node in enumerate(nodes) for name in all_inputs(node)}
        last_use.update(dict.fromkeys(self.view.outputs, len(nodes)))
        live = {value.name: self.bytes_of(value.name) for value in runtime_inputs(self.model.graph)}
        peak, where = sum(live.values()), ""
        for position, node in enumerate(nodes):
            live.update({name: self.bytes_of(name) for name in node.output if name})
            if sum(live.values()) > peak:
                peak, where = sum(live.values()), node.name
            live = {name: size for name, size in live.items() if last_use.get(name, -1) > position}
        return peak, where

    def bytes_of(self, tensor: str) -> int:
        """Size of a tensor; 0 for constants and if the shape is not known."""
        elements = element_count(self.shapes.get(tensor))
        if elements is None or tensor in self.constants:
            return 0
        return math.ceil(elements * _ELEMENT_BITS.get(self.element_types.get(tensor, 0), _DEFAULT_BITS) / 8)

    def _require_shapes(self, path: PathLike) -> None:
        layer = first_unknown(self.model, self.constants)
        if layer is None:
            return
        refuse_foreign_operators(self.view)
        inputs = ", ".join(describe_value(value) for value in runtime_inputs(self.model.graph))
        raise BadModelError(
            path,
            f"the output shape of layer {layer.name} ({layer.op_type}) cannot be inferred, so its work is not known "
            f"(input: {inputs})",
            "fix the input's shape, or replace operators that ONNX has no shape inference for",
        )

    def _constant_sizes(self) -> dict[str, int]:
        """Number of elements of every constant, whether stored, generated or only passed on."""
        sizes = {name: math.prod(tensor.dims) for name, tensor in self.view.initializers.items()}
        for node in self.model.graph.node:
            data = next(iter(node.input), "")
            generated = node.op_type in ("Constant", "ConstantOfShape") and all(name in sizes for name in node.input)
            carried = node.op_type in _CONSTANT_CARRIERS and data in sizes
            if generated or carried:
                size = element_count(self.shapes.get(node.output[0]))
                sizes[node.output[0]] = sizes.get(data, 0) if size is None else size
        return sizes

    def _is_constant(self, node: NodeProto) -> bool:
        return all(name in self.constants for name in node.output)

    def _cost(self, node: NodeProto) -> NodeCost:
        output = next((name for name in node.output if name), "")
        shape = self.shapes.get(output)
        return NodeCost(
            name=node.name,
            operator=f"{node.domain}:{node.op_type}" if node.domain else node.op_type,
            shape=None if shape is None else tuple(shape),
            element_type=self.element_types.get(output, 0),
            parameters=self._parameters(node),
            multiply_adds=self._multiply_adds(node),
            output_bytes=sum(self.bytes_of(name) for name in node.output),
            quantized=self._is_quantized(node),
        )

    def _parameters(self, node: NodeProto) -> int:
        """Number of weights: constants of layers with weights, without the shapes, axes and scales of other nodes."""
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "PRelu"):
            return sum(self.constants.get(name, 0) for name in node.input)
        return 0

    def _multiply_adds(self, node: NodeProto) -> int:
        inputs = [self.shapes.get(name) for name in node.input]
        outputs = element_count(self.shapes.get(node.output[0]))
        if outputs is None or len(inputs) < 2:
            return 0
        if node.op_type == "Conv":
            return outputs * (element_count((inputs[1] or [0])[1:]) or 0)
        if node.op_type == "ConvTranspose":
            return (element_count(inputs[0]) or 0) * (element_count((inputs[1] or [0])[1:]) or 0)
        if node.op_type in ("Gemm", "MatMul") and inputs[0]:
            depth = inputs[0][-2 if integer(node, "transA", 0) else -1]
            return outputs * depth if isinstance(depth, int) else 0
        return 0

    def _is_quantized(self, node: NodeProto) -> bool:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            return False
        producers = [self.view.producers.get(name) for name in node.input[:2]]
        return all(producer is not None and producer.op_type == "DequantizeLinear" for producer in producers)


def element_count(shape: Sequence[int | str | None] | None) -> int | None:
    """Number of elements; None if a dimension is not known."""
    if shape is None or not all(isinstance(size, int) for size in shape):
        return None
    return math.prod(size for size in shape if isinstance(size, int))
