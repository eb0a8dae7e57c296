"""The forms for CPUs compute what the model computes, and are what they are meant to be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from googlenet_deploy.device.cpu_graph.forms import onnxruntime_form, openvino_form
from googlenet_deploy.device.cpu_graph.lrn import decompose_lrn
from googlenet_deploy.device.cpu_graph.move_quantize import move_quantize
from googlenet_deploy.device.cpu_graph.weights import fold_weights
from googlenet_deploy.device.onnx_model.edit import EditableGraph

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

MakeNet = Callable[..., Path]


def run(model: bytes, outputs: list[str] | None = None, *, optimized: bool = False, seed: int = 1) -> list[Any]:
    """Outputs for four random images; without optimisations, so that every operator is computed as it stands."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(seed).normal(0, 1, (4, 3, 16, 16)).astype(np.float32)
    return list(session.run(outputs, {"x": images}))


def with_outputs(model: bytes, names: list[str]) -> bytes:
    loaded = onnx.load_from_string(model)
    loaded.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return bytes(loaded.SerializeToString())


def operators(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


def count(model: bytes, operator: str) -> int:
    return operators(model).count(operator)


@pytest.mark.parametrize("stored", [False, True])
def test_int8_convolutions_become_qlinearconv_and_answers_stay(make_net: MakeNet, stored: bool) -> None:
    model = make_net(quantized=True, stored=stored).read_bytes()
    form = onnxruntime_form(model)
    assert form is not None
    onnx.checker.check_model(onnx.load_from_string(form.model), full_check=True)
    # conv1 has a signed input; conv3's output goes to the average pool as floats.
    assert (count(form.model, "QLinearConv"), count(form.model, "Conv")) == (3, 2 + 1)
    assert form.changes == "3 convolutions as QLinearConv with unsigned activations; 1 LRN as elementary operators"
    (ours,), (theirs,) = run(form.model), run(model)
    scale = np.abs(theirs).max()
    assert np.abs(ours - theirs).max() < 0.02 * scale
    assert (ours.argmax(1) == theirs.argmax(1)).all()


@pytest.mark.parametrize("seed", range(4))
def test_codes_are_the_models_own(make_net: MakeNet, seed: int) -> None:
    """Behind every convolution the codes are the same, but for roundings that fall on the other side."""
    model = make_net(quantized=True, seed=seed).read_bytes()
    form = onnxruntime_form(model)
    assert form is not None
    for tensor in ("n/q", "b/q", "p/q"):
        (ours,) = run(with_outputs(form.model, [tensor]), [tensor])
        (theirs,) = run(with_outputs(model, [tensor]), [tensor])
        difference = np.abs(ours.astype(int) - theirs.astype(int))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.02
        assert theirs.max() > 60  # the range is used


def test_moving_quantize_changes_no_value_at_all(make_net: MakeNet) -> None:
    model = make_net(quantized=True).read_bytes()
    graph = EditableGraph(model)
    assert move_quantize(graph) == 2
    moved = graph.serialize()
    kinds = {node.outputs[0]: node.operator for node in graph.nodes}
    assert kinds["e/q"] == "Concat"
    assert kinds["p/q"] == "MaxPool"
    np.testing.assert_array_equal(run(moved)[0], run(model)[0])


def test_folded_weights_change_no_value_at_all(make_net: MakeNet) -> None:
    model = make_net(quantized=True).read_bytes()
    graph = EditableGraph(model)
    assert fold_weights(graph) == 6
    folded = graph.serialize()
    assert count(folded, "DequantizeLinear") == count(model, "DequantizeLinear") - 6
    np.testing.assert_array_equal(run(folded)[0], run(model)[0])


@settings(max_examples=15)
@given(
    st.sampled_from([1, 3, 5, 9]),
    st.floats(1e-5, 10),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.integers(1, 12),
    st.integers(0, 2**31),
)
def test_lrn_is_onnx_lrn_for_every_window_that_onnx_runtime_takes(
    size: int, alpha: float, bias: float, channels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"]),
        onnx.helper.make_node("LRN", ["c"], ["y"], size=size, alpha=alpha, beta=0.75, bias=bias),
    ]
    weights = onnx.numpy_helper.from_array(rng.normal(size=(channels, 3, 1, 1)).astype(np.float32), "w")
    image = onnx.helper.make_tensor_value_info("x", 1, [4, 3, 16, 16])
    output = onnx.helper.make_tensor_value_info("y", 1, [4, channels, 16, 16])
    graph = onnx.helper.make_graph(nodes, "g", [image], [output], [weights])
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    edited = EditableGraph(model)
    assert decompose_lrn(edited) == 1
    changed = edited.serialize()
    assert count(changed, "LRN") == 0
    np.testing.assert_allclose(run(changed)[0], run(model)[0], rtol=1e-4, atol=1e-6)


def test_lrn_with_another_beta_stays(make_net: MakeNet) -> None:
    model = onnx.load(str(make_net(quantized=False)))
    (lrn,) = [node for node in model.graph.node if node.op_type == "LRN"]
    next(item for item in lrn.attribute if item.name == "beta").f = 0.5
    assert onnxruntime_form(model.SerializeToString()) is None


def test_float_models_keep_their_convolutions(make_net: MakeNet) -> None:
    model = make_net(quantized=False).read_bytes()
    form = onnxruntime_form(model)
    assert form is not None
    assert form.changes == "1 LRN as elementary operators"
    np.testing.assert_allclose(run(form.model)[0], run(model)[0], rtol=1e-5, atol=1e-6)
    assert openvino_form(model) is None


def test_openvino_gets_unsigned_activations_of_the_same_values(make_net: MakeNet) -> None:
    model = make_net(quantized=True).read_bytes()
    form = openvino_form(model)
    assert form is not None
    assert form.changes == "12 Q/DQ with unsigned activations"
    onnx.checker.check_model(onnx.load_from_string(form.model), full_check=True)
    np.testing.assert_array_equal(run(form.model)[0], run(model)[0])


def test_forms_are_the_same_bytes_every_time(make_net: MakeNet) -> None:
    model = make_net(quantized=True).read_bytes()
    assert onnxruntime_form(model) == onnxruntime_form(model)
    assert openvino_form(model) == openvino_form(model)


def test_metadata_and_names_are_kept(make_net: MakeNet) -> None:
    model = onnx.load(str(make_net(quantized=True)))
    onnx.helper.set_model_props(model, {"key": "value"})
    form = onnxruntime_form(model.SerializeToString())
    assert form is not None
    changed = onnx.load_from_string(form.model)
    assert [(item.key, item.value) for item in changed.metadata_props] == [("key", "value")]
    assert changed.graph.input == model.graph.input
    assert changed.graph.output == model.graph.output


def test_a_tensor_that_is_read_as_float_too_keeps_its_convolution(make_net: MakeNet) -> None:
    model = with_outputs(make_net(quantized=True).read_bytes(), ["b", "e"])
    form = onnxruntime_form(model)
    assert form is not None
    assert count(form.model, "QLinearConv") == 0
    for ours, theirs in zip(run(form.model), run(model), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=0.05)


@pytest.mark.parametrize("change", ["opset", "external"])
def test_models_that_are_not_changed(make_net: MakeNet, change: str) -> None:
    model = onnx.load(str(make_net(quantized=True)))
    if change == "opset":
        model.opset_import[0].version = 11
    else:
        model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    assert onnxruntime_form(model.SerializeToString()) is None
    assert openvino_form(model.SerializeToString()) is None


@settings(max_examples=150)
@given(st.data())
def test_damaged_models_give_a_form_or_a_value_error(quantized_bytes: bytes, data: st.DataObject) -> None:
    content = bytearray(quantized_bytes)
    del content[data.draw(st.integers(0, len(content))) if data.draw(st.booleans()) else len(content) :]
    for _ in range(data.draw(st.integers(0, 4)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    for make in (onnxruntime_form, openvino_form):
        with contextlib.suppress(ValueError):
            make(bytes(content))
