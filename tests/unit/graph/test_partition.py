"""Where a graph can be divided, and that its parts compute what the whole does."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import onnx

from googlenet_deploy.graph.graph import GraphView
from googlenet_deploy.graph.partition import Section, find_sections, part_of
from googlenet_deploy.graph.session import TensorSession

LAYERS = frozenset({"Conv", "Gemm"})


def sections_of(model: onnx.ModelProto) -> list[Section]:
    graph = GraphView(model)
    return find_sections(graph, {graph.name_of(node) for node in graph.nodes if node.op_type in LAYERS})


def test_googlenet_is_divided_between_its_modules(mini: Callable) -> None:
    tensors = [section.tensor for section in sections_of(mini())]
    assert tensors == ["input", "norm1", "conv2", "maxpool2", "maxpool3"], "not inside a module, nor before an average"


def test_sections_cover_the_graph_in_order(mini: Callable) -> None:
    sections = sections_of(mini())
    assert sections[0].start == 0
    assert sections[-1].stop == len(mini().graph.node)
    assert all(one.stop == other.start for one, other in itertools.pairwise(sections))


def test_each_part_computes_what_the_whole_does(mini: Callable, pictures: Callable) -> None:
    for batch in ("batch", 3):
        model = mini(batch=batch)
        graph, sections = GraphView(model), sections_of(model)
        whole = TensorSession(model, [*(section.tensor for section in sections), "logits"]).run(pictures(3))
        for section, following in zip(sections, [*sections[1:], None], strict=True):
            ends = [("logits", True)] + ([(following.tensor, False)] if following else [])
            for output, to_end in ends:
                part = part_of(graph, section, to_end=to_end, output=output)
                onnx.checker.check_model(part)
                made = TensorSession(part).run(whole[section.tensor])[output]
                assert np.allclose(made, whole[output], rtol=1e-4, atol=1e-4)


def test_a_part_holds_only_its_own_constants(mini: Callable) -> None:
    graph = GraphView(mini())
    last = sections_of(mini())[-1]
    part = part_of(graph, last, to_end=True, output="logits")
    assert {tensor.name.split("/")[0].split(".")[0] for tensor in part.graph.initializer} == {"inception4a", "fc"}


def test_an_output_on_the_way_hinders_no_section(net: Callable) -> None:
    graph = net()
    top = graph.conv(graph.conv("input", "conv1", 4), "conv2", 4)
    graph.classifier(top)
    model = graph.model()
    model.graph.output.append(onnx.helper.make_tensor_value_info("conv1", 1, None))
    assert [section.tensor for section in sections_of(model)] == ["input", "conv1/conv"], "conv1 lives on beside conv2"


def test_constant_nodes_go_with_every_part(net: Callable, pictures: Callable) -> None:
    graph = net()
    value = onnx.numpy_helper.from_array(np.float32(2.0).reshape(()), "two")
    graph.nodes.append(onnx.helper.make_node("Constant", [], ["two"], "two", value=value))
    top = graph.conv("input", "conv1", 4)
    graph.channels["doubled"] = 4
    graph.classifier(graph.conv(graph.add("Mul", [top, "two"], "doubled"), "conv2", 4))
    model = graph.model()
    sections = sections_of(model)
    part = part_of(GraphView(model), sections[-1], to_end=True, output="logits")
    whole = TensorSession(model, [sections[-1].tensor, "logits"]).run(pictures(2))
    assert np.allclose(TensorSession(part).run(whole[sections[-1].tensor])["logits"], whole["logits"], atol=1e-5)
