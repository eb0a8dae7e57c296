"""The lint's rules for pair placement: what TensorRT builds, but runs slowly or inaccurately."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from googlenet_deploy.calibration.placement import ACTIVATIONS, output_axis
from googlenet_deploy.errors import requires
from googlenet_deploy.graph.graph import AVERAGE_POOLS, GraphView, feeds_lrn
from googlenet_deploy.quantization.findings import ERROR, WARNING, Finding

with requires("export"):
    import onnx

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from googlenet_deploy.quantization.qdq_pairs import Pair

LAYERS = frozenset({"Conv", "Gemm", "ConvTranspose", "MatMul"})


def check_layers(graph: GraphView, pairs: Iterable[Pair]) -> Iterator[Finding]:
    """The findings, rule by rule."""
    listed = list(pairs)
    by_output = {pair.output: pair for pair in listed}
    by_source: dict[str, list[Pair]] = defaultdict(list)
    for pair in listed:
        by_source[pair.source].append(pair)
    for node in graph.nodes:
        if node.domain in ("", "ai.onnx"):  # an operator of another domain may share a name, not its inputs
            yield from _check_node(graph, node, by_output, by_source)
    for source, several in by_source.items():
        if len(several) > 1 and not several[0].is_weight:
            yield Finding(
                WARNING,
                "double-pair",
                several[1].name,
                f"{source!r} has {len(several)} pairs: one, shared by all that read it, is enough",
                repairable=all(pair.is_int8 and pair.equal_scale(several[0]) for pair in several),
            )


def _check_node(
    graph: GraphView, node: onnx.NodeProto, by_output: Mapping[str, Pair], by_source: Mapping[str, list[Pair]]
) -> Iterator[Finding]:
    name = graph.name_of(node)
    if node.op_type in LAYERS:
        yield from _check_layer(graph, node, name, by_output)
    elif node.input and node.input[0] in by_output and is_ahead_of_lrn(graph, node):
        yield Finding(
            WARNING,
            "lrn",
            by_output[node.input[0]].name,
            f"quantises what LRN reads ({node.op_type} {name}): LRN has no INT8 form, its small differences are lost",
            repairable=by_output[node.input[0]].is_int8,
        )
    elif node.op_type in ACTIVATIONS and node.input[0] in by_output:
        yield from _check_activation(graph, name, by_output[node.input[0]])
    elif node.op_type in AVERAGE_POOLS | {"MaxPool"}:
        yield from _check_pool(graph, node, name, by_output, by_source)
    elif node.op_type == "Concat":
        yield from _check_concat(node, name, by_output, by_source)
    elif node.op_type not in ("Reshape", "Transpose"):
        yield from _check_constants(graph, node, by_output)


def is_ahead_of_lrn(graph: GraphView, node: onnx.NodeProto) -> bool:
    """Whether a node is an LRN, or passes its input's values on to one."""
    return node.op_type == "LRN" or (node.op_type == "MaxPool" and feeds_lrn(graph, node.output[0]))


def _check_layer(graph: GraphView, node: onnx.NodeProto, name: str, by_output: Mapping[str, Pair]) -> Iterator[Finding]:
    if len(node.input) < 2:
        return  # not a valid layer: the checker reports it
    data, weight = by_output.get(node.input[0]), by_output.get(node.input[1])
    if (data is None) != (weight is None):
        lacking = "input is" if data is None else "weights are"
        yield Finding(
            WARNING, "one-sided", name, f"its {lacking} not quantised, so that TensorRT runs {node.op_type} in float"
        )
    if weight is None or weight.scale is None or weight.scale.size == 1 or not weight.is_weight:
        return
    rank = graph.constant(weight.source).ndim
    wanted = rank - 1 if node.op_type == "MatMul" else output_axis(node)
    if rank and weight.axis % rank != wanted:
        yield Finding(
            ERROR,
            "weight-axis",
            weight.name,
            f"quantises weights along axis {weight.axis}; TensorRT requires the output channels, axis {wanted}",
        )


def _check_activation(graph: GraphView, name: str, pair: Pair) -> Iterator[Finding]:
    maker = graph.producers.get(pair.source)
    if maker is not None and maker.op_type in LAYERS:
        yield Finding(
            WARNING,
            "before-activation",
            pair.name,
            f"is between {graph.name_of(maker)} and its activation {name}: the two no longer fuse",
            repairable=pair.is_int8,
        )


def _check_pool(
    graph: GraphView,
    node: onnx.NodeProto,
    name: str,
    by_output: Mapping[str, Pair],
    by_source: Mapping[str, list[Pair]],
) -> Iterator[Finding]:
    before, behind = by_output.get(node.input[0]), _behind(graph, node.output[0], by_source)
    if node.op_type == "MaxPool":
        if before is not None and behind is not None and not before.equal_scale(behind):
            yield Finding(
                WARNING,
                "maxpool-scale",
                behind.name,
                f"has another scale than the pair in front of {name}: MaxPool keeps values, so TensorRT must rescale",
                repairable=before.is_int8 and behind.is_int8,
            )
    elif (before is None) != (behind is None):
        side = "after" if before is None else "before"
        yield Finding(
            WARNING, "averagepool", name, f"has a pair {side} it alone: it runs in INT8 only with one on both sides"
        )


def _behind(graph: GraphView, name: str, by_source: Mapping[str, list[Pair]]) -> Pair | None:
    """The pair of a tensor, also if it comes after an operator that only changes the shape."""
    if by_source.get(name):
        return by_source[name][0]
    readers = graph.readers(name)
    if len(readers) == 1 and readers[0].op_type in ("Flatten", "Reshape", "Squeeze"):
        return _behind(graph, readers[0].output[0], by_source)
    return None


def _check_concat(
    node: onnx.NodeProto, name: str, by_output: Mapping[str, Pair], by_source: Mapping[str, list[Pair]]
) -> Iterator[Finding]:
    around = [by_output[tensor] for tensor in node.input if tensor in by_output] + list(
        by_source.get(node.output[0], ())
    )
    joined = [pair for pair in around if pair.output in node.input]
    if joined and not all(pair.equal_scale(around[0]) for pair in around[1:]):
        yield Finding(
            WARNING,
            "concat-scales",
            name,
            "joins tensors of several scales: TensorRT rescales them, and the DLA requires one for inputs and output",
            repairable=True,
        )


def _check_constants(graph: GraphView, node: onnx.NodeProto, by_output: Mapping[str, Pair]) -> Iterator[Finding]:
    for name in node.input:
        pair = by_output.get(name)
        if pair is not None and pair.is_weight:
            yield Finding(
                WARNING,
                "quantised-parameter",
                pair.name,
                f"quantises a constant of {node.op_type} ({graph.name_of(node)}), which gains nothing",
                repairable=pair.is_int8,
            )
