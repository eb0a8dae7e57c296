"""Running a model with any of its tensors as outputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from googlenet_deploy.calibration.images import ArrayBatches
from googlenet_deploy.errors import BadModelError
from googlenet_deploy.graph.session import TensorSession, run_batches

Mini = Callable[..., onnx.ModelProto]


def test_any_tensor_is_handed_out_and_the_model_stays_as_it_was(mini: Mini, pictures: Callable) -> None:
    model = mini()
    before = model.SerializeToString()
    session = TensorSession(model, ["input", "conv1/conv", "conv1", "logits"])
    values = session.run(pictures(3))
    assert list(values) == ["conv1/conv", "conv1", "logits", "input"]
    assert np.array_equal(values["input"], pictures(3))
    assert np.array_equal(np.maximum(values["conv1/conv"], 0), values["conv1"])
    assert model.SerializeToString() == before


def test_the_models_own_outputs_are_the_default(mini: Mini, pictures: Callable) -> None:
    assert list(TensorSession(mini()).run(pictures(1))) == ["logits"]


def test_the_input_alone_costs_no_run(mini: Mini, pictures: Callable) -> None:
    assert list(TensorSession(mini(), ["input"]).run(pictures(1))) == ["input"]


def test_a_fixed_batch_takes_fewer_images(mini: Mini, pictures: Callable) -> None:
    fixed, free = TensorSession(mini(batch=4), ["conv1", "logits"]), TensorSession(mini(), ["conv1", "logits"])
    assert (fixed.fixed_batch, free.fixed_batch) == (4, None)
    small, expected = fixed.run(pictures(3)), free.run(pictures(3))
    for name, value in expected.items():
        assert small[name].shape == value.shape
        assert np.allclose(small[name], value, rtol=1e-4, atol=1e-4)


def test_a_batch_that_does_not_fit_is_an_error_in_one_line(mini: Mini) -> None:
    session = TensorSession(mini(), path="some.onnx")
    with pytest.raises(BadModelError, match=r"some\.onnx: ONNX Runtime fails on a batch") as caught:
        session.run(np.zeros((1, 3, 4), np.float32))
    assert "\n" not in caught.value.message


def test_a_model_that_cannot_be_run_is_refused(mini: Mini) -> None:
    model = mini()
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(BadModelError, match="ONNX Runtime cannot run it"):
        TensorSession(model)


def test_an_unknown_tensor_is_refused(mini: Mini) -> None:
    with pytest.raises(BadModelError, match="ONNX Runtime cannot run it"):
        TensorSession(mini(), ["no such tensor"])


def test_a_model_of_two_inputs_is_refused() -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("a", "b", "c")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "two", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with pytest.raises(BadModelError, match="has 2 inputs"):
        TensorSession(model)


def test_batch_after_batch(mini: Mini, pictures: Callable) -> None:
    parts = list(run_batches(mini(), ArrayBatches(pictures(5), 2), ["logits"], threads=1))
    whole = TensorSession(mini()).run(pictures(5))["logits"]
    assert [len(part["logits"]) for part in parts] == [2, 2, 1]
    assert np.allclose(np.concatenate([part["logits"] for part in parts]), whole, rtol=1e-4, atol=1e-4)
