"""Running a model with any of its tensors as outputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from googlenet_deploy.errors import BadModelError
from googlenet_deploy.graph.session import TensorSession, require_independent_images

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


def across(kind: str, batch: int | str = "N", type_: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A network of one convolution, with something that computes across the batch."""
    random = np.random.default_rng(0)
    before = {
        "largest": [("ReduceMax", ["x"], ["m"], {"keepdims": 1}), ("Div", ["x", "m"], ["given"], {})],
        "smallest": [("ReduceMin", ["x"], ["m"], {"keepdims": 1}), ("Sub", ["x", "m"], ["given"], {})],
        "mean": [("ReduceMean", ["x"], ["m"], {"axes": [0, 2, 3]}), ("Sub", ["x", "m"], ["given"], {})],
    }.get(kind, [("Identity", ["x"], ["given"], {})])
    after = ("Softmax", ["pooled"], ["y"], {"axis": 0 if kind == "softmax" else 1})
    middle = [
        ("Conv", ["given", "w"], ["c"], {}),
        ("GlobalAveragePool", ["c"], ["g"], {}),
        ("Flatten", ["g"], ["pooled"], {}),
    ]
    first = [("Cast", ["image"], ["x"], {"to": TensorProto.FLOAT})]
    nodes = [helper.make_node(op, a, b, **more) for op, a, b, more in (*first, *before, *middle, after)]
    weights = onnx.numpy_helper.from_array(random.normal(size=(6, 3, 3, 3)).astype(np.float32), "w")
    image = helper.make_tensor_value_info("image", type_, [batch, 3, 16, 16])
    scores = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 6])
    graph = helper.make_graph(nodes, "across", [image], [scores], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def drawn(count: int, type_: int = TensorProto.FLOAT) -> np.ndarray:
    pixels = np.random.default_rng(1).integers(60, 200, (count, 3, 16, 16), np.uint8)
    return pixels if type_ == TensorProto.UINT8 else pixels.astype(np.float32) / 255


@pytest.mark.parametrize("type_", [TensorProto.FLOAT, TensorProto.UINT8])
@pytest.mark.parametrize("batch", ["N", 3])
@pytest.mark.parametrize("kind", ["largest", "smallest", "mean", "softmax", "nothing"])
def test_images_that_change_each_others_scores_are_noticed(kind: str, batch: int | str, type_: int) -> None:
    session = TensorSession(across(kind, batch, type_), ["pooled", "y"], path="some.onnx")
    images = drawn(3, type_)
    values = session.run(images)
    if kind == "nothing":
        require_independent_images(session, images, values)
        return
    with pytest.raises(BadModelError, match=r"some\.onnx: .*depends on the other images") as caught:
        require_independent_images(session, images, values)
    assert "batch of 1" in str(caught.value.remedy)


def test_one_image_has_no_others() -> None:
    session = TensorSession(across("largest"))
    require_independent_images(session, drawn(1), session.run(drawn(1)))


def test_an_axis_that_has_the_length_of_the_batch_by_coincidence_is_not_taken_for_it() -> None:
    """As with a transformer's tokens: (tokens, N, channels)."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"], axis=2),
        helper.make_node("Reshape", ["f", "shape"], ["parts"]),
        helper.make_node("Transpose", ["parts"], ["tokens"], perm=[1, 0, 2]),
    ]
    shape = onnx.numpy_helper.from_array(np.array([-1, 2, 24], np.int64), "shape")
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4, 4])
    made = helper.make_tensor_value_info("tokens", TensorProto.FLOAT, [2, "N", 24])
    model = helper.make_model(
        helper.make_graph(nodes, "tokens", [given], [made], [shape]),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    session, images = TensorSession(model), np.random.default_rng(0).random((2, 3, 4, 4), np.float32)
    require_independent_images(session, images, session.run(images))
