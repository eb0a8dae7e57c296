"""Which tensors are watched, and for which others each record speaks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from googlenet_deploy.calibration.placement import place
from googlenet_deploy.calibration.watched_tensors import Observation, is_fused, plan_observations, watched_tensors
from googlenet_deploy.graph.graph import GraphView

Mini = Callable[..., onnx.ModelProto]


def observed(model: onnx.ModelProto, *, every_tensor: bool = True) -> list[Observation]:
    graph = GraphView(model)
    return plan_observations(graph, place(graph), every_tensor=every_tensor)


def test_the_plans_tensors_alone(mini: Mini) -> None:
    records = observed(mini(), every_tensor=False)
    assert [record.members for record in records] == [group.members for group in place(GraphView(mini())).groups]


def test_every_activation_once_but_none_that_only_lives_inside_a_layer(mini: Mini) -> None:
    graph = GraphView(mini())
    members = [name for record in observed(mini()) for name in record.members]
    assert len(members) == len(set(members))
    fused = {name for name in graph.activations() if is_fused(graph, name)}
    assert fused == {node.output[0] for node in graph.nodes if node.op_type == "Conv"}
    assert set(members) == set(graph.activations()) - fused


def test_pools_and_shapes_share_their_inputs_record(mini: Mini) -> None:
    records = {record.members[0]: record.members for record in observed(mini())}
    assert records["conv1"] == ("conv1", "maxpool1")
    assert records["maxpool2"] == ("maxpool2", "inception3a/branch4/0")
    assert records["norm2"] == ("norm2",), "the pair behind its pool is a record of its own"
    assert records["average_pool"] == ("average_pool",)
    assert records["flatten"] == ("flatten",)


def test_a_concat_is_counted_through_its_inputs(mini: Mini) -> None:
    records = {record.members[0]: record for record in observed(mini())}
    branches = tuple(f"inception3a/{name}" for name in ("branch1", "branch2/1", "branch3/1", "branch4/1"))
    assert records["inception3a"].sources == branches
    watched = watched_tensors(list(records.values()))
    assert "inception3a" not in watched
    assert len(watched) == len(set(watched))


def test_a_concat_whose_inputs_are_not_recorded_is_watched_itself(mini: Mini) -> None:
    records = {record.members[0]: record for record in observed(mini(), every_tensor=False)}
    assert records["inception3a"].sources == ("inception3a",)


def test_integers_are_not_recorded(net: Callable) -> None:
    graph = net()
    top = graph.add("GlobalAveragePool", [graph.conv("input", "conv1", 4)], "pooled")
    graph.constant("zero", np.array([0], np.int64))
    graph.constant("minus", np.array([-1], np.int64))
    size = graph.add("Gather", [graph.add("Shape", [top], "shape"), "zero"], "size", axis=0)
    flat = graph.add("Reshape", [top, graph.add("Concat", [size, "minus"], "wanted", axis=0)], "flat")
    graph.constant("w", np.ones((6, 4), np.float32))
    graph.add("Gemm", [flat, "w"], "logits", transB=1)
    members = {name for record in observed(graph.model()) for name in record.members}
    assert members == {"input", "conv1", "pooled", "flat", "logits"}
