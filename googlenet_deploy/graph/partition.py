"""Divides a graph at tensors that everything passes through, so that the part after one can be run by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from googlenet_deploy.errors import requires
from googlenet_deploy.graph.graph import AVERAGE_POOLS, SHAPE_OPERATORS

with requires("export"):
    import onnx

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from googlenet_deploy.graph.graph import GraphView


@dataclass(frozen=True)
class Section:
    """The part of a graph from one such tensor to the next.

    Attributes:
        tensor: The tensor that it reads: the only one that the sections before it pass on.
        start: Position of its first node.
        stop: Position after its last node.
    """

    tensor: str
    start: int
    stop: int


def find_sections(graph: GraphView, layers: Container[str]) -> list[Section]:
    """The sections in graph order; the first reads the network's input, the last makes its output.

    Each but the first holds one of `layers`. An average pool is kept in one section with what comes before it: it is
    quantised on both sides or on neither.
    """
    cuts = [(0, graph.inputs[0]), *_cuts(graph)]
    ends = [start for start, _ in cuts[1:]] + [len(graph.nodes)]
    holding = [
        cut
        for cut, end in zip(cuts, ends, strict=True)
        if cut[0] == 0 or any(graph.name_of(node) in layers for node in graph.nodes[cut[0] : end])
    ]
    ends = [start for start, _ in holding[1:]] + [len(graph.nodes)]
    return [Section(tensor, start, stop) for (start, tensor), stop in zip(holding, ends, strict=True)]


def _cuts(graph: GraphView) -> Iterator[tuple[int, str]]:
    """Positions before which only a single tensor is live, and that tensor."""
    live = {graph.inputs[0]}
    last_use = {name: index for index, node in enumerate(graph.nodes) for name in node.input}
    for name in graph.outputs:
        last_use[name] = len(graph.nodes)
    activations = set(graph.activations())
    for index, node in enumerate(graph.nodes[:-1]):
        live |= {name for name in node.output if name in activations and last_use.get(name, -1) > index}
        live -= {name for name in live if last_use[name] <= index}
        if len(live) == 1 and _is_good_cut(graph, next(iter(live))):
            yield index + 1, next(iter(live))


def _is_good_cut(graph: GraphView, name: str) -> bool:
    if not graph.is_float(name) or name in graph.outputs or _is_averaged(graph, name):
        return False
    return not any(node.op_type in AVERAGE_POOLS for node in graph.readers(name))


def _is_averaged(graph: GraphView, name: str) -> bool:
    """Whether a tensor is the output of an average pool, possibly in another shape."""
    maker = graph.producers.get(name)
    if maker is None or maker.op_type not in SHAPE_OPERATORS:
        return maker is not None and maker.op_type in AVERAGE_POOLS
    return _is_averaged(graph, maker.input[0])


def part_of(graph: GraphView, section: Section, *, to_end: bool, output: str) -> onnx.ModelProto:
    """A model of a section, or of it and everything after it.

    Args:
        graph: The whole model.
        section: Where it begins.
        to_end: Continue to the model's end.
        output: The tensor that the part makes.
    """
    stop = len(graph.nodes) if to_end else section.stop
    constants = [node for node in graph.nodes if node.op_type == "Constant"]
    inside = [node for node in graph.nodes[section.start : stop] if node.op_type != "Constant"]
    read = {name for node in inside for name in node.input}
    model = graph.model
    part = onnx.helper.make_graph(
        [*constants, *inside],
        model.graph.name,
        [value_of(graph, section.tensor)],
        [value_of(graph, output)],
        [tensor for tensor in model.graph.initializer if tensor.name in read],
    )
    return onnx.helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)


def value_of(graph: GraphView, name: str) -> onnx.ValueInfoProto:
    """A tensor's own description if the model has one; else only its name and type."""
    listed = (*graph.model.graph.input, *graph.model.graph.output, *graph.model.graph.value_info)
    known = next((value for value in listed if value.name == name), None)
    kind = graph.element_type(name) or onnx.TensorProto.FLOAT
    return known or onnx.helper.make_tensor_value_info(name, kind, None)
