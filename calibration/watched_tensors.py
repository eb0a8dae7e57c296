"""Which tensors are watched, and which others hold the same values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from googlenet_deploy.calibration.placement import ACTIVATIONS, QuantizationPlan
from googlenet_deploy.graph.graph import SHAPE_OPERATORS, GraphView

if TYPE_CHECKING:
    from collections.abc import Mapping

SELECTING = frozenset({"MaxPool"}) | SHAPE_OPERATORS


@dataclass(frozen=True)
class Observation:
    """One record of the future table.

    Attributes:
        members: The tensors that the record describes, the leading one first.
        sources: The tensors whose values make up the record: the leading tensor itself, or, for a Concat, the
            tensors that it joins, so that no value is counted twice.
    """

    members: tuple[str, ...]
    sources: tuple[str, ...]


def plan_observations(graph: GraphView, plan: QuantizationPlan, *, every_tensor: bool = True) -> list[Observation]:
    """The records that a calibration makes.

    Args:
        graph: The FP32 model.
        plan: The groups of one scale; each becomes a record.
        every_tensor: Also record the other activations, which TensorRT's own cache and its accelerator need.
            A tensor in front of an activation function is left out: TensorRT fuses the two.

    Returns:
        In graph order. A MaxPool's output outside the plan belongs to its input's record.
    """
    members: dict[str, list[str]] = {group.observed[0]: list(group.members) for group in plan.groups}
    if every_tensor:
        _add_others(graph, members)
    order = {name: index for index, name in enumerate(graph.activations())}
    leaders = sorted(members, key=order.__getitem__)
    known = {name: leader for leader in leaders for name in members[leader]}
    return [Observation(tuple(members[leader]), _sources(graph, leader, known)) for leader in leaders]


def watched_tensors(observations: list[Observation]) -> list[str]:
    """The tensors that the session must output, each once, in the order of the records."""
    return list(dict.fromkeys(name for observation in observations for name in observation.sources))


def _add_others(graph: GraphView, members: dict[str, list[str]]) -> None:
    recorded = {name: leader for leader, names in members.items() for name in names}
    for name in graph.activations():
        if name in recorded or not graph.is_float(name) or is_fused(graph, name):
            continue
        maker = graph.producers.get(name)
        leader = name
        if maker is not None and maker.op_type in SELECTING:
            leader = recorded.get(maker.input[0], name)
        members.setdefault(leader, []).append(name)
        recorded[name] = leader


def is_fused(graph: GraphView, name: str) -> bool:
    """Whether a tensor only exists inside a layer that TensorRT fuses: between a convolution and its activation."""
    readers = graph.readers(name)
    return bool(readers) and name not in graph.outputs and all(node.op_type in ACTIVATIONS for node in readers)


def _sources(graph: GraphView, leader: str, known: Mapping[str, str]) -> tuple[str, ...]:
    maker = graph.producers.get(leader)
    if maker is None or maker.op_type != "Concat":
        return (leader,)
    joined = list(maker.input)
    if not all(known.get(name) == name for name in joined):
        return (leader,)
    return tuple(source for name in joined for source in _sources(graph, name, known))
