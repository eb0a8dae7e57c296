"""Writes a float32 model in FP16 or BF16, except for the layers that were chosen to stay FP32.

A strongly typed TensorRT (10.12 and later, 11, TensorRT-RTX) computes in exactly these types, so they are not left to
a converter of another package: onnxconverter-common's, the usual one, clips weights silently, has no BF16, and converts
the scales of Q/DQ pairs without checking whether FP16 can hold them.

Inputs and outputs stay as they are. A tensor has the type of the layer that makes it; if layers of the other type read
it, they share one Cast. Tensors and nodes keep their names.
"""

from __future__ import annotations

from collections.abc import Collection

from googlenet_deploy.errors import VerificationError, requires
from googlenet_deploy.export.half_precision.types import HalfType
from googlenet_deploy.graph.edit import replace_nodes, set_constant, unique_name
from googlenet_deploy.graph.graph import element_types, subgraphs, tensor_names

with requires("export"):
    from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

QUANTIZATION = ("QuantizeLinear", "DequantizeLinear")


class HalfPrecision:
    """See the module's docstring.

    Args:
        kind: The 16-bit type.
        fp32: Names of the nodes that stay FP32.
    """

    optional = False

    def __init__(self, kind: HalfType, fp32: Collection[str]) -> None:
        self.kind, self.fp32 = kind, frozenset(fp32)
        self.name = kind.name
        self.description = f"weights and activations in {kind.label}"

    def run(self, model: ModelProto) -> bool:
        """See the class.

        Raises:
            VerificationError: The graph has branches or loops.
        """
        if any(True for node in model.graph.node for _ in subgraphs(node)):
            raise VerificationError("a graph with branches or loops is not converted to 16 bits")
        writer = _HalfWriter(model, self.kind, self.fp32)
        if not writer.halved:
            return False
        writer.write()
        return True


class _HalfWriter:
    """Rewrites one model in place."""

    def __init__(self, model: ModelProto, kind: HalfType, fp32: Collection[str]) -> None:
        self.model, self.kind = model, kind
        graph = model.graph
        types = element_types(model)
        self.floats = {name for name, code in types.items() if code == TensorProto.FLOAT}
        self.halved = [node for node in graph.node if node.name not in fp32 and self._has_floats(node)]
        self.names = {node.name for node in self.halved}
        self.constants = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT}
        self.outputs = {value.name for value in graph.output}
        self.taken = tensor_names(graph) | {node.name for node in graph.node}
        self.nodes: list[NodeProto] = []
        self.half_tensors: dict[str, str] = {}  # by tensor made in 16 bits: its present name
        self.casts: dict[tuple[str, int], str] = {}
        self.half_constants: dict[str, str] = {}

    def _has_floats(self, node: NodeProto) -> bool:
        return any(name in self.floats for name in [*node.input, *node.output])

    def write(self) -> None:
        self._round_scales()
        for node in self.model.graph.node:
            half = node.name in self.names
            node.input[:] = [self._read(name, half=half) for name in node.input]
            self._emit(node, half=half)
        replace_nodes(self.model.graph, self.nodes)
        self._replace_constants()
        # Stated for float32; the pass manager infers them again.
        del self.model.graph.value_info[:]

    def _round_scales(self) -> None:
        """Gives QuantizeLinear and DequantizeLinear of a pair the same scale, whichever types they end up with."""
        for node in self.halved:
            tensor = self.constants.get(node.input[1]) if node.op_type in QUANTIZATION else None
            if tensor is not None:
                values = self.kind.rounded(numpy_helper.to_array(tensor))
                set_constant(tensor, values)

    def _read(self, name: str, *, half: bool) -> str:
        """The name of a tensor in the type that a reader needs."""
        if name not in self.floats:
            return name
        if name in self.constants:
            return self._half_constant(name) if half else name
        own = self.half_tensors.get(name)
        if half == (own is not None):
            return own or name
        return self._cast(own or name, self.kind.code if half else TensorProto.FLOAT)

    def _half_constant(self, name: str) -> str:
        if name not in self.half_constants:
            self.half_constants[name] = unique_name(f"{name}/{self.kind.name}", self.taken)
        return self.half_constants[name]

    def _cast(self, name: str, code: int, result: str | None = None) -> str:
        """Adds a Cast after the nodes written so far, one per tensor and type."""
        key = (name, code)
        if key not in self.casts or result is not None:
            suffix = "fp32" if code == TensorProto.FLOAT else self.kind.name
            label = unique_name(f"{name}/to_{suffix}", self.taken)
            self.nodes.append(helper.make_node("Cast", [name], [result or label], label, to=code))
            self.casts.setdefault(key, result or label)
        return self.casts[key]

    def _emit(self, node: NodeProto, *, half: bool) -> None:
        self.nodes.append(node)
        if not half:
            return
        if node.op_type == "Cast":
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                    attribute.i = self.kind.code
        for position, name in enumerate(node.output):
            if name not in self.floats:
                continue
            self.half_tensors[name] = name
            if name in self.outputs:
                inner = unique_name(f"{name}/{self.kind.name}", self.taken)
                node.output[position] = self.half_tensors[name] = inner
                self._cast(inner, TensorProto.FLOAT, name)

    def _replace_constants(self) -> None:
        """Adds the 16-bit constants; each takes the name of its float32 constant if nothing reads that any more."""
        graph = self.model.graph
        read = {name for node in graph.node for name in node.input}
        renamed = {half: name for name, half in self.half_constants.items() if name not in read}
        for name, half in self.half_constants.items():
            values = numpy_helper.to_array(self.constants[name])
            tensor = self.kind.to_tensor(values, renamed.get(half, half))
            if half in renamed:
                self.constants[name].CopyFrom(tensor)
            else:
                graph.initializer.append(tensor)
        for node in graph.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]
