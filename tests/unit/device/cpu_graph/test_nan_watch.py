"""NaN that a ReLU would hide is reported by OpenVINO's runner too; networks that cannot make any stay unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from googlenet_deploy.device.cpu_graph.nan_watch import watch_nan
from googlenet_deploy.errors import BadModelError

FLOAT = TensorProto.FLOAT
Step = tuple[str, list[str], str, dict[str, Any]]


def model(*steps: Step, in_nodes: bool = False, opset: int = 13) -> onnx.ModelProto:
    """x (N, 4, 2, 2) through some steps to y, and a ReLU and a mean after them; constants are named by their values."""
    names = {name for _, inputs, _, _ in steps for name in inputs if name[:1] in "-0123456789"}
    tensors = [numpy_helper.from_array(np.array(float(name), np.float32), name) for name in sorted(names)]
    constants = (
        [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in tensors] if in_nodes else []
    )
    nodes = [helper.make_node(operator, inputs, [output], **more) for operator, inputs, output, more in steps]
    tail = [
        helper.make_node("Relu", ["y"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["scores"]),
    ]
    graph = helper.make_graph(
        [*constants, *nodes, *tail],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 4, 2, 2])],
        [helper.make_tensor_value_info("scores", FLOAT, ["N", 4])],
        [] if in_nodes else tensors,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def step(operator: str, inputs: str, output: str = "y", **more: Any) -> Step:
    return operator, inputs.split(), output, more


MEAN = step("ReduceMean", "x", "m", axes=[1])
CENTRED = (MEAN, step("Sub", "x m", "d"))
NEVER = {
    "a layer norm": (
        *CENTRED, step("Pow", "d 2", "s"), step("ReduceMean", "s", "v", axes=[1]), step("Add", "v 1e-6", "e"),
        step("Sqrt", "e", "n"), step("Div", "d n"),
    ),
    "a layer norm by Mul": (
        *CENTRED, step("Mul", "d d", "s"), step("ReduceMean", "s", "v", axes=[1]), step("Add", "1e-6 v", "e"),
        step("Sqrt", "e", "n"), step("Div", "d n"),
    ),
    "a hard swish": (
        step("Add", "x 3", "a"), step("Clip", "a 0 6", "c"), step("Mul", "x c", "p"), step("Div", "p 6"),
    ),
    "a normalised embedding": (
        step("ReduceL2", "x", "n", axes=[1]), step("Max", "n 1e-12", "m"), step("Div", "x m"),
    ),
    "a cube": (step("Pow", "x 3"),),
    "the logarithm of a sigmoid": (step("Sigmoid", "x", "s"), step("Log", "s"),),
    "a softplus": (step("Exp", "x", "e"), step("Add", "e 1", "p"), step("Log", "p")),
}  # fmt: skip
SOMETIMES = {
    "a logarithm": (step("Log", "x"),),
    "a root": (step("Sqrt", "x"),),
    "a root of a difference": (step("Sub", "x 1", "d"), step("Sqrt", "d")),
    "a quotient": (step("Sub", "x x", "z"), step("Div", "z z")),
    "a mean over a count": (step("Relu", "x", "p"), step("ReduceSum", "p", "s"), step("Div", "p s")),
    "a power": (step("Pow", "x 0.5"),),
    "an arc cosine": (step("Acos", "x"),),
}


@pytest.mark.parametrize("in_nodes", [False, True], ids=["initializers", "nodes"])
@pytest.mark.parametrize("name", NEVER)
def test_what_cannot_make_nan_is_not_watched(name: str, in_nodes: bool) -> None:
    content = model(*NEVER[name], in_nodes=in_nodes).SerializeToString()
    assert watch_nan(content) == (content, [])


@pytest.mark.parametrize("name", SOMETIMES)
def test_what_can_make_nan_gets_an_output_that_says_so(name: str) -> None:
    """ONNX Runtime, which does not hide NaN, computes the added outputs."""
    onnxruntime = pytest.importorskip("onnxruntime")
    content, watched = watch_nan(model(*SOMETIMES[name]).SerializeToString())
    assert watched == ["y"]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for value in (-2.5, 0.5, 2.5):
        x = np.full((1, 4, 2, 2), value, np.float32)
        if name == "a root of a difference":
            x[0, 0] = 3.0
        scores, flag = session.run(None, {"x": x})
        assert flag.shape == ()
        assert (flag > 0) == np.isnan(scores).any()


def test_sizes_are_not_watched() -> None:
    steps = (step("Shape", "x", "s"), step("Cast", "s", "f", to=FLOAT), step("Div", "f 2", "h"), step("Log", "h", "l"))
    made = model(*steps, step("ReduceMax", "l", "k", keepdims=0), step("Add", "x k"))
    assert watch_nan(made.SerializeToString())[1] == []


@pytest.mark.parametrize("in_nodes", [False, True], ids=["initializers", "nodes"])
def test_a_constant_may_be_the_one_that_is_negative(in_nodes: bool) -> None:
    steps = (step("Sqrt", "-4", "c"), step("Sqrt", "4", "d"), step("Add", "c d", "e"), step("Add", "x e"))
    assert watch_nan(model(*steps, in_nodes=in_nodes).SerializeToString())[1] == ["c"]


def test_old_opsets_have_no_operator_for_it() -> None:
    content = model(step("Log", "x"), opset=8).SerializeToString()
    assert watch_nan(content) == (content, [])


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", SOMETIMES)
def test_openvino_refuses_scores_computed_from_nan(name: str, batch: int, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from googlenet_deploy.device.runner.openvino_runner import OpenVinoRunner

    onnx.save(model(*SOMETIMES[name]), tmp_path / "m.onnx")
    bad = np.full((1, 4, 2, 2), -3.0, np.float32)
    good = np.full((3, 4, 2, 2), 0.75, np.float32)
    if name == "a root of a difference":
        good += 1
    with OpenVinoRunner(tmp_path / "m.onnx", batch=batch) as runner:
        if name != "a quotient":
            assert list(runner.run(good)) == ["scores"]
        with pytest.raises(BadModelError, match=r"m\.onnx: tensor 'y' is not a number for some image"):
            runner.run(np.concatenate([good, bad]))
