"""Numbers with which engines disagree: models that hold them are refused, and sound ones pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_nets import build_net

from googlenet_deploy.cli.main import main
from googlenet_deploy.device.onnx_model.header import parse_onnx, read_model
from googlenet_deploy.errors import BadModelError


def one_node(
    operator: str, *constants: Any, dtype: str = "float32", weights: list[Any] | None = None, **attributes: Any
) -> onnx.ModelProto:
    """A model of a single operator; `weights` are nodes between the first constant and it."""
    names = [f"c{index}" for index in range(len(constants))]
    initializers = [
        numpy_helper.from_array(np.asarray(value, dtype), name) for name, value in zip(names, constants, strict=True)
    ]
    read = [weights[-1].output[0], *names[1:]] if weights else names
    node = helper.make_node(operator, ["x", *read], ["y"], name="layer", **attributes)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [*(weights or []), node],
        "graph",
        [helper.make_tensor_value_info("x", kind, (1, 2, 4, 4))],
        [helper.make_tensor_value_info("y", kind, None)],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def problem(model: onnx.ModelProto) -> str:
    with pytest.raises(BadModelError) as caught:
        parse_onnx(model.SerializeToString(), "bad.onnx")
    return caught.value.message


KERNEL = np.full((2, 2, 1, 1), 0.5)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e38, -1e20])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_and_biases_beyond_all_arithmetic(value: float, dtype: str) -> None:
    weights, bias = KERNEL.copy(), np.zeros(2)
    weights[1, 0] = value
    bias[1] = value
    assert "node layer: its constant c0 has a value of" in problem(one_node("Conv", weights, np.zeros(2), dtype=dtype))
    assert "node layer: its constant c1 has a value of" in problem(one_node("Conv", KERNEL, bias, dtype=dtype))
    assert "its constant c0" in problem(one_node("MatMul", np.diag([1, 1, 1, value]), dtype=dtype))
    assert "its constant c0" in problem(one_node("PRelu", np.full((2, 1, 1), value), dtype=dtype))


def test_an_infinite_float16_weight() -> None:
    assert "its constant c0 has a value of inf" in problem(one_node("Conv", KERNEL * np.inf, dtype="float16"))


@pytest.mark.parametrize("operator", ["Identity", "Transpose", "Cast"])
def test_weights_behind_nodes_that_only_move_them(operator: str) -> None:
    attributes = {"to": TensorProto.FLOAT} if operator == "Cast" else {}
    moved = helper.make_node(operator, ["c0"], ["moved"], **attributes)
    again = helper.make_node("Identity", ["moved"], ["w"])
    assert "its constant c0" in problem(one_node("Conv", KERNEL * 1e30, weights=[moved, again]))


def test_a_weight_in_a_constant_node_and_in_a_branch() -> None:
    tensor = numpy_helper.from_array(np.full((2, 2, 1, 1), 1e25, np.float32), "held")
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    assert "its constant held" in problem(one_node("Conv", KERNEL, weights=[constant]))
    inner = helper.make_node("Conv", ["x", "c0"], ["inner"], name="deep")
    branch = helper.make_graph([inner], "branch", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)])
    model = one_node("Identity", KERNEL * 1e25)
    model.graph.node[0].CopyFrom(
        helper.make_node("If", ["yes"], ["y"], name="choice", then_branch=branch, else_branch=branch)
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    assert "node deep: its constant c0" in problem(model)
    branch.output.append(branch.output[0])
    model.graph.node[0].CopyFrom(
        helper.make_node("If", ["yes"], ["y"], name="choice", then_branch=branch, else_branch=branch)
    )
    assert "_branch has 0 inputs and 2 outputs; 0 and 1 are right" in problem(model)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize(
    ("operator", "name"), [("LRN", "alpha"), ("LRN", "bias"), ("LeakyRelu", "alpha"), ("Elu", "alpha")]
)
def test_factors_in_attributes(operator: str, name: str, bad: float) -> None:
    attributes = {"size": 3, name: bad} if operator == "LRN" else {name: bad}
    assert problem(one_node(operator, **attributes)).endswith(f"node layer: its {name} is not a finite number")


def test_a_variance_without_a_square_root() -> None:
    constants = [np.ones(2), np.zeros(2), np.zeros(2)]
    bad = one_node("BatchNormalization", *constants, np.array([1.0, -0.5]))
    assert problem(bad).endswith("node layer: its variance c3 is negative")
    rounded = one_node("BatchNormalization", *constants, np.array([1.0, -1e-9]))  # epsilon is larger
    parse_onnx(rounded.SerializeToString(), "sound.onnx")


def test_infinities_and_limits_that_belong_to_a_model_pass() -> None:
    lowest = float(np.finfo(np.float32).min)
    for model in (
        one_node("Add", np.full((4, 4), -np.inf)),  # an attention mask
        one_node("Add", np.full((4, 4), lowest)),
        one_node("Clip", np.array(0.0), np.array(np.inf)),
        one_node("Conv", KERNEL * 1e12, np.zeros(2)),
        one_node("Conv", np.zeros((0, 2, 1, 1))),
    ):
        parse_onnx(model.SerializeToString(), "sound.onnx")


@pytest.mark.parametrize("value", [1e38, 1e20])
def test_scales_beyond_all_arithmetic(tmp_path: Path, value: float) -> None:
    model = onnx.load(str(build_net(tmp_path / "net.onnx", quantized=True)))
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "f/w/scale")
    values = numpy_helper.to_array(scale).copy()
    values[2] = value
    scale.CopyFrom(numpy_helper.from_array(values, scale.name))
    assert "its scale f/w/scale is 1.0e+" in problem(model)


def test_texts_in_external_data(tmp_path: Path) -> None:
    path = build_net(tmp_path / "net.onnx", quantized=False)
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = onnx.load(str(path), load_external_data=False)
    model.graph.initializer[0].data_type = TensorProto.STRING
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BadModelError, match="texts in external data"):
        read_model(path)
    with pytest.raises(BadModelError, match="texts in external data"):
        parse_onnx(path.read_bytes(), "bad.onnx")


@pytest.mark.parametrize("axis", [-5, -9, 4, 7])
def test_repair_of_a_scale_of_zero_on_an_axis_that_is_not_there(
    tmp_path: Path, axis: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = build_net(tmp_path / "net.onnx", quantized=True)
    model = onnx.load(str(path))
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "f/w/scale")
    scale.CopyFrom(numpy_helper.from_array(np.zeros(5, np.float32), scale.name))
    node = next(node for node in model.graph.node if node.output[0] == "f/w/dq")
    next(item for item in node.attribute if item.name == "axis").i = axis
    onnx.save(model, str(path))
    repaired = tmp_path / "repaired.onnx"
    assert main(["quantize", "--repair", str(path), "--output", str(repaired)]) == 1
    assert "f/w" in capsys.readouterr().err
    assert not repaired.exists()


@pytest.mark.parametrize(
    ("operator", "dtype"),
    [
        ("QuantizeLinear", "uint8"),
        ("QuantizeLinear", "int16"),
        ("DequantizeLinear", "float32"),
        ("DequantizeLinear", "int64"),
    ],
)
def test_pairs_on_constants_of_the_wrong_type(operator: str, dtype: str) -> None:
    values = [numpy_helper.from_array(np.zeros(4, dtype), "w"), numpy_helper.from_array(np.float32(0.5), "scale")]
    model = one_node("Identity")
    model.graph.node.append(helper.make_node(operator, ["w", "scale"], ["q"], name="weights"))
    model.graph.initializer.extend(values)
    assert f"its scale scale is for values of type {dtype}, which {operator} does not take" in problem(model)


def test_repair_with_a_zero_point_of_another_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = build_net(tmp_path / "net.onnx", quantized=True)
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        if tensor.name == "f/w/scale":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(5, np.float32), tensor.name))
        if tensor.name == "f/w/zero":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(3, np.int8), tensor.name))
    onnx.save(model, str(path))
    assert main(["quantize", "--repair", str(path), "--output", str(tmp_path / "repaired.onnx")]) == 1
    assert "net.onnx: cannot be repaired: f/w" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("passing", "reading"), [("Identity", "Conv"), ("QuantizeLinear", "DequantizeLinear"), ("Cast", "MatMul")]
)
def test_a_branch_that_calls_its_output_like_its_input_ends(passing: str, reading: str) -> None:
    """Such names send a search from node to node around for ever."""
    scale = ["scale"] if passing == "QuantizeLinear" else []
    attributes = {"to": TensorProto.FLOAT} if passing == "Cast" else {}
    read = ["w", *scale] if scale else ["x", "w"]
    nodes = [
        helper.make_node(passing, ["w", *scale], ["w"], **attributes),
        helper.make_node(reading, read, ["inner"], name="deep"),
    ]
    branch = helper.make_graph(nodes, "branch", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)])
    model = one_node("Identity", KERNEL)
    choice = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    model.graph.node[0].CopyFrom(helper.make_node("Relu", ["c0"], ["w"]))
    model.graph.node.append(choice)
    values = [numpy_helper.from_array(np.array(True), "yes"), numpy_helper.from_array(np.float32(0.5), "scale")]
    model.graph.initializer.extend(values)
    parse_onnx(model.SerializeToString(), "sound.onnx")
