from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper

from googlenet_deploy.export.passes.fold_weight_quantization import FoldWeightQuantization
from googlenet_deploy.export.samples import Samples
from googlenet_deploy.export.verify import run
from googlenet_deploy.graph.shapes import restate_shapes

NO_IMAGE = Samples(np.zeros((1, 1, 1, 1), np.uint8), np.zeros((1, 1, 1, 1), np.float32), "none")


def quantized_weights(model_of: Any, weights: Any, scale: Any, zero: Any, **attributes: Any) -> Any:
    """Weights behind a Q/DQ pair, added to nothing."""
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"], "q", **attributes),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dq", **attributes),
        helper.make_node("Add", ["input", "d"], ["out"], "add"),
    ]
    image = ("input", TensorProto.FLOAT, ["batch", 1, 1, 1])
    constants = {"w": weights, "s": scale, "z": zero}
    model = model_of(nodes, [image], [("out", TensorProto.FLOAT, ["batch", *weights.shape[1:]])], constants)
    restate_shapes(model)
    return model


@given(
    weights=arrays(np.float32, (1, 3, 2, 2), elements=st.floats(-50, 50, width=32)),
    scales=arrays(np.float32, 3, elements=st.floats(0.0625, 1, width=32)),
    dtype=st.sampled_from([np.int8, np.uint8]),
)
def test_the_integers_are_those_that_onnx_runtime_computes(
    model_of: Any, weights: Any, scales: Any, dtype: Any
) -> None:
    model = quantized_weights(model_of, weights, scales, np.full(3, 5, dtype), axis=1)
    expected = run(model, NO_IMAGE)["out"]
    assert FoldWeightQuantization().run(model)
    assert [node.op_type for node in model.graph.node] == ["DequantizeLinear", "Add"]
    np.testing.assert_array_equal(run(model, NO_IMAGE)["out"], expected)


def test_halves_go_to_even_and_the_ends_saturate(model_of: Any) -> None:
    weights = np.float32([[[[0.5, 1.5, 2.5, 200.0, -200.0]]]])
    model = quantized_weights(model_of, weights, np.float32(1), np.int8(0))
    assert FoldWeightQuantization().run(model)
    stored = next(tensor for tensor in model.graph.initializer if tensor.name == "q")
    assert numpy_helper.to_array(stored).ravel().tolist() == [0, 2, 2, 127, -128]


@pytest.mark.parametrize("missing", ["zero point", "activation"])
def test_what_is_no_plain_weight_stays(model_of: Any, missing: str) -> None:
    model = quantized_weights(model_of, np.ones((1, 1, 2, 2), np.float32), np.float32(1), np.int8(0))
    if missing == "zero point":
        del model.graph.node[0].input[2]
    else:
        model.graph.node[0].input[0] = "input"
    assert not FoldWeightQuantization().run(model)
