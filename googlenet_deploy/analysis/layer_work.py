"""The work of each layer of a model on a GPU: multiply-adds, and memory traffic in bytes, in the layer's type."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from googlenet_deploy.analysis.costs import CostModel, NodeCost, element_count
from googlenet_deploy.device.files import PathLike
from googlenet_deploy.errors import requires
from googlenet_deploy.graph.files import load_model
from googlenet_deploy.graph.graph import element_type, runtime_inputs

with requires("export"):
    from onnx import ModelProto, NodeProto, TensorProto

BYTES = {"int8": 1, "fp16": 2, "bf16": 2, "fp32": 4}
# TensorRT computes these inside the layer before or after them, or they only reinterpret memory.
_FUSED = (
    "QuantizeLinear", "DequantizeLinear", "Identity", "Dropout", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze",
)  # fmt: skip
# These are fused into the layer that makes their input, unless that layer computes nothing: after a pool or a Concat,
# as in DenseNet, they are a separate kernel.
_POINTWISE = ("Relu", "Clip", "LeakyRelu", "BatchNormalization")
# These work in the type of their input: they move values, or add them in the layer before them.
_KEEPING = ("MaxPool", "Concat", "Add", "Sum")
_AVERAGES = ("AveragePool", "GlobalAveragePool")
_MOVING = ("MaxPool", "AveragePool", "Concat", "Slice", "Transpose", "Pad")
# Branches write straight into the concatenated tensor.
_FREE = ("Concat",)
_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass(frozen=True)
class LayerWork:
    """The work of one layer.

    Attributes:
        name: The ONNX node.
        operator: Its operator.
        kind: Type that it computes in: "int8", "fp16", "bf16" or "fp32".
        multiply_adds: Multiply-adds for the whole batch.
        weight_bytes: Bytes of its weights in that type; biases in FP32.
        activation_bytes: Bytes of its inputs and outputs.
    """

    name: str
    operator: str
    kind: str
    multiply_adds: int
    weight_bytes: int
    activation_bytes: int


class ModelWork:
    """The layers of a model, with fused ones merged and every tensor in the type of the layer that makes it.

    Args:
        model: An ONNX model, or its file.
        types: What the GPU computes in.
        batch: Images per batch, if the model leaves it open.
        precision: Type of the layers that are FP32 in the model; None uses FP16 in a Q/DQ model without 16-bit types of
            its own, and FP32 in any other. "int8" treats the model as an INT8 engine from a calibration cache: layers
            with multiply-adds in INT8, as if each had Q/DQ, the others in FP16.

    Attributes:
        path: The file; "model" if none was given.
        batch: Images per batch.
        layers: The work of each layer.
        weight_bytes: Bytes of all weights.
        notes: What was assumed.

    Raises:
        BadModelError: The model cannot be read, or the shape of a layer cannot be inferred.
    """

    def __init__(self, model: ModelProto | PathLike, types: Collection[str], batch: int, precision: str | None) -> None:
        self.path: PathLike = "model" if isinstance(model, ModelProto) else model
        loaded = model if isinstance(model, ModelProto) else load_model(model)
        self.costs = CostModel(loaded, batch, path=self.path)
        self.graph = self.costs.model.graph
        self.batch = self._batch(batch)
        self.notes: list[str] = []
        quantized = any(node.op_type == "DequantizeLinear" for node in self.graph.node)
        self.int8 = "int8" in types
        if (quantized or precision == "int8") and not self.int8:
            self.notes.append("the GPU has no INT8: quantised layers count as FP16")
        halved = any(tensor.data_type in _HALF for tensor in self.graph.initializer)
        self.calibrated = precision == "int8"
        if self.calibrated:
            precision = "fp16"
            self.notes.append("every layer with multiply-adds counts as INT8, as with a calibration cache")
        self.wide = precision or ("fp16" if quantized and not halved else "fp32")
        if quantized and not halved:
            self.notes.append(f"layers without Q/DQ count as {self.wide.upper()}")
        self.aliases: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self.makers: dict[str, str] = {}
        self.steps: list[tuple[str, list[str], list[str], bool]] = []
        self.layers: list[LayerWork] = []
        self.weight_bytes = 0
        self._walk()

    def _batch(self, batch: int) -> int:
        shape = self.costs.shapes.get(runtime_inputs(self.graph)[0].name) or [batch]
        return shape[0] if isinstance(shape[0], int) else batch

    def _walk(self) -> None:
        costs = {cost.name: cost for cost in self.costs.nodes()}
        for node in self.graph.node:
            if all(name in self.costs.constants for name in node.output):
                continue
            inputs = [name for name in dict.fromkeys(map(self.root, node.input)) if name and self._is_activation(name)]
            if self._is_fused(node, inputs):
                self.aliases.update(dict.fromkeys(node.output, inputs[0]))
            else:
                self._add(node, costs[node.name], inputs)

    def _is_fused(self, node: NodeProto, inputs: list[str]) -> bool:
        if len(inputs) != 1:
            return False
        if node.op_type in _POINTWISE:
            maker = self.makers.get(inputs[0])
            return maker is not None and maker not in _MOVING
        return node.op_type in _FUSED

    def _add(self, node: NodeProto, cost: NodeCost, inputs: list[str]) -> None:
        kind = self._kind(cost)
        outputs = [name for name in node.output if name]
        if inputs and (node.op_type in _KEEPING or (self.calibrated and node.op_type in _AVERAGES)):
            kind = self._tensor_kind(inputs[0])
        self.kinds.update(dict.fromkeys(outputs, kind))
        self.makers.update(dict.fromkeys(outputs, node.op_type))
        free = node.op_type in _FREE
        self.steps.append((node.name, inputs, outputs, free))
        traffic = 0 if free else sum(self.bytes_of(name) for name in [*inputs, *outputs])
        biases = (element_count(cost_shape) or 0) if (cost_shape := self._bias_shape(node)) is not None else 0
        weights = (cost.parameters - biases) * BYTES[kind] + 4 * biases
        self.weight_bytes += weights
        self.layers.append(LayerWork(cost.name, cost.operator, kind, cost.multiply_adds, weights, traffic))

    def _bias_shape(self, node: NodeProto) -> list[int | str | None] | None:
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2:
            return self.costs.shapes.get(node.input[2]) or [self.costs.constants.get(node.input[2], 0)]
        return None

    def _kind(self, cost: NodeCost) -> str:
        if cost.quantized or (self.calibrated and cost.multiply_adds):
            return "int8" if self.int8 else "fp16"
        own = element_type(cost.element_type) if cost.element_type else ""
        return {"float16": "fp16", "bfloat16": "bf16"}.get(own, self.wide)

    def root(self, name: str) -> str:
        """The tensor whose memory a fused layer's output uses."""
        while name in self.aliases:
            name = self.aliases[name]
        return name

    def _is_activation(self, name: str) -> bool:
        return name not in self.costs.constants

    def _tensor_kind(self, name: str) -> str:
        return self.kinds.get(name, self.wide)

    def bytes_of(self, name: str) -> int:
        """Bytes of an activation in the type of the layer that makes it; an input of the network in its own type."""
        if name not in self.kinds:
            return self.costs.bytes_of(name)
        return (element_count(self.costs.shapes.get(name)) or 0) * BYTES[self.kinds[name]]

    def io_bytes(self) -> int:
        """Bytes of the network's inputs and outputs."""
        names = [value.name for value in runtime_inputs(self.graph)]
        return sum(map(self.bytes_of, names)) + sum(self.bytes_of(self.root(value.name)) for value in self.graph.output)

    def schedule(self) -> list[tuple[str, int]]:
        """Bytes of the activations that are live while each layer runs; no layer overwrites its input."""
        last = {name: position for position, (_, inputs, _, _) in enumerate(self.steps) for name in inputs}
        last.update({self.root(value.name): len(self.steps) for value in self.graph.output})
        live = {value.name: self.bytes_of(value.name) for value in runtime_inputs(self.graph)}
        found = []
        for position, (layer, inputs, outputs, free) in enumerate(self.steps):
            if free:
                live = {name: size for name, size in live.items() if name not in inputs or last[name] > position}
            live.update({name: self.bytes_of(name) for name in outputs})
            found.append((layer, sum(live.values())))
            live = {name: size for name, size in live.items() if last.get(name, -1) > position}
        return found
