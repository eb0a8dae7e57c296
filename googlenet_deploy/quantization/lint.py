"""Finds what TensorRT would refuse, or run slowly or inaccurately, in any Q/DQ model, whichever tool wrote it.

The rules are NVIDIA's ("Working with Quantized Types" in the TensorRT documentation, and the ONNX parser's operator
list). Error: a TensorRT version that builds INT8 engines for Jetsons (8.0 to 10) refuses the model. Warning: the engine
is built, but layers fall back to float, or accuracy is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from googlenet_deploy.errors import BadModelError, requires
from googlenet_deploy.graph.graph import DEFAULT_DOMAINS, GraphView, attribute, known_shapes
from googlenet_deploy.quantization.expand_qoperators import VALUE_KEEPING, form_of
from googlenet_deploy.quantization.findings import ERROR, WARNING, Finding
from googlenet_deploy.quantization.lint_placement import check_layers
from googlenet_deploy.quantization.qdq_pairs import (
    DEQUANTIZE,
    QUANTIZE,
    find_pairs,
    is_int8,
    quantised_type,
    zero_point,
)
from googlenet_deploy.quantization.qdq_scales import has_dead_channels, scale_fault

with requires("export"):
    import onnx
    from onnx import TensorProto

INTEGER_OPERATORS = frozenset(
    {
        "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear",
        "QGemm", "QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearAveragePool", "QLinearGlobalAveragePool",
        "QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax", "QLinearReduceMean", "QLinearWhere",
        "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulIntegerToFloat", "QAttention",
    }
)  # fmt: skip
MICROSOFT = "com.microsoft"
SMALLEST_OPSET, PER_AXIS_OPSET = 10, 13
SCALE = "scale"  # the rule whose findings make a model meaningless


def lint_model(model: onnx.ModelProto) -> list[Finding]:
    """All findings for a quantised model, errors first, without duplicates; empty without quantisation."""
    graph = GraphView(model)
    found: list[Finding] = []
    for rule in _RULES:
        found.extend(rule(graph))
    found.extend(check_layers(graph, find_pairs(graph)))
    return sorted(dict.fromkeys(found), key=lambda finding: finding.severity != ERROR)


def check_structure(model: onnx.ModelProto, path: str) -> None:
    """Refuses models that the rules cannot be applied to.

    Raises:
        BadModelError: A node or a constant is not as ONNX defines it.
    """
    try:
        onnx.checker.check_model(model)
        for name in (graph := GraphView(model)).initializers:
            graph.constant(name)
    except (onnx.checker.ValidationError, ValueError, TypeError) as error:
        problem = " ".join(str(error).split())[:200]
        raise BadModelError(path, f"is damaged: {problem}", "export it again, or check the download") from error


def has_quantisation(model: onnx.ModelProto) -> bool:
    """Whether the model holds any quantisation operator."""
    return GraphView(model).first_of(INTEGER_OPERATORS | {QUANTIZE, DEQUANTIZE}) is not None


def _operators(graph: GraphView) -> Iterator[Finding]:
    own = {*DEFAULT_DOMAINS, *(function.domain for function in graph.model.functions)}
    for node in graph.nodes:
        if node.op_type in INTEGER_OPERATORS:
            yield Finding(
                ERROR,
                "integer-operator",
                graph.name_of(node),
                f"{node.op_type} has no form in TensorRT: it requires QuantizeLinear and DequantizeLinear around "
                f"float operators{'' if (form := form_of(graph, node)) else '; quantise the FP32 model again'}",
                repairable=form is not None,
            )
        elif node.op_type in (QUANTIZE, DEQUANTIZE) and node.domain == MICROSOFT:
            yield Finding(
                ERROR,
                "domain",
                graph.name_of(node),
                f"{node.op_type} of the domain {MICROSOFT} is not ONNX's: TensorRT does not know it",
                repairable=is_int8(graph, node),
            )
        elif node.domain not in own:
            yield Finding(
                ERROR,
                "foreign-domain",
                graph.name_of(node),
                f"{node.op_type} of the domain {node.domain} is not ONNX's: TensorRT does not know it; take the model "
                "as it was before ONNX Runtime or another tool fused it",
            )


def _support(kind: int) -> str:
    if kind in (TensorProto.INT4, TensorProto.FLOAT8E4M3FN):
        return "TensorRT has it from 10 on alone, and not in a Jetson's INT8 engines"
    return "no TensorRT accepts it"


def _types(graph: GraphView) -> Iterator[Finding]:
    for node in _qdq_nodes(graph):
        kind = quantised_type(graph, node)
        if kind is not None and kind not in (TensorProto.INT8, TensorProto.UINT8):
            yield Finding(
                ERROR,
                "not-int8",
                graph.name_of(node),
                f"quantises to {TensorProto.DataType.Name(kind).lower()}, which is not INT8: {_support(kind)}",
            )


def _zero_points(graph: GraphView) -> Iterator[Finding]:
    for node in _qdq_nodes(graph):
        values = zero_point(graph, node)
        if values is None:
            yield Finding(ERROR, "zero-point", graph.name_of(node), "its zero point is computed, not a constant")
        elif not is_int8(graph, node):
            continue
        elif values.dtype == np.uint8:
            what = "at 128: int8 in all but name" if (values == 128).all() else "TensorRT has signed INT8 alone"
            yield Finding(ERROR, "unsigned", graph.name_of(node), f"quantises to uint8, {what}", repairable=True)
        elif values.dtype == np.int8 and values.any():
            yield Finding(
                ERROR,
                "zero-point",
                graph.name_of(node),
                f"has the zero point {int(values.flat[0])}: TensorRT supports only symmetric quantisation, with 0",
                repairable=True,
            )


def _integer_biases(graph: GraphView) -> Iterator[Finding]:
    for node in graph.nodes:
        if node.op_type == DEQUANTIZE and _constant_type(graph, node.input[0]) == TensorProto.INT32:
            yield Finding(
                ERROR,
                "int32-bias",
                graph.name_of(node),
                "dequantises an INT32 constant (a bias): TensorRT dequantises INT8 alone and requires float biases",
                repairable=True,
            )


def _quantised_constants(graph: GraphView) -> Iterator[Finding]:
    parameters = {name for node in _qdq_nodes(graph) for name in node.input[1:]}
    for node in graph.nodes:
        if node.op_type == DEQUANTIZE or node.op_type in INTEGER_OPERATORS:
            continue
        for name in node.input:
            if name not in parameters and _constant_type(graph, name) in (TensorProto.INT8, TensorProto.UINT8):
                yield Finding(
                    ERROR,
                    "quantised-constant",
                    graph.name_of(node),
                    f"reads the quantised constant {name!r}: TensorRT lets only DequantizeLinear read one",
                )


def _integer_tensors(graph: GraphView) -> Iterator[Finding]:
    for node in graph.nodes:
        if node.op_type != QUANTIZE:
            continue
        for reader in graph.readers(node.output[0]):
            if reader.op_type != DEQUANTIZE:
                yield Finding(
                    ERROR,
                    "lone-quantize",
                    graph.name_of(node),
                    f"{reader.op_type} ({graph.name_of(reader)}) reads its integers: TensorRT requires "
                    "DequantizeLinear after every QuantizeLinear",
                    repairable=reader.op_type in VALUE_KEEPING or form_of(graph, reader) is not None,
                )
        if node.output[0] in graph.outputs:
            yield Finding(WARNING, "quantised-output", graph.name_of(node), "the model's output is INT8")


def _scales(graph: GraphView) -> Iterator[Finding]:
    shapes = known_shapes(graph.model)
    for node in _qdq_nodes(graph):
        if not graph.is_constant(node.input[1]):
            yield Finding(ERROR, SCALE, graph.name_of(node), "its scale is computed, not a constant")
            continue
        values = graph.constant(node.input[1])
        if values.dtype != np.float32:
            yield Finding(
                ERROR,
                "scale-type",
                graph.name_of(node),
                f"its scale is {values.dtype}: TensorRT before 10 requires float32",
            )
        fault = scale_fault(graph, node, shapes)
        if fault:
            dead = bool((values == 0).any()) and has_dead_channels(graph, node)
            value = "" if np.isfinite(values).all() and (values > 0).all() else ", not a positive number"
            text = f"its scale {fault}{value}{', where all weights are 0' if dead else ''}"
            yield Finding(ERROR, SCALE, graph.name_of(node), text, repairable=dead)


def _versions(graph: GraphView) -> Iterator[Finding]:
    opset = max((entry.version for entry in graph.model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    for node in _qdq_nodes(graph):
        if node.domain == MICROSOFT:
            continue
        if attribute(node, "block_size", 0):
            yield Finding(
                ERROR, "block-size", graph.name_of(node), "quantises in blocks: TensorRT has that for INT4 alone"
            )
        if opset < PER_AXIS_OPSET and graph.is_constant(node.input[1]) and graph.constant(node.input[1]).size > 1:
            yield Finding(
                ERROR,
                "opset",
                graph.name_of(node),
                f"quantises per channel in opset {opset}, which has that from 13 on",
            )


def _activation_channels(graph: GraphView) -> Iterator[Finding]:
    for pair in find_pairs(graph):
        if not pair.is_weight and pair.scale is not None and pair.scale.size > 1:
            yield Finding(
                ERROR,
                "activation-per-channel",
                pair.name,
                "quantises an activation per channel: TensorRT does that for weights alone",
                repairable=True,
            )


def _qdq_nodes(graph: GraphView) -> Iterator[onnx.NodeProto]:
    """Q/DQ nodes except those of INT32 biases, which have a rule of their own."""
    for node in graph.nodes:
        if node.op_type in (QUANTIZE, DEQUANTIZE) and _constant_type(graph, node.input[0]) != TensorProto.INT32:
            yield node


def _constant_type(graph: GraphView, name: str) -> int | None:
    return int(graph.initializers[name].data_type) if graph.is_constant(name) else None


_RULES: tuple[Callable[[GraphView], Iterator[Finding]], ...] = (
    _operators,
    _types,
    _zero_points,
    _integer_biases,
    _quantised_constants,
    _integer_tensors,
    _scales,
    _versions,
    _activation_channels,
)
