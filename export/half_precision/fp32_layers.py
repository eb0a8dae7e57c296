"""Which layers stay FP32 in a 16-bit model, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from googlenet_deploy.errors import UsageError, requires
from googlenet_deploy.export.half_precision.ranges import LayerRange
from googlenet_deploy.export.half_precision.types import HalfType
from googlenet_deploy.graph.graph import DEFAULT_DOMAINS, GraphView, element_types, opset_of

with requires("export"):
    import numpy as np
    import numpy.typing as npt
    from onnx import ModelProto, NodeProto, TensorProto, defs, numpy_helper

# Values measured on a few images may be this many times larger on others.
HEADROOM = 4.0
# A rounded scale may move the largest INT8 code, 127, by a quarter of a step.
SCALE_ERROR = 0.25 / 127
_QUANTIZATION = ("QuantizeLinear", "DequantizeLinear")
_WITH_BIAS = ("Conv", "ConvTranspose", "Gemm", "BatchNormalization", "InstanceNormalization")
# Sums of exponentials; computing a thousand of them in 16 bits gains nothing.
_ALWAYS_FP32 = ("Softmax", "LogSoftmax")


def choose_fp32(
    model: ModelProto, kind: HalfType, ranges: Sequence[LayerRange], keep: Collection[str]
) -> dict[str, str]:
    """The nodes that stay FP32.

    Args:
        model: With the types of its tensors stated.
        kind: The 16-bit type.
        ranges: What `measure_ranges` found.
        keep: Nodes or operators that the user wants in FP32.

    Returns:
        The reason by node name, in the graph's order.

    Raises:
        UsageError: `keep` names something that the model does not have.
    """
    return _Choice(model, kind, ranges, keep).run()


class _Choice:
    def __init__(self, model: ModelProto, kind: HalfType, ranges: Sequence[LayerRange], keep: Collection[str]) -> None:
        self.model, self.kind, self.keep = model, kind, frozenset(keep)
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.ranges = {entry.name: entry for entry in ranges}
        self.graph = GraphView(model)
        self.opset = opset_of(model)
        self.types = element_types(model)
        unknown = self.keep - {node.name for node in self.nodes} - {node.op_type for node in self.nodes}
        if unknown:
            raise UsageError(f"there is no layer or operator {min(unknown)!r} to keep in FP32")

    def run(self) -> dict[str, str]:
        """See `choose_fp32`."""
        rules: tuple[Callable[[NodeProto], str], ...] = (self._asked, self._schema, self._generator, self._operator)
        rules += (self._range, self._weights, self._scale)
        reasons = {}
        for node in self.nodes:
            reason = next(filter(None, (rule(node) for rule in rules)), "")
            if reason:
                reasons[node.name] = reason
        self._spread_over_pairs(reasons)
        self._quantize_as_it_comes(reasons)
        return {node.name: reasons[node.name] for node in self.nodes if node.name in reasons}

    def _asked(self, node: NodeProto) -> str:
        return "as asked" if node.name in self.keep or node.op_type in self.keep else ""

    def _schema(self, node: NodeProto) -> str:
        floats = any(self.types.get(name) == TensorProto.FLOAT for name in [*node.input, *node.output])
        if not floats or takes_type(node, self.opset, self.types, self.kind.schema_type):
            return ""
        return f"ONNX has no {self.kind.label} {node.op_type} in opset {self.opset}"

    def _operator(self, node: NodeProto) -> str:
        return f"{node.op_type} sums exponentials" if node.op_type in _ALWAYS_FP32 else ""

    def _generator(self, node: NodeProto) -> str:
        reads = any(self.types.get(name) == TensorProto.FLOAT for name in node.input)
        makes = any(self.types.get(name) == TensorProto.FLOAT for name in node.output)
        return f"{node.op_type} states its own type" if makes and not reads and node.op_type != "Cast" else ""

    def _range(self, node: NodeProto) -> str:
        found = self.ranges.get(node.name)
        if found is None:
            return ""
        if 0 < found.output < self.kind.least and node.op_type not in _QUANTIZATION:
            return f"values of {found.output:.3g} at most, which {self.kind.label} rounds to 0 or nearly so"
        if found.largest * HEADROOM <= self.kind.largest:
            return ""
        what = f"sums up to {found.inside:.3g}" if found.inside > found.output else f"values up to {found.output:.3g}"
        return f"{what}, and {self.kind.label} ends at {self.kind.largest:.5g}"

    def _weights(self, node: NodeProto) -> str:
        if node.op_type in _QUANTIZATION:
            return ""
        sizes = [_largest(array) for array in self._constants(node)]
        if not max(sizes, default=0.0) <= self.kind.largest:
            return f"weights up to {max(sizes):.3g}"
        if node.op_type in _WITH_BIAS:  # a bias that is negligible compared to the sums may be lost
            sizes = sizes[:1]
        lost = [size for size in sizes if 0 < size < self.kind.least]
        return f"its constant of {lost[0]:.3g} is too small for {self.kind.label}" if lost else ""

    def _scale(self, node: NodeProto) -> str:
        """The reason if 16 bits hold a scale badly (FP16 has few digits below 6e-5), which would move every code."""
        if node.op_type not in _QUANTIZATION:
            return ""
        scales = [array for array in self._constants(node) if _misfit(array, self.kind)]
        return f"its scale of {float(np.abs(scales[0]).min()):.2g} is too small for {self.kind.label}" if scales else ""

    def _constants(self, node: NodeProto) -> Iterable[npt.NDArray[np.float32]]:
        for name in node.input:
            tensor = self.graph.initializers.get(name)
            if tensor is not None and tensor.data_type == TensorProto.FLOAT:
                yield numpy_helper.to_array(tensor)

    def _spread_over_pairs(self, reasons: dict[str, str]) -> None:
        """A layer and the DequantizeLinear before it need the same type, or TensorRT would not fuse them into INT8."""
        changed = True
        while changed:
            changed = False
            for node in self.nodes:
                for name in node.input:
                    maker = self.graph.producers.get(name)
                    if maker is None or maker.op_type != "DequantizeLinear":
                        continue
                    ends = (maker, node)
                    known = next((reasons[end.name] for end in ends if end.name in reasons), None)
                    if known is not None and not all(end.name in reasons for end in ends):
                        reasons.update({end.name: known for end in ends if end.name not in reasons})
                        changed = True

    def _quantize_as_it_comes(self, reasons: dict[str, str]) -> None:
        """Keeps a QuantizeLinear of float32 values in FP32, to avoid a detour through 16 bits."""
        for node in self.nodes:
            if node.op_type == "QuantizeLinear" and node.name not in reasons:
                maker = self.graph.producers.get(node.input[0])
                if maker is None or maker.name in reasons:
                    reasons[node.name] = "what it quantises is FP32"


def takes_type(node: NodeProto, opset: int, types: dict[str, int], wanted: str) -> bool:
    """Whether a node's operator allows another type wherever it now has float32."""
    if node.domain not in DEFAULT_DOMAINS:
        return False
    try:
        schema = defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        return False
    for names, formals in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for position, name in enumerate(names):
            # A variadic last parameter also covers all that follow.
            formal = formals[min(position, len(formals) - 1)]
            if types.get(name) == TensorProto.FLOAT and wanted not in formal.types:
                return False
    return True


def _largest(array: npt.NDArray[np.float32]) -> float:
    return float(np.abs(array).max()) if array.size else 0.0


def _misfit(scale: npt.NDArray[np.float32], kind: HalfType) -> bool:
    error = np.abs(kind.rounded(scale).astype(np.float64) - scale)
    return bool((error > SCALE_ERROR * np.abs(scale)).any())
