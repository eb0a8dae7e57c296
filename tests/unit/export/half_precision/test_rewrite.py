from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from googlenet_deploy.errors import VerificationError
from googlenet_deploy.export.half_precision.rewrite import HalfPrecision
from googlenet_deploy.export.half_precision.types import BF16, FP16, HalfType
from googlenet_deploy.graph.graph import GraphView, element_types, operator_counts
from googlenet_deploy.graph.pass_manager import check_model
from googlenet_deploy.graph.shapes import restate_shapes


def convert(model: Any, *fp32: str, kind: HalfType = FP16) -> dict[str, int]:
    restate_shapes(model)
    assert HalfPrecision(kind, fp32).run(model)
    restate_shapes(model)
    check_model(model)
    return element_types(model)


@pytest.mark.parametrize("kind", [FP16, BF16], ids=lambda kind: kind.name)
def test_weights_and_activations_but_not_inputs_and_outputs(tiny_classifier: Any, kind: HalfType) -> None:
    model = tiny_classifier(opset=22)
    model.ir_version = 10
    before = {node.name for node in model.graph.node}
    types = convert(model, kind=kind)
    assert {types[name] for name in ("c", "r", "p", "f", "w", "b", "fw", "fb")} == {kind.code}
    assert (types["input"], types["logits"]) == (TensorProto.FLOAT, TensorProto.FLOAT)
    assert before < {node.name for node in model.graph.node}
    assert operator_counts(model.graph)["Cast"] == 2


def test_one_cast_for_all_readers(model_of: Any) -> None:
    nodes = [
        helper.make_node("Relu", ["input"], ["a"], "first"),
        helper.make_node("Neg", ["a"], ["b"], "kept"),
        helper.make_node("Abs", ["a"], ["c"], "kept2"),
        helper.make_node("Add", ["b", "c"], ["d"], "kept3"),
        helper.make_node("Relu", ["d"], ["e"], "half"),
        helper.make_node("Neg", ["d"], ["f"], "half2"),
        helper.make_node("Add", ["e", "f"], ["out"], "half3"),
    ]
    image = ("input", TensorProto.FLOAT, ["batch", 1, 2, 2])
    model = model_of(nodes, [image], [("out", TensorProto.FLOAT, ["batch", 1, 2, 2])])
    types = convert(model, "kept", "kept2", "kept3")
    casts = [(node.input[0], types[node.output[0]]) for node in model.graph.node if node.op_type == "Cast"]
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    assert casts == [("input", half), ("a", single), ("d", half), ("out/fp16", single)]


def test_a_constant_that_both_types_read_is_there_twice(model_of: Any) -> None:
    nodes = [
        helper.make_node("Add", ["input", "k"], ["a"], "half"),
        helper.make_node("Add", ["a", "k"], ["out"], "single"),
    ]
    image = ("input", TensorProto.FLOAT, ["batch", 1, 2, 2])
    model = model_of(
        nodes, [image], [("out", TensorProto.FLOAT, ["batch", 1, 2, 2])], {"k": np.ones((2, 2), np.float32)}
    )
    types = convert(model, "single")
    assert (types["k"], types["k/fp16"]) == (TensorProto.FLOAT, TensorProto.FLOAT16)


def test_an_output_that_the_graph_reads_too(model_of: Any) -> None:
    nodes = [
        helper.make_node("Relu", ["input"], ["mid"], "first"),
        helper.make_node("Neg", ["mid"], ["out"], "second"),
    ]
    shape = ["batch", 1, 2, 2]
    outputs = [("mid", TensorProto.FLOAT, shape), ("out", TensorProto.FLOAT, shape)]
    model = model_of(nodes, [("input", TensorProto.FLOAT, shape)], outputs)
    types = convert(model)
    assert types["mid"] == types["out"] == TensorProto.FLOAT
    assert next(node for node in model.graph.node if node.name == "second").input[0] == "mid/fp16"


def test_pixels_become_fp16_at_once(model_of: Any) -> None:
    nodes = [
        helper.make_node("Cast", ["input"], ["x"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Relu", ["x"], ["out"], "relu"),
    ]
    shape = ["batch", 1, 2, 2]
    model = model_of(nodes, [("input", TensorProto.UINT8, shape)], [("out", TensorProto.FLOAT, shape)])
    types = convert(model)
    assert types["x"] == TensorProto.FLOAT16
    assert operator_counts(model.graph)["Cast"] == 2


def test_both_ends_of_a_pair_have_the_same_scale_whatever_their_types(model_of: Any) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dq"),
        helper.make_node("Relu", ["d"], ["out"], "relu"),
    ]
    shape = ["batch", 1, 2, 2]
    constants = {"s": np.float32(0.1), "z": np.int8(0)}
    image, out = ("input", TensorProto.FLOAT, shape), ("out", TensorProto.FLOAT, shape)
    model = model_of(nodes, [image], [out], constants, opset=19, ir_version=9)
    convert(model, "q")
    view = GraphView(model)
    quantize, dequantize = (next(n for n in model.graph.node if n.name == name) for name in ("q", "dq"))
    single, half = (view.constant(node.input[1]) for node in (quantize, dequantize))
    assert (single.dtype, half.dtype) == (np.float32, np.float16)
    assert single == half.astype(np.float32)
    assert single == np.float16(0.1)


def test_nothing_to_do_changes_nothing(tiny_classifier: Any) -> None:
    model = tiny_classifier()
    assert not HalfPrecision(FP16, [node.name for node in model.graph.node]).run(model)


def test_branches_are_refused(model_of: Any) -> None:
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Neg", ["input"], ["y"], "inner")], "branch", [], [value])
    node = helper.make_node("If", ["flag"], ["out"], "if", then_branch=branch, else_branch=branch)
    shape = ["batch", 1, 2, 2]
    flag = {"flag": np.array(True)}
    model = model_of([node], [("input", TensorProto.FLOAT, shape)], [("out", TensorProto.FLOAT, shape)], flag)
    with pytest.raises(VerificationError, match="branches or loops"):
        HalfPrecision(FP16, ()).run(model)
