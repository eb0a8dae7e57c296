from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import small_model

from googlenet_deploy.device.onnx_model.strip_qdq import strip_quantization
from googlenet_deploy.errors import BadModelError

IMAGES = np.random.default_rng(1).uniform(-1, 1, (2, 3, 8, 8)).astype(np.float32)


def run(model: Any, name: str = "logits") -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([name], {session.get_inputs()[0].name: IMAGES})[0]


def strip(model: Any) -> tuple[Any, int]:
    content, removed = strip_quantization(model.SerializeToString(), "m.onnx")
    stripped = onnx.ModelProto.FromString(content)
    onnx.checker.check_model(stripped, full_check=True)
    return stripped, removed


def operators(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_what_is_left_is_the_float_model() -> None:
    stripped, removed = strip(small_model("qdq"))
    assert removed == 4
    assert operators(stripped) == ["Conv", "LRN", "Conv"]
    np.testing.assert_allclose(run(stripped), run(small_model()), atol=1e-6)
    assert [entry.key for entry in stripped.metadata_props] == [entry.key for entry in small_model().metadata_props]


def test_a_model_without_pairs_stays_what_it_is() -> None:
    stripped, removed = strip(small_model())
    assert removed == 0
    assert operators(stripped) == ["Conv", "LRN", "Conv"]
    np.testing.assert_array_equal(run(stripped), run(small_model()))


@pytest.mark.parametrize("axis", [0, 1, -4, None])
def test_stored_integers_become_what_dequantize_linear_makes_of_them(axis: int | None) -> None:
    model = small_model("qdq")
    graph = model.graph
    size = {0: 4, 1: 3, -4: 4, None: 3}[axis]
    codes = np.random.default_rng(2).integers(-128, 128, (4, 3, 3, 3)).astype(np.int8)
    constants = {
        "wq": codes,
        "ws": np.linspace(0.01, 0.03, size, dtype=np.float32),
        "wz": np.arange(size, dtype=np.int8),
    }
    for tensor in graph.initializer:
        if tensor.name in constants:
            tensor.CopyFrom(numpy_helper.from_array(constants.pop(tensor.name), tensor.name))
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    pair = [node for node in graph.node if node.name in ("wq", "wdq")]
    del pair[1].attribute[:]
    if axis is not None:
        pair[1].attribute.append(helper.make_attribute("axis", axis))
    graph.node.remove(pair[0])
    activation = [node for node in graph.node if node.name in ("q", "dq")]
    graph.node[[node.name for node in graph.node].index("conv1")].input[0] = "input"
    for node in activation:
        graph.node.remove(node)
    expected = run(model)
    stripped, removed = strip(model)
    assert removed == 1
    np.testing.assert_allclose(run(stripped), expected, rtol=1e-5, atol=1e-5)


def test_an_output_keeps_its_name() -> None:
    model = small_model()
    model.graph.node[-1].output[0] = "raw"
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.float32(0.05), "s"), numpy_helper.from_array(np.int8(0), "z")]
    )
    model.graph.node.extend(
        [
            helper.make_node("QuantizeLinear", ["raw", "s", "z"], ["codes"], "q"),
            helper.make_node("DequantizeLinear", ["codes", "s", "z"], ["logits"], "dq"),
        ]
    )
    stripped, removed = strip(model)
    assert removed == 2
    assert operators(stripped) == ["Conv", "LRN", "Conv", "Identity"]
    np.testing.assert_array_equal(run(stripped), run(small_model()))


def with_stored_codes(codes: onnx.TensorProto) -> onnx.ModelProto:
    model = small_model("qdq")
    next(tensor for tensor in model.graph.initializer if tensor.name == "w1").CopyFrom(codes)
    model.graph.node.remove(next(node for node in model.graph.node if node.name == "wq"))
    next(node for node in model.graph.node if node.name == "wdq").input[0] = "w1"
    return model


def test_codes_that_are_stored_as_numbers() -> None:
    codes = np.random.default_rng(2).integers(-128, 128, (4, 3, 3, 3))
    model = with_stored_codes(helper.make_tensor("w1", TensorProto.INT8, codes.shape, codes.ravel().tolist()))
    scale = numpy_helper.to_array(next(tensor for tensor in model.graph.initializer if tensor.name == "ws"))
    stripped, _ = strip(model)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in stripped.graph.initializer}
    weights = stored[next(node for node in stripped.graph.node if node.name == "conv1").input[1]]
    np.testing.assert_allclose(weights, codes * scale.reshape(-1, 1, 1, 1), rtol=1e-6)


def test_a_constant_that_is_stored_otherwise_is_refused() -> None:
    model = with_stored_codes(helper.make_tensor("w1", TensorProto.INT4, (4, 3, 3, 3), np.zeros(108, int).tolist()))
    with pytest.raises(BadModelError, match="quantised constant w1 is stored in an unusual way"):
        strip_quantization(model.SerializeToString(), "m.onnx")
