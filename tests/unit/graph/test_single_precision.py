from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from googlenet_deploy.errors import BadModelError, VerificationError
from googlenet_deploy.graph.files import load_classifier
from googlenet_deploy.graph.graph import serialize
from googlenet_deploy.graph.single_precision import to_single_precision

DOUBLE = TensorProto.DOUBLE


def double_classifier(weight: Any, kind: int = TensorProto.UINT8) -> Any:
    """Images of 4x4 to scores: the mean of each channel, times a float64 weight."""
    nodes = [
        helper.make_node("Cast", ["x"], ["d"], "cast", to=DOUBLE),
        helper.make_node("GlobalAveragePool", ["d"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("Constant", [], ["one"], "one", value=numpy_helper.from_array(np.array([1.0]))),
        helper.make_node("Mul", ["f", "one"], ["m"], "times"),
        helper.make_node("Gemm", ["m", "w"], ["y"], "gemm"),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("y", DOUBLE, ["n", 2])],
        [numpy_helper.from_array(np.asarray(weight, np.float64), "w")],
        value_info=[helper.make_tensor_value_info("f", DOUBLE, ["n", 3])],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize("kind", [TensorProto.UINT8, DOUBLE])
def test_a_double_model_is_read_as_float32(tmp_path: Any, kind: int) -> None:
    weight = np.array([[1, 2], [3, 4], [5, 6.5]])
    path = tmp_path / "double.onnx"
    path.write_bytes(serialize(double_classifier(weight, kind)))
    notes: list[str] = []
    model = load_classifier(path, notes)
    assert notes == ["2 float64 constants and everything computed from them became float32"]
    onnx.checker.check_model(model, full_check=True)
    pixels = np.arange(48).reshape(1, 3, 4, 4).astype(np.uint8 if kind == TensorProto.UINT8 else np.float32)
    (scores,) = onnxruntime.InferenceSession(serialize(model)).run(None, {"x": pixels})
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, pixels.mean(axis=(2, 3)) @ weight, rtol=1e-6)


def test_weights_beyond_float32_are_refused(tmp_path: Any) -> None:
    model = double_classifier([[1, 2], [3, 1e300], [5, 6]])
    with pytest.raises(VerificationError, match="constant w is beyond"):
        to_single_precision(model)
    path = tmp_path / "huge.onnx"
    path.write_bytes(serialize(double_classifier([[1, 2], [3, 1e300], [5, 6]])))
    with pytest.raises(BadModelError, match="its constant w has a value of 1"):
        load_classifier(path)


def test_infinite_weights_stay_infinite_and_float_models_as_they_are(tiny_classifier: Any) -> None:
    model = double_classifier([[1, 2], [3, np.inf], [5, 6]])
    assert to_single_precision(model).startswith("2 float64 constants")
    assert np.isinf(numpy_helper.to_array(model.graph.initializer[0])).sum() == 1
    plain = tiny_classifier()
    assert to_single_precision(plain) == ""
    assert serialize(plain) == serialize(tiny_classifier())


def half_classifier(weight: Any) -> Any:
    """Images of 4x4 to scores in float16 from the input to the output."""
    half = TensorProto.FLOAT16
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "w"], ["y"], "gemm"),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", half, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("y", half, ["n", 2])],
        [numpy_helper.from_array(np.asarray(weight, np.float16), "w")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_a_model_in_float16_from_its_input_on_is_read_as_float32(tmp_path: Any) -> None:
    path, weight = tmp_path / "half.onnx", np.array([[1, 2], [3, 4], [5, 6.1]])
    path.write_bytes(serialize(half_classifier(weight)))
    notes: list[str] = []
    model = load_classifier(path, notes)
    assert notes == ["1 float16 constants and everything computed from them became float32"]
    pixels = np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)
    (scores,) = onnxruntime.InferenceSession(serialize(model)).run(None, {"x": pixels})
    wanted = pixels.mean(axis=(2, 3)) @ weight.astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(scores, wanted, rtol=1e-6)


def test_float16_inside_a_float32_model_stays(tmp_path: Any) -> None:
    model = half_classifier([[1, 2], [3, 4], [5, 6]])
    model.graph.node.insert(0, helper.make_node("Cast", ["image"], ["x"], "cast", to=TensorProto.FLOAT16))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 4, 4]))
    before = serialize(model)
    assert to_single_precision(model) == ""
    assert serialize(model) == before
